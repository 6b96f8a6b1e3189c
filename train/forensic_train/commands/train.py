"""`genforensic train`: from labelled images to exported models."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from forensic_cli.console import note
from forensic_train.commands import Device, Processes, Workers, parse_settings, training_extra

# The names in forensic_train.techniques and .recipes, repeated because those import PyTorch and --help must not wait
Technique: TypeAlias = Literal["baseline", "weighted", "finetune", "adversarial", "discriminant", "all"]
Precision: TypeAlias = Literal["32", "bf16-mixed", "16-mixed"]
_RECIPES = ("native", "residual", "paper", "paper-augmented", "native-32")


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
            "ResNet-50 at 224 pixels, paper-augmented: the same on random crops; native-32: for images of 32 pixels.",
        ),
    ] = "native",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the run.")] = Path(
        "runs/train"
    ),
    origin: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Run with the trained baseline that finetune starts from."),
    ] = None,
    holdout: Annotated[
        list[str] | None,
        typer.Option(
            metavar="source=NAME|subject=NAME", help="Keep a whole source or subject unseen; can be repeated."
        ),
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
            help="Folder that keeps measurements of the images for other runs; default: the output folder.",
            show_default=False,
        ),
    ] = None,
    val: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=0.9,
            help="Share of the training images to keep for calibration; 0: train on all of them. Default: a tenth, or "
            "as the split column says.",
            show_default=False,
        ),
    ] = None,
    adapt: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of unseen images that finetune adapts to, drawn from all cells together. Default: four fifths "
            "of every cell, or as the split column says.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int,
        typer.Option(
            min=1, max=100, help="Draw the images that finetune adapts to this many times, and train it on each draw."
        ),
    ] = 1,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the images; default: the technique's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images in one update; default: the technique's.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the technique's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the technique, or TECHNIQUE.KEY=VALUE for one of several; can be repeated.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="All random numbers are derived from it.")] = 0,
    device: Annotated[
        Device,
        typer.Option(help="auto: the GPU where one works."),
    ] = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="32: float32, to the letter of the paper. bf16-mixed and 16-mixed: forward passes in 16 bits, faster "
            "on GPUs and some CPUs; 16-mixed, with a scaled loss, for GPUs without bfloat16. Default: 32.",
            show_default=False,
        ),
    ] = None,
    processes: Processes = 1,
    workers: Workers = 0,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Start from a file with torchvision's weights of the encoder (recipe paper); default: random weights.",
            show_default=False,
        ),
    ] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option(min=0, metavar="N", help="Most minutes between two checkpoints.")
    ] = 10.0,
    validate_every: Annotated[
        int, typer.Option(min=0, metavar="N", help="Validate after so many updates as well, not only after each epoch.")
    ] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint of the output.")] = False,
) -> None:
    """Train techniques on labelled images, and export them with a model card.

    Examples:

        genforensic train --technique all --data ./labelled --output runs/first

        genforensic train --technique adversarial --set stable=true --data ./labelled --output runs/stable

        genforensic train --technique baseline --data m.csv --holdout subject=vehicle --output runs/unseen

        genforensic train --technique discriminant --data ./labelled --calibrate runs/left-out --output runs/final

        genforensic train --technique finetune --from runs/unseen --output runs/tuned

    With several techniques, everything that is missing is reported before the first epoch. If one of them fails, the
    others are trained nevertheless, and the exit code is 4. The run folder gets the split, configuration, log,
    checkpoints, environment and exports/; with --draws, each further draw gets the same in draw-1/, draw-2/ and so on.
    """
    overrides = parse_settings(settings)
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("lr", lr), ("precision", precision)):
        if value is not None:
            overrides[name] = str(value)
    with training_extra("train"):
        from forensic_train.fit import FitOptions
        from forensic_train.processes import is_launched, launch
        from forensic_train.splits import SplitShares
        from forensic_train.training import train as train_techniques
        from forensic_train.training_plan import TrainOptions

        if processes > 1 and not is_launched():
            launch(processes, output / "processes")
            return
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
                calibrate=calibrate,
                fit=FitOptions(resume, workers, checkpoint_minutes, validate_every),
                weights=weights,
                signals=signals,
                shares=SplitShares(val=val, adapt_images=adapt),
                draws=draws,
            )
        )
    note(f"Done. Next: genforensic evaluate {output}; genforensic scan IMAGES --exports {exports}")
