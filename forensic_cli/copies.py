"""Copies and near-duplicates: which rows have the same bytes as an earlier one, and which look alike.

Rows are marked in the order of the files, where they leave the scan, so the marks do not depend on threads.
"""

from collections import OrderedDict
from dataclasses import replace

import numpy as np
from PIL import Image

from forensic_cli.errors import require
from forensic_cli.images.header import Pixels
from forensic_cli.record import FileResult

DISTANCE = 4
"""Most bits of 64 by which the hashes of near-duplicates differ. On 205 images of the field corpus JPEG 50 to 95, WebP,
half to one and a half times the size, blur and a screenshot changed at most 2; most crops change more than 4."""
REMEMBERED = 1 << 16
"""Different contents that are remembered, the most recent ones; about 200 bytes each."""


def dedupe_distance() -> int:
    """Return DISTANCE if --dedupe can work. Raises UsageError if its package is missing."""
    require(("imagehash", "scipy.fftpack"), "dedupe", "--dedupe")
    return DISTANCE


def perceptual_hash(pixels: Pixels) -> int:
    """Return the 64-bit DCT hash (ImageHash's phash) of an image's brightness. Plain images all have the same."""
    import imagehash

    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


class Seen:
    """What a scan remembers of earlier rows; a resumed scan passes the rows that stay through it as well."""

    def __init__(self, distance: int | None = None) -> None:
        """`distance`: most differing bits between near-duplicates; None: do not look for any."""
        self._first_paths: OrderedDict[str, str] = OrderedDict()
        self._clusters = None if distance is None else Clusters(distance)

    def mark(self, row: FileResult) -> FileResult:
        """Return a row with `duplicate_of` and `cluster`, and remember it."""
        duplicate_of = None if row.sha256 is None else self._original(row.sha256, row.path)
        cluster = None
        if self._clusters is not None and row.phash is not None:
            cluster = self._clusters.number(int(row.phash, 16))
        if (duplicate_of, cluster) == (row.duplicate_of, row.cluster):
            return row
        return replace(row, duplicate_of=duplicate_of, cluster=cluster)

    def _original(self, sha256: str, path: str) -> str | None:
        """Return the first path with the same content; None if it is this one."""
        first = self._first_paths.setdefault(sha256, path)
        self._first_paths.move_to_end(sha256)
        if len(self._first_paths) > REMEMBERED:
            self._first_paths.popitem(last=False)
        return None if first == path else first


class Clusters:
    """Numbers clusters of near-duplicates 1, 2, ...; an image joins the cluster of the first hash it is close to.

    Costs 12 bytes for each different hash, and a comparison with all of them: 0.2 ms for 300,000 hashes.
    """

    def __init__(self, distance: int = DISTANCE) -> None:
        self._distance = distance
        self._hashes = np.empty(1024, np.uint64)
        self._numbers = np.empty(1024, np.uint32)
        self._count = 0
        self._total = 0

    def number(self, fingerprint: int) -> int:
        """Return the number of an image's cluster, a new one if its hash is close to none before."""
        distances = np.bitwise_count(self._hashes[: self._count] ^ np.uint64(fingerprint))
        close = np.flatnonzero(distances <= self._distance)
        if not close.size:
            self._total += 1
            self._add(fingerprint, self._total)
            return self._total
        number = int(self._numbers[close[0]])
        if distances[close].min() > 0:
            self._add(fingerprint, number)
        return number

    def _add(self, fingerprint: int, number: int) -> None:
        if self._count == len(self._hashes):  # double the room
            self._hashes = np.concatenate([self._hashes, np.empty_like(self._hashes)])
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
        self._hashes[self._count], self._numbers[self._count] = fingerprint, number
        self._count += 1
