"""The commands, one file each: parse, call one function, render."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from forensic_cli.errors import GenforensicError, UsageError, pip_line
from forensic_cli.record import printable

if TYPE_CHECKING:
    from forensic_cli.card import ModelCard

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


def completing(names: Collection[str]) -> Callable[[str], list[str]]:
    """Return a completion that offers a shell the names that begin as what was typed."""

    def offer(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return offer


def completing_cards(
    names_in: Callable[["ModelCard"], Iterable[str]], *more: str
) -> Callable[[typer.Context, str], list[str]]:
    """Return a completion that offers what is named in the cards of the exports that are looked at, and `more`."""

    def offer(ctx: typer.Context, incomplete: str) -> list[str]:
        from forensic_cli.exports import Export, export_files

        names: list[str] = []
        with suppress(GenforensicError):
            for file in export_files(Path(ctx.params["exports"]) if ctx.params.get("exports") else None):
                with suppress(GenforensicError):  # a file that is no export
                    names += [name for export in Export.peek(file) for name in names_in(export.card)]
        return completing(dict.fromkeys([*names, *more]))(incomplete)

    return offer


def command_line(ctx: typer.Context) -> tuple[str, ...]:
    """Return the words that the user typed, as text that every output can carry."""
    return tuple(printable(word) for word in ctx.meta.get(COMMAND_LINE, ()))


def on_command_line(ctx: typer.Context, parameter: str) -> bool:
    """Tell whether a parameter was given there, and not by the environment or a file."""
    source = ctx.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


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
