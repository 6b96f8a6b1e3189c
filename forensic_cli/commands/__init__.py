"""The commands, one file each: parse, call one function, render."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import typer

from forensic_cli.errors import UsageError
from forensic_cli.extras import pip_line
from forensic_cli.results import printable

T = TypeVar("T", str, str | None)

DEVICES = ("auto", "cpu", "cuda")
"""What --device takes; auto is the GPU where one works."""
COMMAND_LINE = "genforensic.command_line"
"""Key in the context's `meta` of the words that the command was given."""
_TRAINING_PACKAGES = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "matplotlib",
    "forensic_train",
)


def one_of(allowed: Collection[str]) -> Callable[[T], T]:
    """Return a Typer callback that accepts one of the allowed names, or none, and names them all otherwise."""

    def check(value: T) -> T:
        if value is not None and value not in allowed:
            raise typer.BadParameter(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    return check


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """Return the words that the user typed, as text that every output can carry."""
    return tuple(printable(word) for word in ctx.meta.get(COMMAND_LINE, ()))


def parse_settings(entries: Sequence[str] | None) -> dict[str, str]:
    """Return --set KEY=VALUE entries as a dict. Raises UsageError for an entry that is not one."""
    pairs = {}
    for entry in entries or ():
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise UsageError(f"--set {entry!r} is not understood; write KEY=VALUE, such as --set stable=true")
        pairs[name] = value
    return pairs


@contextmanager
def training_extra(command: str) -> Iterator[None]:
    """Turn a missing training package into one line that says what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _TRAINING_PACKAGES:
            raise
        raise UsageError(
            f"`genforensic {command}` needs {package}, which is not installed; run: {pip_line('train')}"
        ) from error
