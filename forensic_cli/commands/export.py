"""`genforensic export`: write a trained run's ONNX files again."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import training_extra


def export(
    run: Annotated[Path, typer.Argument(help="Output folder of `genforensic train`.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for the exports; else RUN/exports."),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure the test images' re-encodings, too, for the card.")
    ] = False,
) -> None:
    """Export every technique of a run: parity check, calibration, evaluation, model card.

    `train` does this by itself; use it after a change of genforensic's version, or to write elsewhere.

    Example:

        genforensic export runs/first --output exports
    """
    with training_extra("export"):
        from forensic_train.run import trained_techniques
        from forensic_train.training import export_run

        for technique in trained_techniques(run):
            export_run(run, technique, output, robustness)
