"""Containers that several formats share: directories of tags (TIFF, EXIF) and boxes (AVIF, HEIC, JPEG 2000).

Sources: TIFF 6.0 section 2, and BigTIFF with its 8-byte numbers; EXIF 2.32 section 4.6; ISO/IEC 14496-12 section 4.2
and ISO/IEC 15444-1 annex I for boxes; C2PA 2.2 section A.3 for where such files keep a manifest. Pillow's EXIF reader
is not used: hostile tags make it slow, it decodes UTF-8 as Latin-1, and it skips a text that the end of the file cuts.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

MAKE, MODEL, SOFTWARE, DESCRIPTION, USER_COMMENT, XMP = 0x010F, 0x0110, 0x0131, 0x010E, 0x9286, 0x02BC
EXIF_TEXTS = frozenset((MAKE, MODEL, SOFTWARE, DESCRIPTION, USER_COMMENT, XMP))
"""Tags whose texts are read; XMP is the packet that a TIFF keeps among its tags."""
_ORIENTATION, _EXIF_DIRECTORY = 0x0112, 0x8769
_WIDTH, _HEIGHT = 256, 257
_PIXEL_DATA = ((273, 279), (324, 325))
"""Tags of the offsets and byte counts of strips, and of tiles."""
_BYTES = {3: 2, 4: 4, 16: 8}
"""{code of a type of numbers: bytes of each}: SHORT, LONG, and LONG8 of BigTIFF."""
_TEXT_TYPES = frozenset((1, 2, 7))  # BYTE, ASCII, UNDEFINED
_MOST_PAGES = 64
"""Pages that are looked at; a chain of a million directories must not take minutes."""
_MOST_TAGS = 1 << 16
"""After so many tags no further page is looked at, and no more of one page: pages may overlap in a small file."""
_LONGEST_TEXT = 1 << 16
"""Bytes of one tag's text that are read."""

Numbers = npt.NDArray[np.uint64]


class Exif(NamedTuple):
    """What is wanted of an EXIF block, or of a TIFF's own tags."""

    orientation: int = 1
    """1 to 8; 1 also where it is missing or unknown."""
    texts: Mapping[int, bytes] = MappingProxyType({})
    """{tag of EXIF_TEXTS: its bytes}, at most 64 KiB each."""


@dataclass
class TiffStructure:
    """What the directories of a TIFF say about the file itself."""

    exif: Exif | None = None
    """Of the first page; None without one."""
    ends_early: bool = False
    """A directory, or pixel data that one points to, lies beyond the end of the file."""
    is_ambiguous: bool = False
    """A side is given twice: Pillow would read the last one, libtiff the first."""
    size: tuple[int, int] = (0, 0)
    """Width and height of the first page that gives both, in pixels; 0: not given."""


class _Entry(NamedTuple):
    tag: int
    kind: int
    """Code of the type of the values."""
    size: int
    """Number of values; of a text, its bytes."""
    field: int
    """What stands in the entry for the values, as a number: an offset, if they are longer than a word."""
    place: int
    """Where the values are."""


class _EndsEarlyError(Exception):
    pass


