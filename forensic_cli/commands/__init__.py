"""The commands, one file each, which parse options, call one function and print its result; and what they share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from forensic_cli.errors import UsageError, pip_line
from forensic_cli.record import printable

# Options that several commands share
Exports = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder of .onnx exports. Default: $GENFORENSIC_EXPORTS, else those that ship with genforensic.",
    ),
]
Root = Annotated[
    Path, typer.Option(metavar="DIR", help="Folder that relative paths in the results start from.", show_default=False)
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where models run; auto is the GPU if one works.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress bar.")]

COMMAND_LINE = "genforensic.command_line"
"""Key of the user's command line in the context's `meta`."""
TRAINING_MODULES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "matplotlib",
    "lightning_fabric",
    "forensic_train",
)
"""What the extra `train` installs, and the training package itself."""


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """Return the user's command line as words that any output can print."""
    return tuple(printable(word) for word in ctx.meta.get(COMMAND_LINE, ()))


def on_command_line(ctx: typer.Context, parameter: str) -> bool:
    """Tell whether a parameter was given on the command line, not by the environment or a file."""
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


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
