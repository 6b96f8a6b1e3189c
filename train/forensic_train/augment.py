"""Augmentation of patches, identical for every class, so that the history of an image cannot reveal its label."""

from typing import NamedTuple

import cv2
import numpy as np

from forensic_cli.card import Preprocessing
from forensic_cli.images.header import Pixels
from forensic_cli.images.history import blur, jpeg, webp
from forensic_cli.images.views import pad, views

JPEG, WEBP, RESIZE, BLUR, NOISE, COLOUR = 0.3, 0.05, 0.08, 0.03, 0.03, 0.03
"""Probability of each change."""
FULL_COLOUR = 0.3
"""Probability that a JPEG keeps its colours at full size (4:4:4)."""


class Augmented(NamedTuple):
    """One training view."""

    pixels: Pixels
    """S x S x 3."""
    compressed: bool
    """Whether it was compressed here; what happened to the image before is unknown."""


def augment_patch(pixels: Pixels, size: int, rng: np.random.Generator) -> Augmented:
    """Cut a random patch S x S x 3 at native resolution, change it at random (size, compression, ...) and rotate it.

    It is compressed with a margin that is cut off afterwards at a random offset, so the block grid gets a random phase.
    """
    if rng.random() < RESIZE:
        pixels = _resize(pixels, size, rng)
    patch = _random_crop(pad(pixels, size), size + 8, rng)
    if rng.random() < COLOUR:
        patch = _shift_colours(patch, rng)
    if rng.random() < BLUR:
        patch = blur(patch, rng.uniform(0.3, 1.2))
    if rng.random() < NOISE:
        patch = np.clip(patch + rng.normal(0, rng.uniform(0.5, 4), patch.shape) + 0.5, 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < JPEG:
        patch = jpeg(patch, int(rng.integers(50, 101)), full_colour=rng.random() < FULL_COLOUR)
    elif kind < JPEG + WEBP:
        patch = webp(patch, int(rng.integers(50, 101)))
    patch = np.rot90(_random_crop(patch, size, rng), int(rng.integers(4)))
    mirrored = np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)
    return Augmented(mirrored, kind < JPEG + WEBP)


def augment_whole(pixels: Pixels, size: int, rng: np.random.Generator) -> Augmented:
    """Cut out most of an image, resize it to S x S, mirror it in half of the cases and compress it in some.

    An opt-in beside PAPER's recipe, which has no augmentation. Source: Szegedy et al. 2015 (random crops), with at
    least half of the area.
    """
    area, ratio = rng.uniform(0.5, 1.0), float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    height, width = pixels.shape[:2]
    rows = min(height, max(1, round(height * np.sqrt(area / ratio))))
    columns = min(width, max(1, round(width * np.sqrt(area * ratio))))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    part = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    view = views(part, Preprocessing("whole", size))[0]
    if rng.random() < 0.5:
        view = np.ascontiguousarray(view[:, ::-1])
    if is_compressed := rng.random() < JPEG:
        view = jpeg(view, int(rng.integers(50, 101)), full_colour=rng.random() < FULL_COLOUR)
    return Augmented(view, is_compressed)


def _resize(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    factor = rng.uniform(0.6, 1.5)
    height, width = (max(size, round(side * factor)) for side in pixels.shape[:2])
    shrinking = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
    methods = shrinking if factor < 1 else (cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)
    resized = cv2.resize(pixels, (width, height), interpolation=methods[int(rng.integers(3))])
    return np.asarray(resized, np.uint8)


def _random_crop(pixels: Pixels, most: int, rng: np.random.Generator) -> Pixels:
    height, width = (min(most, side) for side in pixels.shape[:2])
    top = int(rng.integers(pixels.shape[0] - height + 1))
    left = int(rng.integers(pixels.shape[1] - width + 1))
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _shift_colours(patch: Pixels, rng: np.random.Generator) -> Pixels:
    ramp = (np.arange(256) / 255.0) ** rng.uniform(0.8, 1.25) * 255
    gains = rng.uniform(0.8, 1.2, 3) * rng.uniform(0.85, 1.15)
    table = np.clip(ramp[:, None] * gains + rng.uniform(-12, 12) + 0.5, 0, 255).astype(np.uint8)
    return cv2.LUT(patch, table.reshape(1, 256, 3)).astype(np.uint8)