class _Directories:
    """Reads the directories of a TIFF, and never outside its bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        is_big = self.number(2, 2) == 43
        self.word, self.count, self.start = (8, 8, 8) if is_big else (4, 2, 4)
        self.row = struct.Struct(("<" if self.order == "little" else ">") + ("HHQQ" if is_big else "HHII"))

    def number(self, place: int, size: int) -> int:
        if place + size > len(self.data):
            raise _EndsEarlyError
        return int.from_bytes(self.data[place : place + size], self.order)

    def directory(self, place: int) -> tuple[list[_Entry], int]:
        """Return the entries that are in the file, and where the directory ends, perhaps beyond it.

        It is a count, the entries (tag, type, number of values, and the values or, if these are longer than a word,
        their offset), and the offset of the next directory.
        """
        count = min(self.number(place, self.count), _MOST_TAGS)
        first, entries = place + self.count, []
        whole = min(count, (len(self.data) - first) // self.row.size)
        rows = self.row.iter_unpack(self.data[first : first + whole * self.row.size])
        for end, (tag, kind, size, field) in enumerate(rows, 1):
            is_inline = size * _BYTES.get(kind, 1) <= self.word
            place = first + end * self.row.size - self.word if is_inline else field
            entries.append(_Entry(tag, kind, size, field, place))
        return entries, first + count * self.row.size

    def pages(self) -> Iterator[list[_Entry]]:
        """Yield the entries of each directory, from the first one on; raises behind one that is cut."""
        place, seen, tags = self.number(self.start, self.word), set[int](), 0
        while place and place not in seen and len(seen) < _MOST_PAGES and tags < _MOST_TAGS:
            seen.add(place)
            entries, end = self.directory(place)
            tags += len(entries)
            yield entries
            if end > len(self.data):
                raise _EndsEarlyError
            place = self.number(end, self.word) if end + self.word <= len(self.data) else 0

    def values(self, entry: _Entry) -> Numbers:
        """Return the numbers of an entry whose type is in _BYTES."""
        size = _BYTES[entry.kind]
        if entry.place + entry.size * size > len(self.data):
            raise _EndsEarlyError
        kind = np.dtype(f"u{size}").newbyteorder(self.order)
        return np.frombuffer(self.data, kind, entry.size, entry.place).astype(np.uint64)

    def exif(self, entries: list[_Entry]) -> Exif:
        """Return what is wanted of the first directory, and of the EXIF directory that it points to; never raises."""
        tags = {entry.tag: entry for entry in entries}
        texts = [entry for tag, entry in tags.items() if tag in EXIF_TEXTS]
        try:
            inner, _ = self.directory(tags[_EXIF_DIRECTORY].field)
            texts += [entry for entry in inner if entry.tag == USER_COMMENT]
        except (KeyError, _EndsEarlyError):  # there is no such directory
            pass
        turn = tags.get(_ORIENTATION)
        # One SHORT or LONG, which stands in the entry itself
        is_number = turn is not None and turn.size == 1 and turn.kind in (3, 4)
        orientation = self.number(turn.place, _BYTES[turn.kind]) if turn and is_number else 1
        ends = {text: text.place + min(text.size, _LONGEST_TEXT) for text in texts if text.kind in _TEXT_TYPES}
        return Exif(valid_orientation(orientation), {text.tag: self.data[text.place : ends[text]] for text in ends})


def read_exif(data: bytes) -> Exif:
    """Read an EXIF block, with its "Exif" signature or without; never raises, whatever the bytes."""
    data = data.removeprefix(b"Exif\0\0")
    if not data.startswith((b"II*\0", b"MM\0*")):
        return Exif()
    file = _Directories(data)
    try:
        return file.exif(file.directory(file.number(file.start, file.word))[0])
    except _EndsEarlyError:
        return Exif()


def valid_orientation(value: object) -> int:
    """Return an orientation as it is, or 1 if EXIF does not define it."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def read_tiff(data: bytes) -> TiffStructure:
    """Follow the directories of a TIFF, up to a number of pages."""
    structure = TiffStructure()
    try:
        file = _Directories(data)
        for number, entries in enumerate(file.pages()):
            if number == 0:
                structure.exif = file.exif(entries)
            _look_at_page(structure, file, entries)
    except _EndsEarlyError:
        structure.ends_early = True
    return structure


def _look_at_page(structure: TiffStructure, file: _Directories, entries: list[_Entry]) -> None:
    tags = [entry.tag for entry in entries]
    structure.is_ambiguous |= tags.count(_WIDTH) > 1 or tags.count(_HEIGHT) > 1
    numbers = {entry.tag: entry for entry in entries if entry.kind in _BYTES}
    sides = [numbers[tag] for tag in (_WIDTH, _HEIGHT) if tag in numbers and numbers[tag].size == 1]
    if len(sides) == 2 and not structure.size[0]:
        structure.size = (int(file.values(sides[0])[0]), int(file.values(sides[1])[0]))
    for offsets, byte_counts in _PIXEL_DATA:
        if offsets in numbers and byte_counts in numbers:
            _check_extent(file.values(numbers[offsets]), file.values(numbers[byte_counts]), len(file.data))


