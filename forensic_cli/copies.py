"""Near-duplicates: a perceptual hash an image, and images with close hashes gathered as one finding."""

import json
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition
from typing import TypeAlias

import numpy as np
from PIL import Image

from forensic_cli.errors import require
from forensic_cli.images.decode import WRONG_SUFFIX, name_warnings
from forensic_cli.images.header import Pixels
from forensic_cli.record import FileResult, read_row

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


REMEMBERED = 4096
"""Different contents that are remembered, those met last; about 1 KB each. An older one is judged again."""


class Original:
    """The first file of some content, and its row once that is known."""

    __slots__ = ("_row",)

    def __init__(self) -> None:
        self._row = b""

    def keep(self, result: FileResult) -> None:
        """Take the row of the first file."""
        self._row = zlib.compress(json.dumps(result.record()).encode(), 1)

    def row_for(self, path: str) -> FileResult:
        """Return the row of a copy: the same but for its path and for what that says of the format."""
        first = read_row(json.loads(zlib.decompress(self._row)))
        own = name_warnings(Path(path), first.format) if first.status == "ok" and first.format else ()
        warnings = tuple(sorted({*first.warnings} - {WRONG_SUFFIX} | {*own}))
        original = None if path == first.path else first.path
        return replace(first, path=path, duplicate_of=original, warnings=warnings)


class Originals:
    """The contents that were met last, by their hash. What is a copy depends on the files' order alone."""

    def __init__(self, most: int | None = None) -> None:
        """Remember so many contents at most; None: REMEMBERED."""
        self._most = REMEMBERED if most is None else most
        self._last: OrderedDict[bytes, Original] = OrderedDict()

    def claim(self, sha256: str) -> tuple[Original, bool]:
        """Return what is remembered of a content, and whether a file that has it is a copy: an earlier one had it."""
        key = bytes.fromhex(sha256)
        original = self._last.get(key)
        if original is not None:
            self._last.move_to_end(key)
            return original, True
        original = self._last[key] = Original()
        if len(self._last) > self._most:
            self._last.popitem(last=False)
        return original, False


Claiming: TypeAlias = Callable[[Sequence[str | None]], list[tuple[Original | None, bool]]]
"""Hashes of a batch's files, None where there is none -> what is remembered of each one, and whether it is a copy."""


class Turns:
    """Lets threads that read batches of files at once make their claims in the batches' order.

    The threads must begin with the batches in that order, too: then the one that all wait for is always at work.
    """

    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self._next = 0
        self._changed = Condition()

    @contextmanager
    def turn(self, number: int) -> Iterator[Claiming]:
        """Give the batch of this number, from 0 on, a claim that it may make once; an unused one passes at the end."""
        is_used = False

        def claim(hashes: Sequence[str | None]) -> list[tuple[Original | None, bool]]:
            nonlocal is_used
            is_used = True
            with self._wait_for(number):
                return [(None, False) if one is None else self._originals.claim(one) for one in hashes]

        try:
            yield claim
        finally:
            if not is_used:
                with self._wait_for(number):
                    pass

    @contextmanager
    def _wait_for(self, number: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._next == number)
            try:
                yield
            finally:
                self._next += 1
                self._changed.notify_all()


@dataclass(frozen=True)
class Found:
    """What is known of one file before the rows of earlier files are."""

    path: str
    """As it stands in the row."""
    original: Original | None
    """What is remembered of its content; None where nothing is."""
    result: FileResult | None
    """Its row, without a finding; None for a copy."""


@dataclass(frozen=True)
class Seen:
    """What a scan remembers of earlier files; a resumed scan takes it from the rows that stay."""

    originals: Originals
    """Contents that were judged."""
    findings: Findings | None
    """Groups of near-duplicates; None where nobody asked for them."""

    @classmethod
    def nothing(cls, distance: int | None) -> "Seen":
        """Return the memory of a scan that begins; `distance` as in ScanSettings.dedupe."""
        return cls(Originals(), None if distance is None else Findings(distance))

    def row(self, found: Found) -> FileResult:
        """Return a file's row, and remember it; files come in their order."""
        original, result = found.original, found.result
        if result is None:
            assert original is not None
            return original.row_for(found.path)
        if self.findings is not None and result.phash is not None:
            result = replace(result, cluster=self.findings.number(int(result.phash, 16)))
        if original is not None:
            original.keep(result)
        return result

    def replay(self, result: FileResult) -> None:
        """Remember a row of an earlier report as if its file had been judged just now."""
        original, is_copy = (None, False) if result.sha256 is None else self.originals.claim(result.sha256)
        if not is_copy:
            self.row(Found(result.path, original, result))
