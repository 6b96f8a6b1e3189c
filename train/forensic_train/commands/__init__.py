"""The commands around training: parse, call one function, render.

`genforensic --help` lists them, so nothing heavy (torch, NumPy, OpenCV) is imported before a command runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal, TypeAlias

import typer

from forensic_cli.commands import TRAINING_MODULES
from forensic_cli.errors import UsageError, pip_line

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
"""What --device takes; auto is the GPU where one works."""
Processes: TypeAlias = Annotated[
    int,
    typer.Option(
        min=1, max=64, help="Processes that train together, one per GPU or on the CPU; torchrun works as well."
    ),
]
Workers: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Processes that load images, for each that trains; 0: it loads them itself.")
]


def parse_settings(entries: Sequence[str] | None) -> dict[str, str]:
    """Return --set KEY=VALUE entries as a dict. Raises UsageError for an entry of any other form."""
    pairs = {}
    for entry in entries or ():
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {entry!r} is not understood; write KEY=VALUE, such as --set stable=true")
        pairs[name] = value
    return pairs


@contextmanager
def training_extra(command: str) -> Iterator[None]:
    """Turn a missing training package into a UsageError that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in TRAINING_MODULES:
            raise
        raise UsageError(
            f"`genforensic {command}` needs {package}, which is not installed; run: {pip_line('train')}"
        ) from error
