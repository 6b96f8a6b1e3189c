"""Near-duplicates: a perceptual hash an image, and images with close hashes gathered as one finding."""

import numpy as np
from PIL import Image

from forensic_cli.extras import require
from forensic_cli.preprocess import Pixels

DISTANCE = 4
"""Bits of 64 in which the hashes of near-duplicates differ at most. On 205 images of the field corpus JPEG 50 to 95,
WebP, half to one and a half times the size, blur and a screenshot changed 2 at most; most crops change more than 4."""


def dedupe_distance() -> int:
    """Return DISTANCE where --dedupe can work. Raises UsageError where its package is missing."""
    require(("imagehash", "scipy.fftpack"), "dedupe", "--dedupe")
    return DISTANCE


def perceptual_hash(pixels: Pixels) -> int:
    """Return the 64-bit DCT hash (ImageHash's phash) of an image's brightness. Plain images all have the same."""
    import imagehash

    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class Findings:
    """Numbers findings 1, 2, ... in the images' order; an image belongs to the finding of the first one it is close to.

    Costs 12 bytes a different hash, and a look at all of them an image: 0.2 ms for 300,000, 0.5 ms for a million.
    """

    def __init__(self, distance: int = DISTANCE) -> None:
        self._distance = distance
        self._hashes = np.empty(1024, np.uint64)
        self._numbers = np.empty(1024, np.uint32)
        self._count = 0
        self._total = 0

    def number(self, fingerprint: int) -> int:
        """Return the number of an image's finding, a new one where nothing before is close to its hash."""
        one = np.uint64(fingerprint)
        distances = np.bitwise_count(self._hashes[: self._count] ^ one)
        close = np.flatnonzero(distances <= self._distance)
        if not close.size:
            self._total += 1
            self._add(one, self._total)
            return self._total
        number = int(self._numbers[close[0]])
        if distances[close].min() > 0:
            self._add(one, number)
        return number

    def _add(self, fingerprint: np.uint64, number: int) -> None:
        if self._count == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
        self._hashes[self._count], self._numbers[self._count] = fingerprint, number
        self._count += 1
