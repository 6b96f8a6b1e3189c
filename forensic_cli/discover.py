"""Finds the images that a scan's arguments name, in a stable order; on disk it opens nothing but regular files."""
# Path.is_dir() and its siblings raise for links to names that are too long; os.path's answer False:
# ruff: noqa: PTH110, PTH112, PTH114

import errno
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, TypeAlias

from forensic_cli.errors import UsageError
from forensic_cli.images.decode import SUFFIXES, sniff
from forensic_cli.objects import Location, ObjectUrl, check_reachable, is_url, location

IMAGE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
"""Files with these suffixes get a row even if they turn out not to be images."""


LISTED = None
"""Stands for the paths listed on standard input, `-`; not a Path, because a file may have that name as well."""
Source: TypeAlias = Location | None
"""What an argument of a scan names."""
_HEAD = 16
"""Bytes of a file that tell whether it is an image."""
_BLOCK = 1 << 16
"""Bytes of a list that are read at once."""
_PAUSE = 0.05
"""Seconds between two attempts to read from an empty non-blocking pipe."""


@dataclass(frozen=True)
class LeftOut:
    """Something that was found but is not scanned."""

    path: Location
    """The path as it was found."""
    reason: str
    """In one line."""


@dataclass(frozen=True)
class Search:
    """Which files in folders are scanned; files that the user names are always scanned.

    Raises UsageError for a glob that cannot match anything.
    """

    recursive: bool = True
    """Search subfolders."""
    include: tuple[str, ...] = ()
    """A file's name, or the end of its path, must match one of these globs; empty: all files match."""
    exclude: tuple[str, ...] = ()
    """Files that match one of these globs are left out, and matching folders are not entered."""

    def __post_init__(self) -> None:
        for glob in (*self.include, *self.exclude):
            if not PurePath(glob).parts:
                raise UsageError(f"{glob!r} is not a glob; give one such as '*.png', in quotes")


def sources(arguments: Sequence[str]) -> list[Source]:
    """Return what the arguments name, without duplicates; `-` is the list on standard input, `./-` a file.

    Raises UsageError for the first path that does not exist.
    """
    if not all(arguments):  # Path("") would be the working folder
        raise UsageError("a path is empty (an unset variable?); give existing images or folders")
    unique: dict[str, Source] = {}
    for argument in arguments:
        if argument == "-":
            if sys.stdin is None:
                raise UsageError("-: standard input is closed; pipe a list of paths into it, or name paths")
            unique.setdefault("", LISTED)
        elif is_url(argument):
            url = ObjectUrl(argument)
            check_reachable(url)
            unique.setdefault(_location(url), url)
        else:
            path = Path(argument)
            _check_exists(path)
            unique.setdefault(_location(path), path)
    return list(unique.values())


def _check_exists(path: Path) -> None:
    try:
        path.lstat()
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be reached ({error.strerror}); ask for access to its folder") from error
    except (OSError, ValueError) as error:  # ValueError: the name contains NUL
        raise UsageError(f"{path}: no such file or folder; give existing images or folders") from error


def _location(path: Location) -> str:
    """Return the same text for all spellings of one path. A link is not followed: it has its own location."""
    if isinstance(path, ObjectUrl):
        return path.url.rstrip("/")
    if path.name in ("", ".."):
        return os.path.realpath(path)
    return f"{os.path.realpath(path.parent)}{os.sep}{path.name}"


def discover(paths: Sequence[Source], search: Search = Search()) -> Iterator[Location | LeftOut]:
    """Yield image files, folder by folder in name order, and everything that is left out with the reason.

    Files that the user names, as an argument or in the list that LISTED (`-`) stands for, are always yielded. In
    folders, a file is an image if it has an image's suffix or begins like one. Paths that are named themselves are not
    yielded again as part of a folder. Links to folders are not followed, as they may form loops.
    """
    named = frozenset(_location(path) for path in paths if path is not LISTED) if len(paths) > 1 else frozenset()
    for argument in paths:
        for path in listed_paths(sys.stdin.buffer) if argument is LISTED else (argument,):
            if _is_folder(path, argument is LISTED):
                entries = _list_folder(path, named)
                yield from (path,) if entries is None else _walk(entries, search, named)
            elif isinstance(path, ObjectUrl) or _is_regular(path) or _is_broken_link(path) or not os.path.lexists(path):
                yield path
            else:
                yield LeftOut(path, "not a regular file")


