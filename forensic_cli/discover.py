"""Turns the paths that a user gives into image files, in a stable order, without opening anything special."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from forensic_cli.errors import UsageError
from forensic_cli.preprocess import sniff

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".jp2", ".j2k"),
    )
)
"""Files with such a name get a row even when they turn out not to be images."""


LISTED = Path("-")
"""Stands for the paths that standard input lists."""
_BLOCK = 1 << 16
"""Bytes that are read of a list at once."""


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not scanned."""

    path: Path
    """As found."""
    reason: str
    """One line."""


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

    def __post_init__(self) -> None:
        for glob in (*self.include, *self.exclude):
            if not PurePath(glob).parts:
                raise UsageError(f"{glob!r} is not a glob; give one such as '*.png', in quotes")


def check_paths(paths: Sequence[Path]) -> None:
    """Raise UsageError for the first path that does not exist."""
    for path in paths:
        if path == LISTED and sys.stdin is None:
            raise UsageError("-: standard input is closed; pipe a list of paths into it, or name paths")
        if path != LISTED and not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder; give existing images or folders")


def discover(paths: Sequence[Path], search: Search = Search()) -> Iterator[Path | LeftOut]:
    """Yield image files, folder by folder in name order, and what was left out with its reason.

    A file named by the user is always yielded, on the command line or in the list that LISTED (`-`) stands for. In
    folders, files with an image suffix are yielded, others when their first bytes look like an image. Links to
    folders are not followed (no loops); pipes, sockets and devices are never opened.
    """
    for path in paths:
        for named in listed_paths(sys.stdin.buffer) if path == LISTED else (path,):
            if _is_folder(named):
                yield from _walk(named, search)
            else:
                gone = not os.path.lexists(named) or _is_broken_link(named)
                yield named if gone or _is_regular(named) else LeftOut(named, "not a regular file")


def listed_paths(stream: BinaryIO) -> Iterator[Path]:
    """Yield the paths in a stream of bytes as they come, one a line; NUL ends them where the first block has one."""
    rest = stream.read1(_BLOCK)  # type: ignore[attr-defined]  # every buffered stream has it
    end = b"\0" if b"\0" in rest else b"\n"
    block = rest
    while block:
        *whole, rest = rest.split(end)
        yield from (Path(os.fsdecode(one)) for one in whole if one)
        block = stream.read1(_BLOCK)  # type: ignore[attr-defined]
        rest += block
    if rest:
        yield Path(os.fsdecode(rest))


def _walk(folder: Path, search: Search) -> Iterator[Path | LeftOut]:
    try:
        with os.scandir(folder) as listing:
            names = sorted(entry.name for entry in listing)  # all that is kept of a folder of any size
    except OSError:
        yield folder  # becomes a row, so that an analyst sees that something was not searched
        return
    for name in names:
        path = folder / name
        if _matches(path, search.exclude):
            yield LeftOut(path, "excluded")
        elif _is_folder(path):
            if path.is_symlink():
                yield LeftOut(path, "a link to a folder")
            elif search.recursive:
                yield from _walk(path, search)
        elif search.include and not _matches(path, search.include):
            yield LeftOut(path, "not included")
        else:
            yield _file(path)


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
    return path.is_symlink() and not os.path.exists(path)  # noqa: PTH110  # as in _is_folder


def _is_folder(path: Path) -> bool:
    # Path.is_dir() raises for a link to a name that is too long
    return os.path.isdir(path)  # noqa: PTH112


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a name with a NUL
        return False