def _check_extent(starts: Numbers, sizes: Numbers, length: int) -> None:
    count = min(len(starts), len(sizes))
    starts, sizes = starts[:count], sizes[:count]
    # Each alone, too, as the sum of two numbers near 2^64 overflows to a small one
    if count and max(int(numbers.max()) for numbers in (starts, sizes, starts + sizes)) > length:
        raise _EndsEarlyError


_MOST_BOXES = 10_000
_AVIF_BRANDS = (b"avif", b"avis")
_EITHER_BRANDS = (b"mif1", b"msf1")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", *_EITHER_BRANDS)
_TURN = re.compile(rb"\0\0\0\x09(irot[\x01-\x03]|imir)")
"""A property box of 9 bytes that rotates or mirrors (ISO/IEC 23008-12 sections 6.5.10 and 6.5.12)."""
_MANIFEST = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Identifier of the uuid box that holds a C2PA manifest."""
_CODESTREAM = b"\xff\x4f\xff\x51"
"""A JPEG 2000 picture begins with these two markers, in a box of JP2 or by itself."""
_PROPERTIES = 1 << 16
"""Bytes at the beginning of a file that are searched for properties of its picture."""


def iso_format(head: bytes) -> str | None:
    """Return AVIF or HEIC by the brands in the first box, the major one first; None for a video and the like."""
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4], "big")), 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] in _EITHER_BRANDS and set(_AVIF_BRANDS) & set(brands)):
        return "AVIF"
    return "HEIC" if brands[0] in _HEIC_BRANDS else None


class Boxes:
    """The outermost boxes of a file: a size of four bytes, a name of four, and a body."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.found = list(self._walk())

    def _walk(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield name, start of the body, and end of each box; an end may lie beyond the file's."""
        place = 0
        for _ in range(_MOST_BOXES):
            if place + 8 > len(self.data):
                return
            size, body = int.from_bytes(self.data[place : place + 4], "big"), place + 8
            if size == 1:  # the size follows the name, in eight bytes
                size, body = int.from_bytes(self.data[place + 8 : place + 16], "big"), place + 16
            end = len(self.data) if size == 0 else place + size
            yield self.data[place + 4 : place + 8], body, end
            if end < body:
                return
            place = end

    def are_too_many(self) -> bool:
        """Tell whether the walk was given up; real files have ten boxes or so."""
        return len(self.found) >= _MOST_BOXES

    def end_early(self, name: str) -> bool:
        """Tell whether a box reaches beyond the file, or the one with the picture is missing."""
        if self.data.startswith(_CODESTREAM):
            return False
        pictures = (b"jp2c",) if name == "JPEG2000" else (b"meta", b"moov")
        return any(end > len(self.data) for *_, end in self.found) or not any(box in pictures for box, *_ in self.found)

    def have_manifest(self) -> bool:
        """Tell whether one of the boxes is a C2PA manifest."""
        return any(name == b"uuid" and self.data.startswith(_MANIFEST, body) for name, body, _ in self.found)

    def jpeg2000_size(self) -> tuple[int, int, int]:
        """Return width, height and bits of the codestream, which is what OpenJPEG decodes; zeros without one.

        Its SIZ segment (ISO/IEC 15444-1 section A.5.1) gives right and bottom edge, then left and top, in 4 bytes each.
        """
        bodies = (body for name, body, _ in self.found if name == b"jp2c")
        start = 0 if self.data.startswith(_CODESTREAM) else next(bodies, len(self.data))
        sizes = self.data[start : start + 43]
        if len(sizes) < 43 or not sizes.startswith(_CODESTREAM):
            return 0, 0, 0
        right, bottom, left, top = (int.from_bytes(sizes[i : i + 4], "big") for i in (8, 12, 16, 20))
        return right - left, bottom - top, (sizes[42] & 127) + 1


def is_deep_avif(data: bytes) -> bool:
    """Tell whether the codec configuration of an AVIF says more than 8 bits (AV1 in ISOBMFF section 2.3.3)."""
    place = data.find(b"av1C", 0, _PROPERTIES)
    return place >= 0 and len(data) > place + 6 and bool(data[place + 6] & 0x40)


def is_turned(data: bytes) -> bool:
    """Tell whether a property of the picture rotates or mirrors it."""
    return _TURN.search(data, 0, _PROPERTIES) is not None
