"""`genforensic export`: write the ONNX files of a trained run again."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.errors import UsageError
from forensic_train.commands import training_extra


def export(
    run: Annotated[Path, typer.Argument(help="Output folder of `genforensic train`.")],
    technique: Annotated[
        str, typer.Option("--technique", "-t", metavar="NAME|all", help="Export only this one.")
    ] = "all",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the exports; default: RUN/exports."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output of `evaluate --leave-out source`: calibrate on its scores."),
    ] = None,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8", help="8-bit weights and activations: two to four times as fast on a CPU, a quarter of the size."
        ),
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="16-bit floats, for GPUs; half the size.")] = False,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also measure re-encoded test images for the card.")
    ] = False,
) -> None:
    """Export every technique of a run, with parity check, calibration, evaluation and model card.

    `train` does this by itself. Use it after an update of genforensic, to write to another folder, or for a reduced
    precision. That is compared with float32 and refused if it loses more than half a point of accuracy and the loss
    is more than chance (exact McNemar test). If one technique is refused, the others are exported nevertheless, and
    the exit code is 4.

    Examples:

        genforensic export runs/first --output exports

        genforensic export runs/first --int8
    """
    if int8 and fp16:
        raise UsageError("--int8 and --fp16 cannot be combined; export twice, to two --output folders")
    with training_extra("export"):
        from forensic_train.crossfit.scores import check_folder
        from forensic_train.run import trained_techniques
        from forensic_train.run_export import export_run
        from forensic_train.training import go_on

        precision = "int8" if int8 else "fp16" if fp16 else "fp32"
        if calibrate is not None:
            check_folder(calibrate)
        export_one = partial(export_run, run, target=output, robust=robustness, scores=calibrate, precision=precision)
        trained = trained_techniques(run)
        if technique not in ("all", *trained):
            raise UsageError(f"--technique {technique!r} was not trained in {run}; allowed: {', '.join(trained)}, all")
        go_on({name: partial(export_one, name) for name in trained if technique in ("all", name)})
