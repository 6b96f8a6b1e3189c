"""Turns the paths that a user gives into image files, in a stable order, without opening anything special."""

import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeAlias

from forensic_cli.errors import UsageError
from forensic_cli.images.decode import sniff

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".jp2", ".j2k"),
    )
)
"""Files with such a name get a row even when they turn out not to be images."""


class Listed(Enum):
    """Stands for the paths that standard input lists: no Path, for a file may be named `-`, too."""

    STDIN = "-"

    def __str__(self) -> str:
        return self.value


LISTED = Listed.STDIN
Source: TypeAlias = Path | Listed
"""What an argument of a scan names."""
_BLOCK = 1 << 16
"""Bytes that are read of a list at once."""
_PAUSE = 0.05
"""Seconds between two looks at a pipe that does not block."""


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not scanned."""

    path: Path
    """As found."""
    reason: str
    """One line."""


@dataclass(frozen=True)
class _Shut:
    """A folder that cannot be listed: becomes a row, so that an analyst sees that something was not searched."""

    folder: Path


@dataclass(frozen=True)
class Search:
    """What is looked for in folders; a file that the user names is always taken.

    Raises UsageError for a glob that cannot match anything.
    """

    recursive: bool = True
    """Look into folders within folders."""
    include: tuple[str, ...] = ()
    """Globs that a file's name, or the end of its path, must match one of; none: every file."""
    exclude: tuple[str, ...] = ()
    """Globs of files that are left out, and of folders that are not entered."""

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {"recursive": self.recursive, "include": list(self.include), "exclude": list(self.exclude)}

    def __post_init__(self) -> None:
        for glob in (*self.include, *self.exclude):
            if not PurePath(glob).parts:
                raise UsageError(f"{glob!r} is not a glob; give one such as '*.png', in quotes")


def sources(arguments: Sequence[str]) -> list[Source]:
    """Return what arguments name, each once; `-` is the list on standard input, `./-` a file.

    Raises UsageError for the first path that does not exist.
    """
    if not all(arguments):  # Path("") is the working folder
        raise UsageError("a path is empty, perhaps a variable that is not set; give existing images or folders")
    found = [LISTED if argument == "-" else Path(argument) for argument in arguments]
    for path in found:
        if path is LISTED and sys.stdin is None:
            raise UsageError("-: standard input is closed; pipe a list of paths into it, or name paths")
        if isinstance(path, Path):
            _check(path)
    unique: dict[str, Source] = {}
    for path in found:
        unique.setdefault(place_of(path) if isinstance(path, Path) else "", path)
    return list(unique.values())


def _check(path: Path) -> None:
    """Raise UsageError for a path that leads nowhere, or through a folder that may not be entered."""
    try:
        path.lstat()
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be reached ({error.strerror}); ask for access to its folder") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        raise UsageError(f"{path}: no such file or folder; give existing images or folders") from error


def discover(paths: Sequence[Source], search: Search = Search()) -> Iterator[Path | LeftOut]:
    """Yield image files, folder by folder in name order, and what was left out with its reason.

    A file named by the user is always yielded, on the command line or in the list that LISTED (`-`) stands for. In
    folders, files with an image suffix are yielded, others when their first bytes look like an image. What is named
    itself is not yielded a second time as a part of a folder. Links to folders are not followed (no loops); pipes,
    sockets and devices are never opened.
    """
    apart = frozenset(place_of(path) for path in paths if isinstance(path, Path)) if len(paths) > 1 else frozenset()
    for path in paths:
        for named in listed_paths(_standard_input()) if isinstance(path, Listed) else (path,):
            if _is_folder(named):
                yield from _walk(_listing(named, apart), search, apart)
            else:
                gone = not os.path.lexists(named) or _is_broken_link(named)
                yield named if gone or _is_regular(named) else LeftOut(named, "not a regular file")


