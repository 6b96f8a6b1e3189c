"""Traces: what pixels tell of a picture's past that its file does not say: an earlier JPEG, a resizing.

Both leave something that repeats itself from column to column and from row to row, which is looked for in means of
absolute differences along either axis. They are told in a row's state and decide nothing.
"""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.preprocess import Pixels

Profile: TypeAlias = npt.NDArray[np.float64]
"""One number for each column of an image, or for each row."""

EARLIER_JPEG, RESIZED = "a JPEG before", "resized"
_SIDE = 512
"""Pixels: traces are looked for in the middle of a picture."""
_LEAST = 128
"""Pixels along a side with which nothing can be told."""
_BLOCK = 8
"""Side of a JPEG's blocks, in pixels."""
_EDGE = 24.0
"""Grey levels at which differences are cut off, so that edges of the picture do not drown what is between them."""
_BLOCKY = 5.5
"""Standard errors by which the borders of blocks stand out along both axes; _PERIODIC: times the median of the spectrum
that a peak has. One or two in a hundred pictures have as much by chance (tests/benchmarks/trace_rates.py)."""
_PERIODIC = 7.0
_LENGTH = 1024
_SLOW, _NEAR_BLOCK, _ALIKE = 0.06, 0.008, 0.004
"""Cycles per pixel: slower ones are the picture's; so near to a harmonic of the blocks they are a JPEG's; so near to
each other the two axes agree."""


def traces_of(pixels: Pixels, lossless: bool) -> tuple[str, ...]:
    """Return what probably happened to a picture before: EARLIER_JPEG, of a `lossless` file alone, and RESIZED.

    Each is wrong about one or two in a hundred pictures, more of drawn patterns, and misses many. Sources: blocking
    artefacts (Fan and de Queiroz 2003), the periodic second difference of an interpolated picture (Gallagher 2005).
    """
    luma = cv2.cvtColor(_middle(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    if min(luma.shape) < _LEAST:
        return ()
    axes = (luma, np.ascontiguousarray(luma.T))
    found = []
    if lossless and min(_blockiness(axis) for axis in axes) > _BLOCKY:
        found.append(EARLIER_JPEG)
    (strength, place), (other, elsewhere) = (_peak(axis) for axis in axes)
    if min(strength, other) > _PERIODIC and abs(place - elsewhere) <= _ALIKE:
        found.append(RESIZED)
    return tuple(found)


def in_words(state: str, traces: tuple[str, ...]) -> str:
    """Return a state with what probably happened before: "PNG, lossless, was probably a JPEG before and resized"."""
    return f"{state}, was probably {' and '.join(traces)}" if traces else state


def _middle(pixels: Pixels) -> Pixels:
    top, left = (max(0, side - _SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])


def _blockiness(luma: npt.NDArray[np.float32]) -> float:
    """Return by how many standard errors one of eight columns stands out, where blocks may begin."""
    across = np.abs(luma[:, 3:] - luma[:, :-3] + 3 * (luma[:, 1:-2] - luma[:, 2:-1]))
    profile = _without_trend(across)
    rounds = profile[: len(profile) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    means = np.sort(rounds.mean(axis=0) / (rounds.std(axis=0).mean() / np.sqrt(len(rounds)) + 1e-3))
    return float(means[-1] - means[-2])


def _peak(luma: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return how far the strongest period of the second difference stands out, and its cycles per pixel."""
    profile = _without_trend(np.abs(luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]))
    spectrum = np.abs(np.fft.rfft(profile * np.hanning(len(profile)), _LENGTH))
    cycles = np.arange(len(spectrum)) / _LENGTH
    harmonic = np.round(cycles * _BLOCK) / _BLOCK
    allowed = (cycles > _SLOW) & ((np.abs(cycles - harmonic) > _NEAR_BLOCK) | (harmonic == 0))
    place = int(np.argmax(np.where(allowed, spectrum, 0)))
    return float(spectrum[place] / (np.median(spectrum) + 1e-9)), float(cycles[place])


def _without_trend(differences: npt.NDArray[np.float32]) -> Profile:
    """Return the log mean of each column, less that of the nine around it."""
    profile = np.log(np.minimum(differences, _EDGE).mean(axis=0, dtype=np.float64) + 0.05)
    return np.asarray(profile - np.convolve(np.pad(profile, 4, "edge"), np.full(9, 1 / 9), "valid"))
