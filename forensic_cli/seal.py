"""The seal of a results file: a hash chain over header and rows, and short marks that tell which row changed.

A seal shows that a file is as the scan wrote it. It keeps no secret: who edits a file can seal it anew, so its hash is
worth noting down elsewhere.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

SEAL = "seal"
"""Key of the seal in a results file."""
MOST_MARKS = 1 << 14
"""Marks in one seal; where there are more rows, a mark stands for 2, 4, 8, ... of them."""
_MARK_BYTES = 4
_MARK_MODULUS = 1 << (8 * _MARK_BYTES)


def digest(text: bytes) -> bytes:
    """Return the sha256 of a line's bytes, 32 bytes."""
    return hashlib.sha256(text).digest()


def chain(header: bytes, rows: Iterable[bytes], summary: bytes | None) -> str:
    """Link digests: each link is the sha256 of the one before it and the next digest. Returns the last, hexadecimal."""
    link = header
    for one in rows:
        link = digest(link + one)
    return (digest(link + summary) if summary is not None else link).hex()


def mark(row: bytes) -> int:
    """Return the short mark of a row's digest."""
    return int.from_bytes(row[:_MARK_BYTES], "big")


def fold(marks: Sequence[int], each: int) -> list[int]:
    """Return one mark for every `each` of them: their sum."""
    return [sum(marks[i : i + each]) % _MARK_MODULUS for i in range(0, len(marks), each)]


def unpack_marks(text: str) -> list[int]:
    """Read the marks of a seal back. Raises ValueError for text that is none."""
    data = bytes.fromhex(text)
    if len(data) % _MARK_BYTES:
        raise ValueError("marks have an odd length")
    return [mark(data[i : i + _MARK_BYTES]) for i in range(0, len(data), _MARK_BYTES)]


def seal_of(
    header: bytes, chained: str, rows: int, marks: Sequence[int], each: int, summary: bytes | None
) -> dict[str, Any]:
    """Return the JSON-ready seal."""
    record: dict[str, Any] = {"rows": rows, "sha256": chained, "header": header.hex()}
    if summary is not None:
        record["summary"] = summary.hex()
    return {**record, "each": each, "marks": b"".join(one.to_bytes(_MARK_BYTES, "big") for one in marks).hex()}


def seal_line(record: dict[str, Any]) -> str:
    """Return the last line of a JSON Lines file, without its newline."""
    return json.dumps({SEAL: record})


class Sealer:
    """Seals a file while it is written; needs no more memory for a million rows than for a few thousand."""

    def __init__(self, header: str | bytes) -> None:
        self._header = digest(_bytes(header))
        self._link = self._header
        self._rows = 0
        self._marks: list[int] = []
        self._each = 1

    def add(self, row: str | bytes) -> None:
        """Link one row, given as its JSON text."""
        one = digest(_bytes(row))
        self._link = digest(self._link + one)
        if self._rows % self._each == 0:
            if len(self._marks) == MOST_MARKS:
                self._marks, self._each = fold(self._marks, 2), 2 * self._each
            self._marks.append(0)
        self._marks[-1] = (self._marks[-1] + mark(one)) % _MARK_MODULUS
        self._rows += 1

    def close(self, summary: str | None = None) -> dict[str, Any]:
        """Return the seal over all that was added, and over a summary where the format has one."""
        last = None if summary is None else digest(_bytes(summary))
        link = self._link if last is None else digest(self._link + last)
        return seal_of(self._header, link.hex(), self._rows, self._marks, self._each, last)


def differing(sealed: Sequence[int], found: Sequence[int]) -> list[int]:
    """Return the places at which two lists of marks differ; one that is longer differs in its rest."""
    return [i for i, (a, b) in enumerate(zip_longest(sealed, found)) if a != b]


def _bytes(text: str | bytes) -> bytes:
    # As output.Output encodes it
    return text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")
