"""What the page shows of the files themselves: thumbnails, residual spectra, and maps of where the evidence lies.

Files are read again, and used only if they are still those that the scan judged.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.card import Decision, Preprocessing
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, Unreadable, state_of
from forensic_cli.images.views import Views, even_origins, pad, view_places, views
from forensic_cli.model import Model, Sample, judge_samples
from forensic_cli.pipeline import read_file
from forensic_cli.record import FileResult
from forensic_cli.seal import find_file
from forensic_cli.verdict import probabilities

_THUMBNAIL_SIDE, _THUMBNAIL_QUALITY = 160, 60
"""Pixels of the longer side, and WebP quality; smaller images are not enlarged."""
_PREVIEW_SIDE, _PREVIEW_QUALITY = 512, 75
"""The same for an image with an evidence map."""

MISSING, CHANGED, UNDECODED, OVER_LIMIT, NOT_JUDGED = "!missing", "!changed", "!undecoded", "!limit", "!none"
NOTES = {
    MISSING: "No picture: the file is no longer where the scan found it.",
    CHANGED: "No picture: the file is not the one that was judged (its SHA-256 differs).",
    UNDECODED: "No picture: the file could not be decoded.",
    OVER_LIMIT: "No picture: the size limit for pictures in this report was reached.",
    NOT_JUDGED: "No picture: the file could not be read when it was scanned.",
}
"""What the page shows in place of a picture."""


@dataclass(frozen=True)
class Picture:
    """What the page needs of one image; the pixels themselves are gone."""

    thumbnail: bytes
    """Encoded as WebP."""
    closer: "Closer | None"
    """For an image whose evidence is shown."""


@dataclass(frozen=True)
class Closer:
    """What it takes to show where the evidence in an image lies."""

    preview: bytes
    """Encoded as WebP."""
    height: int
    """Pixels of the upright image."""
    width: int
    """Pixels of the upright image."""
    views: Mapping[Preprocessing, Views]
    """For each preprocessing that a model wants."""
    state: str
    """Name of the image's state; see images.header.State."""
    spectrum: bytes
    """Residual spectrum, encoded as PNG."""


def picture_of(row: FileResult, root: Path, max_pixels: int, wanted: Sequence[Preprocessing] | None) -> Picture | str:
    """Read the file of a row again; `wanted` is None for a thumbnail alone. Returns a name from NOTES on failure."""
    file = find_file(row.path, root)
    # Path.is_file() may raise; a pipe would never end
    if file is None or (isinstance(file, Path) and not os.path.isfile(file)):  # noqa: PTH113
        return MISSING
    data = read_file(file)
    if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != row.sha256:
        return CHANGED
    decoded = decode(data, max_pixels)
    if isinstance(decoded, Unreadable):
        return UNDECODED
    thumbnail = _shrunk(decoded.pixels, _THUMBNAIL_SIDE, _THUMBNAIL_QUALITY)
    return Picture(thumbnail, None if wanted is None else _closer(decoded, wanted))


def _closer(decoded: Decoded, wanted: Sequence[Preprocessing]) -> Closer:
    pixels = decoded.pixels
    return Closer(
        preview=_shrunk(pixels, _PREVIEW_SIDE, _PREVIEW_QUALITY),
        height=pixels.shape[0],
        width=pixels.shape[1],
        views={preprocessing: views(pixels, preprocessing) for preprocessing in wanted},
        state=state_of(decoded.header).name,
        spectrum=_spectrum_png(residual_spectrum(pixels)),
    )


