"""`genforensic train`: from labelled images to exported models."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from forensic_cli.commands import parse_settings, training_extra
from forensic_cli.console import note
from forensic_train.commands import Device

# The names in forensic_train.techniques and .recipes, repeated because those import PyTorch and --help must not wait
Technique: TypeAlias = Literal["baseline", "weighted", "finetune", "adversarial", "discriminant", "all"]
_RECIPES = ("native", "residual", "paper", "native-32")


def _complete_recipe(incomplete: str) -> list[str]:
    return [name for name in _RECIPES if name.startswith(incomplete)]


def train(
    technique: Annotated[
        Technique,
        typer.Option("--technique", "-t", help="What to train."),
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR|CSV", help="`ROOT/<generator>/<subject>/...` or a manifest.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="|".join(_RECIPES),
            autocompletion=_complete_recipe,
            help="native: spectra of patches at native resolution; residual: a network on their residuals; paper: "
            "ResNet-50 at 224 pixels; native-32: for images of 32 pixels.",
        ),
    ] = "native",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.")] = Path(
        "runs/train"
    ),
    origin: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Run with the trained baseline that finetune needs."),
    ] = None,
    holdout: Annotated[
        list[str] | None,
        typer.Option(metavar="source=NAME|subject=NAME", help="Keep a whole source or subject unseen; repeat it."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Output of `evaluate --leave-out source`: calibrate on its scores, and train on every image.",
        ),
    ] = None,
    signals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder where what is measured of the images is kept for other runs; else the output folder.",
            show_default=False,
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=0.9,
            help="Share of the training images that is kept for calibration; 0: train on all of them. Else a tenth, "
            "or what a split column says.",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Unseen images that finetune adapts to, drawn from all of them alike; else four fifths of every cell, "
            "or what a split column says.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(min=1, max=100, help="Draw what finetune adapts to so many times, and train it on each draw."),
    ] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images; else the technique's.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images in one update; else the technique's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; else the technique's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the technique, or TECHNIQUE.KEY=VALUE for one of several; repeat it.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="All random numbers derive from it.")] = 0,
    device: Annotated[
        Device,
        typer.Option(help="auto: the GPU where one works."),
    ] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images; 0: none but this one.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint of the output.")] = False,
) -> None:
    """Train techniques on labelled images, and export them with a model card.

    Examples:

        genforensic train --technique all --data ./labelled --output runs/first

        genforensic train --technique adversarial --set stable=true --data ./labelled --output runs/stable

        genforensic train --technique baseline --data m.csv --holdout subject=vehicle --output runs/unseen

        genforensic train --technique discriminant --data ./labelled --calibrate runs/left-out --output runs/final

        genforensic train --technique finetune --from runs/unseen --output runs/tuned

    With several techniques, what any of them lacks is found before the first epoch; where one fails, the others are
    finished, and the exit code is 4. The run folder gets split, configuration, log, checkpoints, environment and
    exports/; with --draws, draw-1/ and so on get the same for each further draw.
    """
    overrides = parse_settings(settings)
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("lr", lr)):
        if value is not None:
            overrides[name] = str(value)
    with training_extra("train"):
        from forensic_train.manifest import SplitShares
        from forensic_train.training import TrainOptions
        from forensic_train.training import train as train_techniques

        exports = train_techniques(
            TrainOptions(
                technique=technique,
                data=data,
                output=output,
                recipe=recipe,
                seed=seed,
                device=device,
                origin=origin,
                holdout=tuple(holdout or ()),
                overrides=overrides,
                resume=resume,
                calibrate=calibrate,
                workers=workers,
                signals=signals,
                shares=SplitShares(val=val, adapt_images=adapt),
                draws=draws,
            )
        )
    note(f"Done. Next: genforensic evaluate {output}; genforensic scan IMAGES --exports {exports}")
