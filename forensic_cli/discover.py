"""Turns the paths that a user gives into image files, in a stable order, without opening anything special."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from forensic_cli.errors import UsageError
from forensic_cli.preprocess import sniff

IMAGE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".jp2", ".j2k"),
    )
)
"""Files with such a name get a row even when they turn out not to be images."""


@dataclass(frozen=True)
class LeftOut:
    """Something in a folder that is not scanned."""

    path: Path
    """As found."""
    reason: str
    """One line."""


def check_paths(paths: Sequence[Path]) -> None:
    """Raise UsageError for the first path that does not exist."""
    for path in paths:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder; give existing images or folders")


def discover(paths: Sequence[Path], recursive: bool = True) -> Iterator[Path | LeftOut]:
    """Yield image files, folder by folder in name order, and what was left out with its reason.

    A file named by the user is always yielded. In folders, files with an image suffix are yielded, others
    when their first bytes look like an image. Links to folders are not followed (no loops); pipes, sockets
    and devices are never opened.
    """
    for path in paths:
        if path.is_dir():
            yield from _walk(path, recursive)
        else:
            yield path if _is_regular(path) or _is_broken_link(path) else LeftOut(path, "not a regular file")


def _walk(folder: Path, recursive: bool) -> Iterator[Path | LeftOut]:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        yield folder  # becomes a row, so that an analyst sees that something was not searched
        return
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if recursive:
                yield from _walk(path, recursive)
        elif entry.is_symlink() and path.is_dir():
            yield LeftOut(path, "a link to a folder")
        else:
            yield _file(path)


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
    return path.is_symlink() and not path.exists()


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
