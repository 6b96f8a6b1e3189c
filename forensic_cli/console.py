"""Messages and progress for people: everything that is not a result goes to standard error through here."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from forensic_cli.errors import OutputError

if TYPE_CHECKING:  # rich is imported where it is used, so that --help answers at once
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

CLOSED = "standard output is closed, and the results have no other place to go to"
"""What an OutputError says of it."""


def stderr_console() -> "Console":
    """Return a console on standard error that prints text as it is."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout_console() -> "Console":
    """Return a console for tables of results; into a pipe or a file it writes 120 columns.

    Raises OutputError where standard output is closed.
    """
    from rich.console import Console

    if sys.stdout is None:
        raise OutputError(CLOSED)
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=120)


def wants_colour() -> bool:
    """Tell whether standard output is a terminal that shows colours, and nobody has set NO_COLOR (no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout is not None and sys.stdout.isatty()


def note(message: str, style: str = "") -> None:
    """Print one line for the user."""
    from rich.text import Text

    stderr_console().print(Text(message, style=style))


def silence_c_libraries() -> None:
    """Send what C code prints on its `stderr` nowhere, where the C library is glibc.

    libpng and libtiff print there what they think of a file, without its name, and nobody can tell them not to. What
    Python and C++ write, ONNX Runtime for one, takes another way and stays.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # systems without confstr, and other C libraries
        if os.confstr("CS_GNU_LIBC_VERSION"):  # elsewhere the variable may lie in memory that cannot be written
            libc = ctypes.CDLL(None)
            libc.fopen.restype = ctypes.c_void_p
            nowhere = libc.fopen(os.devnull.encode(), b"w")
            if nowhere:
                ctypes.c_void_p.in_dll(libc, "stderr").value = nowhere


def progress_bar(disable: bool = False, guesses: bool = True) -> "Progress":
    """Return a progress display on standard error that vanishes when done; none where nobody watches.

    `guesses`: it says by itself how long the rest takes, from the pace of the last half minute.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = stderr_console()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *([TimeRemainingColumn()] if guesses else []),
        TextColumn("{task.fields[info]}"),
        console=console,
        transient=True,
        disable=disable or not console.is_terminal,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def track(items: Iterable[T], description: str, total: int | None, quiet: bool = False) -> Iterator[T]:
    """Yield the items while a progress bar counts them."""
    with progress_bar(disable=quiet) as progress:
        task = progress.add_task(description, total=total, info="")
        for item in items:
            yield item
            progress.advance(task)