def listed_paths(stream: BinaryIO) -> Iterator[Location]:
    """Yield the paths and URLs in a stream as they arrive: NUL-separated if the first block has NUL, else lines."""
    # Unbuffered, because Python crashes on exit while a thread waits inside a buffered stream
    stream = getattr(stream, "raw", stream)
    rest = block = _next_block(stream)
    separator = b"\0" if b"\0" in rest else b"\n"
    while block:
        *complete, rest = rest.split(separator)
        yield from (location(os.fsdecode(name)) for name in complete if name)
        block = _next_block(stream)
        rest += block
    if rest:
        yield location(os.fsdecode(rest))


def _next_block(stream: BinaryIO) -> bytes:
    while (block := stream.read(_BLOCK)) is None:  # another program made the pipe non-blocking, and it is empty
        time.sleep(_PAUSE)
    return block


def _walk(paths: Iterator[Location], search: Search, named: Set[str]) -> Iterator[Location | LeftOut]:
    """Yield what is at the paths and, for folders, below them; without recursion, as folders may be thousands deep."""
    levels = [paths]
    while levels:
        path = next(levels[-1], None)
        if path is None:
            levels.pop()
        elif (entry := _classify(path, search)) is not None:
            yield entry
        elif search.recursive:
            entries = _list_folder(path, named)
            if entries is None:
                yield path
            else:
                levels.append(entries)


def _is_folder(path: Location, is_listed: bool) -> bool:
    if isinstance(path, Path):
        return os.path.isdir(path)
    if is_listed:  # a slash tells: to ask the store would take a request for each URL
        return path.url.endswith("/")
    try:
        return path.size() is None
    except OSError:
        return False  # becomes a row that says why


def _list_folder(folder: Location, named: Set[str]) -> Iterator[Location] | None:
    """Return the entries of a folder in name order, except those whose locations are in `named`.

    None if the folder cannot be listed: it becomes a row, so that an analyst sees that it was not searched.
    """
    try:
        if isinstance(folder, ObjectUrl):
            return (entry for entry in folder.entries() if entry.url not in named)
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names take a fraction of the memory of Path objects
    except OSError:
        return None
    location = os.path.realpath(folder) if named else ""
    return (folder / name for name in names if not named or f"{location}{os.sep}{name}" not in named)


def _classify(path: Location, search: Search) -> Location | LeftOut | None:
    """Return a path in a folder if it is an image, the reason why it is left out, or None for a folder."""
    if _matches(path, search.exclude):
        return LeftOut(path, "excluded")
    if isinstance(path, ObjectUrl):
        if path.is_folder:
            return None
    elif os.path.isdir(path):
        return LeftOut(path, "a link to a folder") if os.path.islink(path) else None
    elif _is_too_long(path):
        return path  # perhaps a folder: becomes a row, like one that cannot be listed
    if search.include and not _matches(path, search.include):
        return LeftOut(path, "not included")
    if isinstance(path, Path):
        if _is_broken_link(path):
            return path
        if not _is_regular(path):
            return LeftOut(path, "not a regular file")
    return _if_image(path)


def _if_image(path: Location) -> Location | LeftOut:
    """Return a file if its suffix or its first bytes are those of an image, else the reason why it is left out."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return path
    try:
        if isinstance(path, ObjectUrl):
            head = path.read(_HEAD)
        else:
            with path.open("rb") as stream:
                head = stream.read(_HEAD)
    except OSError:
        return LeftOut(path, "not an image by its name, and cannot be opened")
    # Too many other files begin with "BM" by chance
    return path if sniff(head) not in (None, "BMP") else LeftOut(path, "not an image")


def rediscover(folder: Path, inner: PurePath, search: Search) -> Iterator[Path]:
    """Yield the image files that a search of `folder` finds now at or below `inner`, a relative path inside it."""
    *parents, _ = inner.parts
    path = folder
    for name in parents:
        path /= name
        if not search.recursive or os.path.islink(path) or _matches(path, search.exclude):
            return
    entries = _walk(iter([folder / inner]), search, frozenset())
    yield from (entry for entry in entries if isinstance(entry, Path))


def _matches(path: Location, globs: Sequence[str]) -> bool:
    return any(path.match(glob) for glob in globs)


def _is_broken_link(path: Path) -> bool:
    """Tell whether a link leads nowhere. It gets a row with status `missing`: an analyst expects its file judged."""
    return os.path.islink(path) and not os.path.exists(path)


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: the name contains NUL
        return False
