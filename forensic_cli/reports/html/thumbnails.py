"""Pictures for the page: reads again the files that a scan judged, if they are still what it judged."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.card import Preprocessing
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, Unreadable, state_of
from forensic_cli.images.views import Views, even_origins, pad, views
from forensic_cli.pipeline import read_file
from forensic_cli.reports.html.rows import Entry
from forensic_cli.seal import find_file

Power: TypeAlias = npt.NDArray[np.float64]
"""Mean log power, WINDOW x WINDOW, frequency 0 in the middle."""

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


WINDOW = 64
"""Side of the windows whose spectra are averaged, in pixels; they overlap by up to a half."""
_MOST_WINDOWS = 16
"""Along one side."""
_FLOOR = 0.1
_LUMA = np.array([0.299, 0.587, 0.114])
_DARKEST, _BRIGHTEST = 2.0, 99.7
"""Percentiles of a spectrum that become black and white."""


def residual_spectrum(pixels: Pixels) -> Power:
    """Average the log power spectra of the luma of (image - its 3 x 3 median) over windows of the image."""
    padded = pad(pixels, WINDOW)
    residual = (padded.astype(np.float64) - cv2.medianBlur(padded, 3)) @ _LUMA
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW))
    total, count = np.zeros((WINDOW, WINDOW)), 0
    for top in _origins(residual.shape[0]):
        for left in _origins(residual.shape[1]):
            window = residual[top : top + WINDOW, left : left + WINDOW] * taper
            total += np.log(np.abs(np.fft.fft2(window)) ** 2 + _FLOOR)
            count += 1
    return np.asarray(np.fft.fftshift(total / count), np.float64)


def spectrum_png(power: Power) -> bytes:
    """Return a spectrum as a grey PNG, stretched from its darkest to its brightest frequencies."""
    low, high = np.percentile(power, [_DARKEST, _BRIGHTEST])
    grey = np.clip((power - low) / max(high - low, 1e-9) * 255, 0, 255).round().astype(np.uint8)
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])


def _origins(length: int) -> list[int]:
    return even_origins(length, WINDOW, min(_MOST_WINDOWS, 2 * (length // WINDOW) - 1))
