"""`genforensic merge`: several techniques in one export file."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import training_extra
from forensic_cli.console import note


def merge(
    files: Annotated[list[Path], typer.Argument(help="Exports of one recipe, each of another technique.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The .onnx file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Put several techniques into one file, which stores and computes once what they share.

    A scan with all techniques of the file then costs little more than one where they share their encoder
    (`finetune` has the baseline's) or its beginning. A scan with one of them computes the others, too.

    Example:

        genforensic merge runs/first/exports/*.onnx --output exports/first.onnx
    """
    with training_extra("merge"):
        from forensic_train.merge import merge_exports

        path = merge_exports(files, output, force)
    note(f"{len(files)} exports, {sum(f.stat().st_size for f in files)} bytes -> {path}, {path.stat().st_size} bytes")
