"""Labelled images: one as a row, many as columns."""

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

_CODED = ("folder", "generator", "subject", "source", "split")
"""Columns with few different values: each row has the number of its value."""
_TEXTS = ("name", "group")
"""Columns with a value of its own for nearly every row: all in one string of bytes."""
_CHUNK = 8192
"""Rows that are made at once when all are read in order."""
_NO_HASH = bytes(32)
_ENCODING = ("utf-8", "surrogatepass")
"""Returns every string as it was, in any locale; names that are not UTF-8 contain surrogates."""


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled image."""

    path: Path
    """Absolute, or relative to the working folder."""
    generator: str
    """The target label."""
    subject: str
    """What is shown (the paper's subclass); empty where the data has no subjects."""
    group: str = ""
    """Images with the same group stay on one side of a split; empty: the image is a group of its own."""
    source: str = ""
    """Where the image came from; empty if unknown."""
    split: str = ""
    """train, val (calibration), adapt (the unseen images that finetune adapts to) or test; empty: not assigned yet."""
    sha256: str = ""
    """Of the file's bytes; empty: not computed yet."""


class Rows(Sequence[Row]):
    """Rows that cannot be changed, in about a hundred bytes each; an object is made only for a row that is read.

    Processes that load images share the memory, because reading a row writes nothing into it.
    """

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        """Copy the rows."""
        codes = {name: array("i") for name in _CODED}
        known: dict[str, dict[str, int]] = {name: {} for name in _CODED}
        ends = {name: array("q", [0]) for name in _TEXTS}
        texts = {name: bytearray() for name in _TEXTS}
        digests = bytearray()
        for row in rows:
            folder, name = os.path.split(row.path)
            coded = (folder, row.generator, row.subject, row.source, row.split)
            for column, value in zip(_CODED, coded, strict=True):
                codes[column].append(known[column].setdefault(value, len(known[column])))
            for column, value in zip(_TEXTS, (name, row.group), strict=True):
                texts[column] += value.encode(*_ENCODING)
                ends[column].append(len(texts[column]))
            digest = bytes.fromhex(row.sha256) or _NO_HASH
            if len(digest) != len(_NO_HASH):
                raise ValueError(f"{row.sha256!r} is not a sha256")
            digests += digest
        self._codes = {name: np.frombuffer(codes[name], np.int32) for name in _CODED}
        self._values = {name: tuple(known[name]) for name in _CODED}
        # Popped one by one, so that only one of them is in memory twice
        self._texts = {name: bytes(texts.pop(name)) for name in _TEXTS}
        # Start and end of every text, so that a part of the rows needs no other texts
        bounds = {name: np.frombuffer(ends[name], np.int64) for name in _TEXTS}
        self._spans = {name: np.stack([bound[:-1], bound[1:]], axis=1) for name, bound in bounds.items()}
        self._digests = np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def __len__(self) -> int:
        return len(self._digests)

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> "Rows": ...

    def __getitem__(self, index: int | slice) -> "Row | Rows":
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return next(self._made(slice(place, place + 1)))

    def __iter__(self) -> Iterator[Row]:
        for start, stop in pairwise([*range(0, len(self), _CHUNK), len(self)]):
            yield from self._made(slice(start, stop))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return NotImplemented
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as for a list

    def take(self, places: npt.ArrayLike) -> "Rows":
        """Return the rows in these places, in this order. `places`: integers, or a flag for every row."""
        chosen = np.asarray(places)
        chosen = chosen if chosen.size else chosen.astype(np.int64)
        return self._with(
            _codes={name: codes[chosen] for name, codes in self._codes.items()},
            _spans={name: spans[chosen] for name, spans in self._spans.items()},
            _digests=self._digests[chosen],
        )

    def where(self, column: str, values: Iterable[str]) -> "Rows":
        """Return the rows that have one of these values. `column`: generator, subject, source or split."""
        chosen = set(values)
        wanted = [i for i, known in enumerate(self._values[column]) if known in chosen]
        return self.take(np.isin(self._codes[column], wanted))

    def column(self, name: str) -> list[str]:
        """Return the generator, subject, source or split of every row; equal values are the same object."""
        values = self._values[name]
        return [values[code] for code in self._codes[name].tolist()]

    def with_splits(self, splits: Iterable[str]) -> "Rows":
        """Return the rows with another split each. Raises ValueError unless there is one for every row."""
        known: dict[str, int] = {}
        codes = np.fromiter((known.setdefault(split, len(known)) for split in splits), np.int32)
        if len(codes) != len(self):
            raise ValueError(f"{len(codes)} splits for {len(self)} rows")
        return self._with(_codes={**self._codes, "split": codes}, _values={**self._values, "split": tuple(known)})

    def with_digests(self, digests: bytes | bytearray) -> "Rows":
        """Return the rows with the sha256 of each one's file; `digests`: 32 bytes for every row."""
        return self._with(_digests=np.frombuffer(digests, np.uint8).reshape(len(self), 32))

    @property
    def digests(self) -> npt.NDArray[np.bytes_]:
        """The sha256 of every row as S32, which ends at trailing zeros; empty where it is not computed."""
        return np.ascontiguousarray(self._digests).view("S32").reshape(-1)

    def same_bytes(self) -> Iterator[list[int]]:
        """Yield the places of rows with the same bytes, in order, for all bytes that several rows have."""
        return _equal(self.digests)

    def same_group(self) -> Iterator[list[int]]:
        """Yield the places of rows with the same group, in order, for all groups that several rows have."""
        keys = b"".join(sha256(group).digest() if group else _NO_HASH for group in self._text("group", slice(None)))
        return _equal(np.frombuffer(keys, "S32"))

    def _with(self, **columns: Any) -> "Self":
        changed = object.__new__(type(self))
        changed.__dict__.update({**self.__dict__, **columns})
        return changed

    def _made(self, places: slice) -> Iterator[Row]:
        """Yield the rows in these places as objects."""
        coded = [map(self._values[name].__getitem__, self._codes[name][places].tolist()) for name in _CODED]
        names, groups = ((text.decode(*_ENCODING) for text in self._text(name, places)) for name in _TEXTS)
        digests = map(bytes, self._digests[places])
        for columns in zip(*coded, names, groups, digests, strict=True):
            folder, generator, subject, source, split, name, group, digest = columns
            hashed = digest.hex() if digest != _NO_HASH else ""
            yield Row(Path(folder, name), generator, subject, group, source, split, hashed)

    def _text(self, column: str, places: slice) -> Iterator[bytes]:
        text = self._texts[column]
        return (text[start:end] for start, end in self._spans[column][places].tolist())


def _equal(keys: npt.NDArray[np.bytes_]) -> Iterator[list[int]]:
    """Yield the places of equal keys that are not empty."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    is_same = ordered[1:] == ordered[:-1]
    edges = np.flatnonzero(np.diff(np.r_[False, is_same, False]))
    for start, stop in edges.reshape(-1, 2).tolist():
        if ordered[start]:
            yield order[start : stop + 1].tolist()


def as_rows(rows: Iterable[Row]) -> Rows:
    """Return the rows as columns; those that are columns already are returned as they are."""
    return rows if isinstance(rows, Rows) else Rows(rows)
