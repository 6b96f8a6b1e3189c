"""Directories of TIFF files: finds pages whose bytes are not there, and sizes that readers would disagree on."""

import re
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


_MOST_BOXES = 10_000
_AVIF_BRANDS = (b"avif", b"avis")
_EITHER_BRANDS = (b"mif1", b"msf1")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", *_EITHER_BRANDS)
_TURN = re.compile(rb"\0\0\0\x09(irot[\x01-\x03]|imir)")
_CODESTREAM = b"\xff\x4f\xff\x51"


def iso_format(head: bytes) -> str | None:
    """Return AVIF or HEIC by the brands in the first box, the major one first; None for a video and the like."""
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] in _EITHER_BRANDS and set(_AVIF_BRANDS) & set(brands)):
        return "AVIF"
    return "HEIC" if brands[0] in _HEIC_BRANDS else None


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte of the body, and end of each box of the file; an end may lie behind the file's."""
    place = 0
    for _ in range(_MOST_BOXES):
        if place + 8 > len(data):
            return
        size, body = int.from_bytes(data[place : place + 4], "big"), place + 8
        if size == 1:
            size, body = int.from_bytes(data[place + 8 : place + 16], "big"), place + 16
        end = len(data) if size == 0 else place + size
        yield data[place + 4 : place + 8], body, end
        if end < body:
            return
        place = end


def has_too_many_boxes(data: bytes) -> bool:
    """Tell whether following all boxes would take long; real files have ten or so."""
    return sum(1 for _ in boxes(data)) >= _MOST_BOXES


def boxes_end_early(data: bytes, name: str) -> bool:
    """Tell whether a box reaches beyond the file, or the one with the picture is not there."""
    if data.startswith(_CODESTREAM):
        return False
    found = list(boxes(data))
    return any(end > len(data) for _, _, end in found) or not any(
        box in ((b"jp2c",) if name == "JPEG2000" else (b"meta", b"moov")) for box, _, _ in found
    )


def is_deep_avif(data: bytes) -> bool:
    """Tell whether the codec configuration in front of an AVIF's pixels says more than 8 bits."""
    place = data.find(b"av1C", 0, 1 << 16)
    return place >= 0 and len(data) > place + 6 and bool(data[place + 6] & 0x40)


def is_turned(data: bytes) -> bool:
    """Tell whether a property in front of the pixels rotates or mirrors them."""
    return _TURN.search(data, 0, 1 << 16) is not None


def jpeg2000_size(data: bytes) -> tuple[int, int, int] | None:
    """Return width, height and bits that the codestream gives, which is what OpenJPEG decodes; None without one."""
    start = 0 if data.startswith(_CODESTREAM) else next((b for name, b, _ in boxes(data) if name == b"jp2c"), -1)
    sizes = data[start : start + 43]
    if start < 0 or len(sizes) < 43 or not sizes.startswith(_CODESTREAM):
        return None
    right, bottom, left, top = (int.from_bytes(sizes[i : i + 4], "big") for i in (8, 12, 16, 20))
    return right - left, bottom - top, (sizes[42] & 127) + 1
