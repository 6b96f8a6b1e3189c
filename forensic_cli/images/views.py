"""Cuts pixels into the views that a model judges. Training and scanning share it; nobody else resizes."""

import math
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from forensic_cli.card import Preprocessing
from forensic_cli.images.header import Pixels

Views: TypeAlias = npt.NDArray[np.uint8]
"""RGB, V x S x S x 3."""


def views(pixels: Pixels, preprocessing: Preprocessing) -> Views:
    """Turn one image into its views, uint8 V x S x S x 3; the same pixels give the same array, bit for bit.

    `whole`: one view, resized to S x S with Pillow's antialiased bilinear filter, aspect not kept (PAPER,
    "Common to all techniques"; torchvision's Resize on a PIL image). `patches`: an even grid of S x S
    patches at native resolution; an image smaller than S is mirrored at its border.
    """
    size = preprocessing.size
    if preprocessing.mode == "whole":
        resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
        return np.array(resized)[None]  # an array of its own: PyTorch warns of read-only ones
    padded = pad(pixels, size)
    corners = _corners(padded.shape[0], padded.shape[1], preprocessing)
    return np.stack([padded[top : top + size, left : left + size] for top, left in corners])


def view_places(height: int, width: int, preprocessing: Preprocessing) -> list[tuple[int, int, int, int]]:
    """Return where each view of an image of these sides lies in it: (top, left, bottom, right), in the views' order.

    Parts mirrored at a border are left out, so every place lies within the image.
    """
    size = preprocessing.size
    if preprocessing.mode == "whole":
        return [(0, 0, height, width)]
    corners = _corners(max(height, size), max(width, size), preprocessing)
    return [(top, left, min(top + size, height), min(left + size, width)) for top, left in corners]


def _corners(height: int, width: int, preprocessing: Preprocessing) -> list[tuple[int, int]]:
    size, grid, align = preprocessing.size, preprocessing.grid, preprocessing.align
    # Origins less than one step of the alignment apart would give the same patch twice
    tops, lefts = (
        dict.fromkeys(origin // align * align for origin in grid_origins(side, size, grid)) for side in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]


def view_warnings(pixels: Pixels, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return the warnings for what cutting views from these pixels does to them."""
    if min(pixels.shape[:2]) >= preprocessing.size:
        return ()
    return ("padded",) if preprocessing.mode == "patches" else ("upscaled",)


def pad(pixels: Pixels, size: int) -> Pixels:
    """Mirror the border so that both sides measure at least `size` pixels."""
    below = max(0, size - pixels.shape[0])
    right = max(0, size - pixels.shape[1])
    if not below and not right:
        return pixels
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def grid_origins(length: int, size: int, most: int) -> list[int]:
    """Return where patches of `size` begin along a side: evenly spread, from edge to edge, `most` at most."""
    return even_origins(length, size, min(most, math.ceil(length / size)))


def even_origins(length: int, size: int, count: int) -> list[int]:
    """Return where `count` pieces of `size` begin along a side, evenly from edge to edge; one alone in the middle."""
    if count == 1:
        return [(length - size) // 2]
    return [round(i * (length - size) / (count - 1)) for i in range(count)]
