"""Everything that commands print: results on standard output or in a file, all other messages on standard error."""

import contextlib
import ctypes
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forensic_cli.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

T = TypeVar("T")

_CLOSED = "standard output is closed, so there is nowhere to write the results"


def _stderr_console() -> "Console":
    """Return a console on standard error that prints text as it is."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout_console() -> "Console":
    """Return a console for tables of results, 120 columns wide in a pipe or a file.

    Raises OutputError if standard output is closed.
    """
    from rich.console import Console

    if sys.stdout is None:
        raise OutputError(_CLOSED)
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=120)


def wants_colour() -> bool:
    """Tell whether standard output is a terminal with colours and NO_COLOR (no-color.org) is not set."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout is not None and sys.stdout.isatty()


def note(message: str, style: str = "") -> None:
    """Print one line on standard error."""
    from rich.text import Text

    _stderr_console().print(Text(message, style=style))


def silence_c_libraries() -> None:
    """Discard what C code prints to its `stderr`, if the C library is glibc.

    libpng and libtiff print warnings there, without the name of the file, and OpenCV offers no way to turn them off.
    Output from Python and C++ (ONNX Runtime, for example) does not go through this `FILE` and still appears.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # no confstr, or another C library
        if os.confstr("CS_GNU_LIBC_VERSION"):  # in other C libraries the variable may be read-only memory
            libc = ctypes.CDLL(None)
            libc.fopen.restype = ctypes.c_void_p
            if null := libc.fopen(os.devnull.encode(), b"w"):
                ctypes.c_void_p.in_dll(libc, "stderr").value = null


def progress_bar(disable: bool = False, guesses: bool = True) -> "Progress":
    """Return a progress bar on standard error that disappears when done, and is shown on a terminal only.

    `guesses`: show the remaining time, estimated from the speed of the last 30 seconds.
    """
    from rich import progress

    console = _stderr_console()
    return progress.Progress(
        *(progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn()),
        *(progress.TimeElapsedColumn(), *([progress.TimeRemainingColumn()] if guesses else [])),
        progress.TextColumn("{task.fields[info]}"),
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
    """Appends chunks of text or bytes. If the disk is full, the file ends with the last complete chunk."""

    def __init__(self, path: Path | None, force: bool = False, keep: int = 0, unfinished: str = "") -> None:
        """Open `path`, or standard output for None; `keep`: continue after this many bytes of an existing file.

        `unfinished` says in the error message what an incomplete output is worth. Raises OutputError, also if the file
        exists and neither `force` nor `keep` is given.
        """
        self._path = path
        self._unfinished = unfinished
        self._complete = keep
        self._descriptor: int | None = None
        if path is None:
            return
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (0 if keep or force else os.O_EXCL), 0o644)
            _lock(self._descriptor, path)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):  # a device cannot be truncated
                os.ftruncate(self._descriptor, keep)
                os.lseek(self._descriptor, keep, os.SEEK_SET)
        except FileExistsError as error:
            raise already_there(path) from error
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror})") from error

    @property
    def is_terminal(self) -> bool:
        """Whether the output appears on a terminal."""
        return self._descriptor is None and sys.stdout is not None and sys.stdout.isatty()

    def write(self, chunk: str | bytes) -> None:
        """Append one chunk. Raises OutputError if it cannot be written completely, BrokenPipeError if nobody reads."""
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
            with contextlib.suppress(OSError):  # a device cannot be truncated
                os.ftruncate(self._descriptor, self._complete)
            worth = f"; {self._unfinished}" if self._unfinished else ""
            raise OutputError(f"{self._path}: cannot be written any further ({error.strerror}){worth}") from error
        self._complete += len(data)

    def _write_stdout(self, chunk: str | bytes) -> None:
        if sys.stdout is None:
            raise OutputError(_CLOSED)
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

    def __exit__(self, *exception: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def print_text(text: str) -> None:
    """Print text and a newline; characters that standard output cannot encode become escapes."""
    Output(None).write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print a JSON document, in ASCII unless standard output is in UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print_text(json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf"), indent=2))


def already_there(path: Path) -> OutputError:
    """Return the error for a file that exists and would be overwritten without --force."""
    return OutputError(f"{path}: already exists; choose another name, or overwrite it with --force")


def _lock(descriptor: int, path: Path) -> None:
    """Keep other scans from writing the same file, if the system has locks. Raises OutputError if one already does."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"{path}: another scan is writing it; wait until it has ended, or choose another --output"
        ) from error
    except (ImportError, OSError):  # Windows, and some network file systems
        return
