"""`genforensic merge`: several techniques in one export file."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.console import note
from forensic_train.commands import training_extra


def merge(
    files: Annotated[list[Path], typer.Argument(help="Exports of one recipe, each with another technique.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Merge several techniques into one file, which stores and computes only once what they have in common.

    A scan with all of its techniques takes little longer than with one of them if they share their encoder
    (`finetune` has that of the baseline) or the first part of it. A scan with a single one computes the others as well.

    Example:

        genforensic merge runs/first/exports/*.onnx --output exports/first.onnx
    """
    with training_extra("merge"):
        from forensic_train.merge import merge_exports

        path = merge_exports(files, output, force)
    note(f"{len(files)} exports, {sum(f.stat().st_size for f in files)} bytes -> {path}, {path.stat().st_size} bytes")
