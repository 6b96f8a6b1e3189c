"""Messages and progress for people: everything that is not a result goes to standard error through here."""

import contextlib
import ctypes
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from forensic_cli.errors import OutputError

if TYPE_CHECKING:
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


class Output:
    """Appends whole chunks of text or bytes, each flushed. On a full disk the file ends with the last whole chunk."""

    def __init__(self, path: Path | None, force: bool = False, keep: int = 0, unfinished: str = "") -> None:
        """Open `path` for writing, or standard output for None; go on behind its first `keep` bytes.

        `unfinished` says what the chunks before one that cannot be written are worth. Raises OutputError; never
        overwrites unasked.
        """
        self._path = path
        self._unfinished = unfinished
        self._good = keep
        self._descriptor: int | None = None
        if path is None:
            return
        kind = 0 if keep or force else os.O_EXCL
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | kind, 0o644)
            _lock(self._descriptor, path)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a device has no length
                os.ftruncate(self._descriptor, keep)
                os.lseek(self._descriptor, keep, os.SEEK_SET)
        except FileExistsError as error:
            raise already_there(path) from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error

    @property
    def is_terminal(self) -> bool:
        """Tell whether a person reads along."""
        return self._descriptor is None and sys.stdout is not None and sys.stdout.isatty()

    def write(self, chunk: str | bytes) -> None:
        """Append one chunk. Raises OutputError when it cannot be written whole, BrokenPipeError when nobody reads."""
        if not chunk:
            return
        if self._descriptor is None:
            self._write_stdout(chunk)
            return
        data = chunk if isinstance(chunk, bytes) else chunk.encode("utf-8", "backslashreplace")
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # a device has no length
                os.ftruncate(self._descriptor, self._good)
            worth = f"; {self._unfinished}" if self._unfinished else ""
            raise OutputError(f"{self._path}: cannot be written any further ({error.strerror}){worth}") from error
        self._good += len(data)

    def _write_stdout(self, chunk: str | bytes) -> None:
        if sys.stdout is None:
            raise OutputError(CLOSED)
        if isinstance(chunk, bytes) and self.is_terminal:
            raise OutputError("a terminal cannot show this format; name a file with --output, or pipe it")
        try:
            if isinstance(chunk, bytes):
                sys.stdout.buffer.write(chunk)
            else:
                encoding = sys.stdout.encoding or "utf-8"
                sys.stdout.write(chunk.encode(encoding, "backslashreplace").decode(encoding))
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written any further ({error.strerror})") from error

    def __enter__(self) -> "Output":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def print_text(text: str) -> None:
    """Print text and a newline; characters that standard output cannot carry become escapes."""
    with Output(None) as out:
        out.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print a JSON document, in ASCII where standard output cannot carry its characters: their escapes are JSON's."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print_text(text)


def already_there(path: Path) -> OutputError:
    """Return what to raise for a file that is not to be overwritten unasked."""
    return OutputError(f"{path}: exists already; choose another name, or overwrite it with --force")


def _lock(descriptor: int, path: Path) -> None:
    """Keep other scans from writing the same file, where the system can. Raises OutputError where one does."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path}: another scan is writing it; wait for its end, or choose another --output"
        ) from error
    except OSError:  # some network file systems have no locks
        return
