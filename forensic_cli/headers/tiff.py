"""Directories of TIFF files: finds pages whose bytes are not there, and sizes that readers would disagree on."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_SIZES = {"H": 2, "I": 4, "Q": 8}
_TYPES = {3: "H", 4: "I", 16: "Q"}  # short, long, long of BigTIFF
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_SIDES = (256, 257)
_MOST_PAGES = 64
"""Pages that are looked at; a chain of a million directories must not take minutes."""
_MOST_TAGS = 1 << 16

Offsets = npt.NDArray[np.uint64]


@dataclass
class Structure:
    """What the directories of a TIFF say of the file itself."""

    ends_early: bool = False
    """A directory, or pixels that one points to, lie behind the end of the file."""
    ambiguous: bool = False
    """A side of the picture is given twice: Pillow would read the last one, libtiff the first."""
    width: int = 0
    """Pixels, of the first page; 0: not given."""
    height: int = 0
    """Pixels, of the first page; 0: not given."""


class _EndsEarlyError(Exception):
    pass


@dataclass
class _Reader:
    data: bytes
    order: str = field(init=False)
    big: bool = field(init=False)

    def __post_init__(self) -> None:
        self.order = "<" if self.data[:2] == b"II" else ">"
        self.big = self.number("H", 2) == 43

    def number(self, kind: str, place: int) -> int:
        return int(self.numbers(kind, place, 1)[0])

    def numbers(self, kind: str, place: int, count: int) -> Offsets:
        if place + count * _SIZES[kind] > len(self.data):
            raise _EndsEarlyError
        return np.frombuffer(self.data, f"{self.order}u{_SIZES[kind]}", count, place).astype(np.uint64)

    def directories(self) -> Iterator[list[tuple[int, int, int, int]]]:
        """Yield the entries of each directory: tag, type, count and where the value field is."""
        word, head, entry = ("Q", 8, 20) if self.big else ("I", 2, 12)
        place, seen = self.number(word, 8 if self.big else 4), set[int]()
        while place and place not in seen and len(seen) < _MOST_PAGES:
            seen.add(place)
            count = min(self.number("Q" if self.big else "H", place), _MOST_TAGS)
            end = place + head + count * entry
            if end > len(self.data):
                raise _EndsEarlyError
            layout = struct.Struct(f"{self.order}HH{word}{word}")
            rows = layout.iter_unpack(self.data[place + head : end])
            first = place + head + layout.size - _SIZES[word]
            yield [(tag, kind, many, first + i * entry) for i, (tag, kind, many, _) in enumerate(rows)]
            place = self.number(word, end) if end + _SIZES[word] <= len(self.data) else 0

    def values(self, kind: int, count: int, place: int) -> Offsets:
        letter, room = _TYPES[kind], 8 if self.big else 4
        inline = count * _SIZES[letter] <= room
        return self.numbers(letter, place if inline else self.number("Q" if self.big else "I", place), count)


def look_at_tiff(data: bytes) -> Structure:
    """Follow the directories of a TIFF, up to a number of pages."""
    found = Structure()
    try:
        reader = _Reader(data)
        for entries in reader.directories():
            tags = [tag for tag, *_ in entries]
            found.ambiguous |= any(tags.count(side) > 1 for side in _SIDES)
            wanted = {tag: rest for tag, *rest in entries if rest[0] in _TYPES}
            if not found.width and all(wanted.get(side, (0, 0))[1] == 1 for side in _SIDES):
                found.width, found.height = (int(reader.values(*wanted[side])[0]) for side in _SIDES)
            for where, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
                if where in wanted and sizes in wanted:
                    _check(reader.values(*wanted[where]), reader.values(*wanted[sizes]), len(data))
    except _EndsEarlyError:
        found.ends_early = True
    return found


def _check(starts: Offsets, sizes: Offsets, length: int) -> None:
    count = min(len(starts), len(sizes))
    if count and int(starts[:count].max()) > length:
        raise _EndsEarlyError
    if count and int((starts[:count] + sizes[:count]).max()) > length:
        raise _EndsEarlyError
