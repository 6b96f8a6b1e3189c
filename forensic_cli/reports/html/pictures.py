"""Pictures for the page: reads again the files that a scan judged, if they are still what it judged."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from forensic_cli.card import Preprocessing
from forensic_cli.custody import find_file
from forensic_cli.pipeline import read_file
from forensic_cli.preprocess import Decoded, Pixels, Unreadable, Views, decode, views
from forensic_cli.reports.html.entries import Entry
from forensic_cli.reports.html.spectrum import Power, residual_spectrum
from forensic_cli.state import state_of

THUMBNAIL_SIDE = 160
"""Pixels of the longer side; smaller images are not enlarged."""
PREVIEW_SIDE = 512
"""The same for an image that has an evidence map."""
_THUMBNAIL_QUALITY, _PREVIEW_QUALITY = 60, 75

MISSING, CHANGED, UNDECODED, OVER_LIMIT, NOT_JUDGED = "!missing", "!changed", "!undecoded", "!limit", "!none"
NOTES = {
    MISSING: "No picture: the file was not found where the scan had found it.",
    CHANGED: "No picture: the file there is not the one that was judged (other SHA-256).",
    UNDECODED: "No picture: the file could not be decoded.",
    OVER_LIMIT: "No picture: the limit on the pictures in this report was reached.",
    NOT_JUDGED: "No picture: the file could not be read when it was scanned.",
}
"""What the page says in place of a picture."""


@dataclass(frozen=True)
class Picture:
    """What of one image goes into the page; its pixels are gone."""

    thumbnail: bytes
    """Encoded as WebP."""
    closer: "Closer | None"
    """For an image whose evidence is shown."""


@dataclass(frozen=True)
class Closer:
    """What it takes to show where an image's evidence lies."""

    preview: bytes
    """Encoded as WebP."""
    height: int
    """Pixels of the upright image."""
    width: int
    """Pixels of the upright image."""
    views: tuple[Views, ...]
    """One array for each wanted preprocessing."""
    state: str
    """Name of the image's state; see state.State."""
    spectrum: Power
    """Of its residual."""


def picture_of(entry: Entry, root: Path, max_pixels: int, wanted: Sequence[Preprocessing] | None) -> Picture | str:
    """Read one file again; a name from NOTES where it gives no picture. `wanted`: None where a thumbnail will do."""
    found = _find(entry.path, root)
    if found is None:
        return MISSING
    data = _same_bytes(found, entry)
    if data is None:
        return CHANGED
    decoded = decode(data, max_pixels)
    if isinstance(decoded, Unreadable):
        return UNDECODED
    return Picture(
        _shrunk(decoded.pixels, THUMBNAIL_SIDE, _THUMBNAIL_QUALITY),
        None if wanted is None else _closer(decoded, wanted),
    )


def _closer(decoded: Decoded, wanted: Sequence[Preprocessing]) -> Closer:
    pixels = decoded.pixels
    return Closer(
        preview=_shrunk(pixels, PREVIEW_SIDE, _PREVIEW_QUALITY),
        height=pixels.shape[0],
        width=pixels.shape[1],
        views=tuple(views(pixels, one) for one in wanted),
        state=state_of(decoded.header).name,
        spectrum=residual_spectrum(pixels),
    )


def _find(path: str, root: Path) -> Path | None:
    """Return the file that a row names, if it is a regular one: a device or a pipe would not end."""
    found = find_file(path, root)
    return found if found is not None and os.path.isfile(found) else None  # noqa: PTH113  # Path.is_file() may raise


def _same_bytes(path: Path, entry: Entry) -> bytes | None:
    """Return a file's bytes if they are those that were judged."""
    try:
        if entry.bytes is not None and path.stat().st_size != entry.bytes:
            return None
    except OSError:
        return None
    data = read_file(path)
    if isinstance(data, Unreadable) or hashlib.sha256(data).hexdigest() != entry.sha256:
        return None
    return data


def _shrunk(pixels: Pixels, side: int, quality: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    return bytes(cv2.imencode(".webp", small[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1])