def _shrunk(pixels: Pixels, side: int, quality: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    return bytes(cv2.imencode(".webp", small[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])[1])


# Residual spectra: periodic traces of up-sampling are bright points off the middle

Power: TypeAlias = npt.NDArray[np.float64]
"""Mean log power, WINDOW x WINDOW, frequency 0 in the middle."""
WINDOW = 64
"""Side of the windows whose spectra are averaged, in pixels; they overlap by up to a half."""
_MOST_WINDOWS = 16
"""Along one side."""
_FLOOR = 0.1
"""Added to the power, so that flat windows have a logarithm."""
_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue (ITU-R BT.601)."""
_DARKEST, _BRIGHTEST = 2.0, 99.7
"""Percentiles of a spectrum that become black and white."""


def residual_spectrum(pixels: Pixels) -> Power:
    """Average the log power spectra of the luma of (image - its 3 x 3 median) over windows of the image."""
    padded = pad(pixels, WINDOW)
    residual = (padded.astype(np.float64) - cv2.medianBlur(padded, 3)) @ _LUMA
    # A Hann taper, so that the borders of a window add no cross to its spectrum
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW))
    rows, columns = (
        even_origins(length, WINDOW, min(_MOST_WINDOWS, 2 * (length // WINDOW) - 1)) for length in residual.shape
    )
    total = np.zeros((WINDOW, WINDOW))
    for top in rows:
        for left in columns:
            window = residual[top : top + WINDOW, left : left + WINDOW] * taper
            total += np.log(np.abs(np.fft.fft2(window)) ** 2 + _FLOOR)
    return np.asarray(np.fft.fftshift(total / (len(rows) * len(columns))), np.float64)


def _spectrum_png(power: Power) -> bytes:
    """Return a spectrum as a grey PNG, stretched from its darkest to its brightest frequencies."""
    low, high = np.percentile(power, [_DARKEST, _BRIGHTEST])
    grey = np.clip((power - low) / max(high - low, 1e-9) * 255, 0, 255).round().astype(np.uint8)
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])


# Evidence maps: what each patch says on its own, or what changes when a part is covered

Place: TypeAlias = tuple[float, float, float, float]
"""(top, left, bottom, right) as fractions of the image's sides."""
PATCHES = "patches"
"""Method: a value is the probability that a model gives a label when it sees that patch alone."""
OCCLUSION = "occlusion"
"""Method (Zeiler and Fergus 2014): a value is how much the probability of the label falls when that part is grey."""
_GREY = 128
_PARTS = 7
"""Along one side; each is covered in turn."""
_LEAST_PART = 8
"""Pixels of the view along the side of a part."""


@dataclass(frozen=True)
class EvidenceMap:
    """What the techniques that see the same views find in each place."""

    method: str
    """PATCHES or OCCLUSION."""
    places: Sequence[Place]
    """One for each value."""
    values: Mapping[str, Mapping[str, npt.NDArray[np.float64]]]
    """{technique: {label: values}}."""
    whole: Mapping[str, Mapping[str, float]]
    """{technique: {label: its probability for the whole image, computed again}}."""


def evidence_maps(models: Sequence[Model], closer: Closer) -> list[EvidenceMap]:
    """Judge the places of an image; the models that see the same views of it share a map."""
    maps = []
    for preprocessing, whole in closer.views.items():
        judging = [model for model in models if model.card.preprocessing == preprocessing]
        if preprocessing.mode == "patches":
            height, width = closer.height, closer.width
            places = [
                (top / height, left / width, bottom / height, right / width)
                for top, left, bottom, right in view_places(height, width, preprocessing)
            ]
            pieces = [view[None] for view in whole]
            maps.append(_map(PATCHES, places, judging, whole, pieces, closer.state))
        else:  # no part of a single resized view can be judged on its own, so each one is covered in turn
            count = max(1, min(_PARTS, preprocessing.size // _LEAST_PART))
            edges = [round(i * preprocessing.size / count) for i in range(count + 1)]
            sides = list(pairwise(edge / preprocessing.size for edge in edges))
            places = [(top, left, bottom, right) for top, bottom in sides for left, right in sides]
            maps.append(_map(OCCLUSION, places, judging, whole, _covered(whole[0], edges), closer.state))
    return maps


def _map(
    method: str, places: Sequence[Place], models: Sequence[Model], whole: Views, pieces: Sequence[Views], state: str
) -> EvidenceMap:
    """Judge an image by its views, and each piece as if it were an image."""
    samples = [Sample((piece,), state) for piece in (whole, *pieces)]
    values, of_image = {}, {}
    judged = judge_samples(models, [models[0].card.preprocessing], samples)
    for model, evidence in zip(models, judged, strict=True):
        card = model.card
        first, *rest = probabilities(card, card.decision(state) or Decision(), evidence.logits)
        shown = np.array(rest) if method == PATCHES else first - np.array(rest)
        of_image[card.technique] = dict(zip(card.labels, map(float, first), strict=True))
        values[card.technique] = dict(zip(card.labels, shown.T, strict=True))
    return EvidenceMap(method, places, values, of_image)


def _covered(view: npt.NDArray[np.uint8], edges: Sequence[int]) -> list[Views]:
    copies = []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            copy = view.copy()
            copy[top:bottom, left:right] = _GREY
            copies.append(copy[None])
    return copies
