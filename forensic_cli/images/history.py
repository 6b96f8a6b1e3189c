"""What happens to images on their way: THE re-encodings, and the traces that an image bears of what happened before.

A re-encoding turns pixels into those that a platform, an editor or a screen hands on. Nobody else re-encodes.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from forensic_cli.images.header import Pixels, jpeg_state

_CROP_DIVISOR = 20
"""A twentieth of each side goes at each border: a tenth of the height and of the width."""
_BLOCK = 8
"""Side of a JPEG block, in pixels."""


def jpeg(pixels: Pixels, quality: int, full_colour: bool = False) -> Pixels:
    """Encode as JPEG and decode again; returns H x W x 3.

    `quality`: 1 to 100. `full_colour`: keep the colour channels at full size (4:4:4), else 4:2:0 as most encoders do.
    Raises ValueError above 65,500 pixels a side, which JPEG cannot hold.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if full_colour:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return _recompress(pixels, ".jpg", options)


def webp(pixels: Pixels, quality: int) -> Pixels:
    """Encode as lossy WebP (`quality` 1 to 100) and decode again; returns H x W x 3.

    Raises ValueError above 16,383 pixels a side, which WebP cannot hold.
    """
    return _recompress(pixels, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def resize(pixels: Pixels, factor: float) -> Pixels:
    """Resize both sides by `factor` with Pillow's antialiased bicubic filter, to one pixel at least."""
    size = _scaled(pixels, factor)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), np.uint8)


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian of `sigma` pixels; returns H x W x 3."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)


def crop(pixels: Pixels) -> Pixels:
    """Cut about a twentieth of each side from each border, so that no old block border lies where a new one would.

    The new origin lies 3 rows and 5 columns off the grid of 8-pixel blocks. One row and one column are always left.
    """
    height, width = pixels.shape[:2]
    rows, columns = height // _CROP_DIVISOR, width // _CROP_DIVISOR
    top = min(rows - rows % _BLOCK + 3, height - 1)
    left = min(columns - columns % _BLOCK + 5, width - 1)
    bottom, right = max(top + 1, height - rows), max(left + 1, width - columns)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def screenshot(pixels: Pixels) -> Pixels:
    """Show at 93 % with the bilinear filter of a screen, which does not antialias, and save as JPEG 85.

    Raises ValueError above what JPEG can hold.
    """
    shown = cv2.resize(pixels, _scaled(pixels, 0.93), interpolation=cv2.INTER_LINEAR)
    return jpeg(np.asarray(shown, np.uint8), 85)


REENCODINGS: Mapping[str, Callable[[Pixels], Pixels]] = {
    **{f"jpeg{quality}": partial(jpeg, quality=quality) for quality in (95, 90, 75, 50)},
    **{f"webp{quality}": partial(webp, quality=quality) for quality in (90, 75)},
    **{f"resize{factor}": partial(resize, factor=factor) for factor in (0.5, 0.75, 1.5)},
    **{"blur": partial(blur, sigma=1.0), "crop": crop, "screenshot": screenshot},
}
"""Every re-encoding by its name: uint8 RGB H x W x 3 in, the same with perhaps another H and W out; deterministic."""

ORIGINAL = "original"
"""Name of an image as it is, where it stands among its re-encodings."""
STABILITY = ("jpeg90", "jpeg75", "webp90", "resize0.75", "crop")
"""What platforms do to images as a matter of course; `scan --stability` uses these."""


def variants(pixels: Pixels, names: Iterable[str]) -> Iterator[tuple[str, Pixels, str]]:
    """Yield (name, re-encoded pixels, state), one at a time so that only one is in memory besides the original.

    A re-encoding that cannot hold so large an image, or for which there is not enough memory, is left out.
    """
    for name in names:
        try:
            changed = REENCODINGS[name](pixels)
        except (ValueError, MemoryError, cv2.error):  # cv2 reports a lack of memory as its own error
            continue
        yield name, changed, reencoded_state(name)


def reencoded_state(name: str) -> str:
    """Return the state that an image has after a re-encoding; one that only changes pixels is saved without loss."""
    quality = re.search(r"\d+$", name)
    if name.startswith("jpeg") and quality:
        return jpeg_state(int(quality[0]))
    if name.startswith("webp"):
        return "webp"
    return jpeg_state(85) if name == "screenshot" else "lossless"


def _scaled(pixels: Pixels, factor: float) -> tuple[int, int]:
    """Return (width, height) times `factor`, at least 1 x 1."""
    height, width = pixels.shape[:2]
    return max(1, round(width * factor)), max(1, round(height * factor))


