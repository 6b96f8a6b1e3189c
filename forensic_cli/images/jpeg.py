"""JPEG files: header and metadata from one walk from marker to marker, up to the first scan.

Sources: ITU-T T.81 annex B for the segments; EXIF 2.32 section 4.5.4, XMP part 3 section 1.1.3, IPTC-IIM in Photoshop's
APP13 and C2PA 2.2 section A.3 for the metadata in them.
"""

import re
from dataclasses import dataclass, field, replace

from forensic_cli.images.header import Blocks, Header, Inspection, Unreadable, make_header

_MARKER = re.compile(rb"\xff[\x01-\xfe]")  # two bytes, so that a file of nothing but \xff is searched in one go
_SCANS = re.compile(rb"\xff\xda(?=(.{0,14}))", re.DOTALL)
"""Each scan's header: length, count of components, two bytes for each, first and last coefficient, bits."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_QUANTISATION, _SCAN, _END = 0xDB, 0xDA, 0xD9
_BESIDE_THE_PICTURE = frozenset(range(0xE1, 0xFF)) - {0xEE}
"""Segments of applications, reserved ones and comments; JFIF's (E0) and Adobe's (EE) tell how colours are stored."""
_EXIF, _ICC, _XMP, _PHOTOSHOP = b"Exif\0\0", b"ICC_PROFILE\0", b"http://ns.adobe.com/xap/1.0/\0", b"Photoshop 3.0\0"
_MOST_SEGMENTS = 1 << 16  # 4 GB in full ones; a file of empty segments must not take minutes
_MOST_SCANS = 100
"""Encoders write 20 or so. A scan of a hundred bytes costs a pass over all pixels, so thousands would take hours."""
_HEAVY = 75
"""Quality below which a JPEG is `heavily_compressed`."""
# Annex K.1 of ITU-T T.81, the luma table that libjpeg scales; the order does not matter for a sum
_LUMA_STEPS = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass
class _Walk:
    frame: bytes = b""
    """Body of the frame header: precision, height, width, components."""
    is_progressive: bool = False
    tables: dict[int, int] = field(default_factory=dict)
    """{number of a quantisation table: the sum of its 64 steps}, as they stand when the first scan begins."""
    icc: bytes = b""
    blocks: Blocks = field(default_factory=Blocks)
    scan: int = 0
    """Where the first scan begins; 0: nowhere."""
    essential: list[tuple[int, int]] = field(default_factory=list)
    """Where each segment that the picture needs begins and ends, up to the first scan."""
    is_cut: bool = False
    """The file ends inside the header."""


def inspect_jpeg(data: bytes) -> Inspection:
    """Read the header and the metadata of a JPEG."""
    walk = _walk(data)
    parts = ((0, 2), *walk.essential, (walk.scan, len(data)))
    return Inspection(_result(data, walk), walk.blocks.items, parts)


def _result(data: bytes, walk: _Walk) -> Header | Unreadable:
    if len(walk.frame) < 6 or not walk.frame[5]:
        return Unreadable.truncated(None, "JPEG") if walk.is_cut else Unreadable.bad_header("JPEG")
    header = _header(walk)
    if not header.width or not header.height:
        return Unreadable.bad_header("JPEG")
    if walk.frame[0] != 8:
        reason = f"JPEG files with {walk.frame[0]} bits per channel cannot be decoded"
        return Unreadable("unsupported", reason, header)
    if not walk.scan:
        damaged = Unreadable("damaged", "the JPEG data is damaged", header)
        return Unreadable.truncated(header, "JPEG") if walk.is_cut else damaged
    end = data.find(b"\xff\xd9", walk.scan)  # what follows, such as a phone's video, is no scan
    scans = _SCANS.findall(data, walk.scan, end if end >= 0 else len(data))
    if len(scans) > _MOST_SCANS:
        return Unreadable("damaged", f"the JPEG has {len(scans)} scans; at most {_MOST_SCANS} are allowed", header)
    if walk.is_progressive and not _is_complete(scans, walk.frame[6::3]):
        return header.with_warnings("scans_missing")
    return header


def _is_complete(scans: list[bytes], components: bytes) -> bool:
    """Tell whether scans bring each of the 64 coefficients of each component to its last bit."""
    missing = {component: set(range(64)) for component in components}
    for scan in scans:
        count = scan[2] if len(scan) > 2 else 0
        first, last, bits = (scan[3 + 2 * count :] + bytes(3))[:3]
        if bits & 15 == 0:
            for component in scan[3 : 3 + 2 * count : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
    return not any(missing.values())


def _walk(data: bytes) -> _Walk:
    walk, place, is_broken = _Walk(), 2, False
    for _ in range(_MOST_SEGMENTS):
        match = _MARKER.search(data, place)  # as libjpeg does it: stray and fill bytes are passed over
        if match is None:
            walk.is_cut = True
            break
        marker, place = data[match.start() + 1], match.end()
        if marker == _SCAN:
            walk.scan = match.start()
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # markers without a body
            continue
        if marker == _END:
            break
        if marker < 0xC0:  # where libjpeg gives up; but there may be metadata behind it
            is_broken = True
            continue
        end = place + int.from_bytes(data[place : place + 2], "big")
        body = data[place + 2 : end]
        if marker in _BESIDE_THE_PICTURE:
            end = max(end, place + 2)  # as libjpeg does it: a length of nothing hides no picture
            _take_metadata(walk, marker, body)  # even if the end of the file cuts it
        if end < place + 2 or end > len(data):
            walk.is_cut = end > len(data) or place + 2 > len(data)
            break
        if marker not in _BESIDE_THE_PICTURE and not is_broken:
            walk.essential.append((match.start(), end))
            if marker in _FRAMES and not walk.frame:
                walk.frame, walk.is_progressive = body, marker in _PROGRESSIVE
            elif marker == _QUANTISATION:
                walk.tables |= _table_sums(body)
        place = end
    if is_broken:
        walk.scan, walk.is_cut = 0, False
    return walk


def _take_metadata(walk: _Walk, marker: int, body: bytes) -> None:
    if marker == 0xE1 and body.startswith(_EXIF):
        walk.blocks.add("exif", body)
    elif marker == 0xE1 and body.startswith(_XMP):
        walk.blocks.add("xmp", body.removeprefix(_XMP))
    elif marker == 0xE2 and body.startswith(_ICC) and len(walk.icc) < 1 << 20:
        walk.icc += body[14:]  # behind the number of this part and of all parts
    elif marker == 0xEB and body.startswith(b"JP") and b"c2pa" in body[:64]:  # JUMBF, and what its first box is
        walk.blocks.add("c2pa")
    elif marker == 0xED and body.startswith(_PHOTOSHOP):
        walk.blocks.add("iptc", body)
    elif marker == 0xFE:
        walk.blocks.add("comment", body)


def _table_sums(body: bytes) -> dict[int, int]:
    sums, place = {}, 0
    while place < len(body):
        wide, number = body[place] >> 4, body[place] & 15
        steps = body[place + 1 : place + 1 + (128 if wide else 64)]
        sums[number] = 256 * sum(steps[::2]) + sum(steps[1::2]) if wide else sum(steps)
        place += 1 + (128 if wide else 64)
    return sums


def _header(walk: _Walk) -> Header:
    height, width = int.from_bytes(walk.frame[1:3], "big"), int.from_bytes(walk.frame[3:5], "big")
    luma = walk.frame[8] if len(walk.frame) > 8 else 0  # the number of the table that the first component uses
    quality = None
    if (steps := walk.tables.get(luma)) is not None:  # the nearest, as cameras write tables of their own
        quality = min(range(1, 101), key=lambda quality: abs(_TABLE_SUMS[quality - 1] - steps))
    changes = {
        "converted_from_cmyk": walk.frame[5] == 4,
        "heavily_compressed": quality is not None and quality < _HEAVY,
    }
    header = make_header("JPEG", (width, height), changes, walk.blocks.orientation, walk.icc)
    return replace(header, compression="jpeg", quality=quality)


def _table_sum(quality: int) -> int:
    """Return the sum of libjpeg's luma table at a quality (jcparam.c, jpeg_quality_scaling)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(255, max(1, (step * scale + 50) // 100)) for step in _LUMA_STEPS)


_TABLE_SUMS = [_table_sum(quality) for quality in range(1, 101)]
