"""Augmentation of the native recipe: identical for every class, so that an image's history cannot be its label."""

import cv2
import numpy as np

from forensic_cli.preprocess import Pixels, pad

JPEG, WEBP, BLUR, NOISE, COLOUR = 0.2, 0.03, 0.03, 0.03, 0.1
"""Probability of each change."""


def augment_patch(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """Cut a random patch S x S x 3 at native resolution; compress, blur, add noise or shift colours; turn, mirror.

    The cut for compression has a random offset and a margin, so that the grid of blocks gets a random phase.
    """
    patch = _random_crop(pad(pixels, size), size + 8, rng)
    if rng.random() < COLOUR:
        patch = _shift_colours(patch, rng)
    if rng.random() < BLUR:
        patch = cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.3, 1.2)).astype(np.uint8)
    if rng.random() < NOISE:
        patch = np.clip(patch + rng.normal(0, rng.uniform(0.5, 4), patch.shape) + 0.5, 0, 255).astype(np.uint8)
    kind = rng.random()
    if kind < JPEG:
        patch = _recompress(patch, ".jpg", _jpeg_options(rng))
    elif kind < JPEG + WEBP:
        patch = _recompress(patch, ".webp", [cv2.IMWRITE_WEBP_QUALITY, int(rng.integers(50, 101))])
    patch = np.rot90(_random_crop(patch, size, rng), int(rng.integers(4)))
    return np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)


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


def _jpeg_options(rng: np.random.Generator) -> list[int]:
    options = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(50, 101))]
    if rng.random() < 0.3:
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return options


def _recompress(patch: Pixels, suffix: str, options: list[int]) -> Pixels:
    encoded = cv2.imencode(suffix, cv2.cvtColor(patch, cv2.COLOR_RGB2BGR), options)[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB), np.uint8)