def _recompress(pixels: Pixels, suffix: str, options: Sequence[int]) -> Pixels:
    is_encoded, encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not is_encoded:
        height, width = pixels.shape[:2]
        raise ValueError(f"{suffix} cannot hold {width} x {height} pixels")
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)


EARLIER_JPEG, RESIZED = "a JPEG before", "resized"
_SIDE = 512
"""Pixels of each side, in the middle of an image, in which traces are looked for."""
_LEAST = 128
"""Pixels; nothing can be told from a shorter side."""
_EDGE = 24.0
"""Grey levels at which differences are cut off, so that edges of the image do not drown what is between them."""
_BLOCKY = 5.5
"""Standard errors by which the borders of blocks must stand out along both axes."""
_PERIODIC = 7.0
"""Height of a peak over the median of the spectrum. One or two in a hundred images exceed this limit, or the one above,
by chance (tests/benchmarks/trace_rates.py)."""
_LENGTH = 1024
"""Points of the Fourier transform."""
_SLOW, _NEAR_BLOCK, _ALIKE = 0.06, 0.008, 0.004
"""Cycles per pixel: slower ones are the image's own; ones this near to a harmonic of the blocks are a JPEG's; two axes
that differ by less agree."""


def traces_of(pixels: Pixels, lossless: bool) -> tuple[str, ...]:
    """Return what probably happened to an image before: EARLIER_JPEG, of a `lossless` file alone, and RESIZED.

    Each is wrong about one or two in a hundred images, about more drawn patterns, and misses many. Sources: blocking
    artefacts (Fan and de Queiroz 2003), the periodic second difference of an interpolated image (Gallagher 2005).
    """
    top, left = (max(0, side - _SIDE) // 2 for side in pixels.shape[:2])
    middle = np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])
    luma = cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if min(luma.shape) < _LEAST:
        return ()
    axes = (luma, np.ascontiguousarray(luma.T))
    traces = []
    if lossless and min(_blockiness(axis) for axis in axes) > _BLOCKY:
        traces.append(EARLIER_JPEG)
    (height_across, cycles_across), (height_down, cycles_down) = (_peak(axis) for axis in axes)
    if min(height_across, height_down) > _PERIODIC and abs(cycles_across - cycles_down) <= _ALIKE:
        traces.append(RESIZED)
    return tuple(traces)


def in_words(state: str, traces: tuple[str, ...]) -> str:
    """Return a state with what probably happened before: "PNG, lossless, was probably a JPEG before and resized"."""
    return f"{state}, was probably {' and '.join(traces)}" if traces else state


def _blockiness(luma: npt.NDArray[np.float32]) -> float:
    """Return by how many standard errors one of the eight columns where blocks may begin stands out."""
    # The third difference of neighbours, which is small in a smooth image and large at a step between blocks
    across = np.abs(luma[:, 3:] - luma[:, :-3] + 3 * (luma[:, 1:-2] - luma[:, 2:-1]))
    profile = _without_trend(across)
    blocks = profile[: len(profile) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    means = np.sort(blocks.mean(axis=0) / (blocks.std(axis=0).mean() / np.sqrt(len(blocks)) + 1e-3))
    return float(means[-1] - means[-2])


def _peak(luma: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the height of the strongest period of the second difference over the median, and its cycles per pixel."""
    profile = _without_trend(np.abs(luma[:, :-2] - 2 * luma[:, 1:-1] + luma[:, 2:]))
    spectrum = np.abs(np.fft.rfft(profile * np.hanning(len(profile)), _LENGTH))
    cycles = np.arange(len(spectrum)) / _LENGTH
    harmonic = np.round(cycles * _BLOCK) / _BLOCK
    allowed = (cycles > _SLOW) & ((np.abs(cycles - harmonic) > _NEAR_BLOCK) | (harmonic == 0))
    peak = int(np.argmax(np.where(allowed, spectrum, 0)))
    return float(spectrum[peak] / (np.median(spectrum) + 1e-9)), float(cycles[peak])


def _without_trend(differences: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the logarithm of each column's mean, less the mean of that over the nine columns around it."""
    profile = np.log(np.minimum(differences, _EDGE).mean(axis=0, dtype=np.float64) + 0.05)
    return np.asarray(profile - np.convolve(np.pad(profile, 4, "edge"), np.full(9, 1 / 9), "valid"))