def place_of(path: Path) -> str:
    """Return where a path lies: the same for two ways to write it. A link is a place of its own."""
    if path.name in ("", ".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  # as in _is_folder


def _standard_input() -> BinaryIO:
    """Return standard input without its buffer: a thread that waits inside one when Python ends is a fatal error."""
    stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return stream


def listed_paths(stream: BinaryIO) -> Iterator[Path]:
    """Yield the paths in an unbuffered stream as they come, one a line; NUL ends them where the first block has one."""
    rest = _next_block(stream)
    end = b"\0" if b"\0" in rest else b"\n"
    block = rest
    while block:
        *whole, rest = rest.split(end)
        yield from (Path(os.fsdecode(one)) for one in whole if one)
        block = _next_block(stream)
        rest += block
    if rest:
        yield Path(os.fsdecode(rest))


def _next_block(stream: BinaryIO) -> bytes:
    while (block := stream.read(_BLOCK)) is None:  # another program made the pipe non-blocking, and it is empty
        time.sleep(_PAUSE)
    return block


def _walk(paths: Iterator[Path | _Shut], search: Search, apart: Set[str] = frozenset()) -> Iterator[Path | LeftOut]:
    """Yield what is found at paths, and below those that are folders, however deep these lie."""
    levels = [paths]
    while levels:
        path = next(levels[-1], None)
        if path is None:
            levels.pop()
        elif isinstance(path, _Shut):
            yield path.folder
        elif (found := _entry(path, search)) is not None:
            yield found
        elif search.recursive:
            levels.append(_listing(path, apart))


def _listing(folder: Path, apart: Set[str]) -> Iterator[Path | _Shut]:
    """Yield what a folder holds, in name order; places in `apart` are left to others, without a word."""
    place = os.path.realpath(folder) if apart else ""
    try:
        with os.scandir(folder) as listing:
            names = _compact(entry.name for entry in listing)  # all that is kept of a folder of any size
    except OSError:
        yield _Shut(folder)
        return
    for name in names:
        if not apart or os.path.join(place, name) not in apart:  # noqa: PTH118  # as in _is_folder
            yield folder / name


def _compact(names: Iterable[str]) -> Iterator[str]:
    """Return names in order, out of one string: a list of a million would need four times the memory for hours."""
    joined = "\0".join(sorted(names))
    return (found.group() for found in re.finditer(r"[^\0]+", joined))


def _entry(path: Path, search: Search) -> Path | LeftOut | None:
    """Return what a path in a folder is; None for a folder."""
    if _matches(path, search.exclude):
        return LeftOut(path, "excluded")
    if _is_folder(path):
        return LeftOut(path, "a link to a folder") if _is_link(path) else None
    if _is_too_long(path):
        return path  # perhaps a folder; becomes a row, as one that cannot be listed
    if search.include and not _matches(path, search.include):
        return LeftOut(path, "not included")
    return _file(path)


def rediscover(folder: Path, inner: PurePath, search: Search) -> Iterator[Path]:
    """Yield the image files that a search of `folder` finds at or below `inner`, a path inside it, by now."""
    *between, _ = inner.parts
    path = folder
    for name in between:
        path /= name
        if not search.recursive or _is_link(path) or _matches(path, search.exclude):
            return
    yield from (found for found in _walk(iter([folder / inner]), search) if isinstance(found, Path))


def _matches(path: Path, globs: Sequence[str]) -> bool:
    return any(path.match(glob) for glob in globs)


def _file(path: Path) -> Path | LeftOut:
    if not _is_regular(path):
        return path if _is_broken_link(path) else LeftOut(path, "not a regular file")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError:
        return LeftOut(path, "not an image by its name, and cannot be opened")
    # "BM" alone is too weak a sign for a file with another name
    return path if sniff(head) not in (None, "BMP") else LeftOut(path, "not an image")


def _is_broken_link(path: Path) -> bool:
    """Tell whether a link leads nowhere: an analyst expects that file to be judged, so its row says `missing`."""
    return _is_link(path) and not os.path.exists(path)  # noqa: PTH110  # as in _is_folder


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114  # as in _is_folder


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _is_folder(path: Path) -> bool:
    # Path.is_dir() raises for a link to a name that is too long
    return os.path.isdir(path)  # noqa: PTH112


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return False
