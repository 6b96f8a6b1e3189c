"""Headers of JPEG files: a walk from marker to marker, up to the first scan."""

import re
from dataclasses import dataclass, field, replace

from forensic_cli.images.header import Header, Unreadable, bad_header, exif_orientation, is_other_profile, make_header
from forensic_cli.images.header import truncated as ends_early

_MARKER = re.compile(rb"\xff[\x01-\xfe]")  # two bytes, so that a file of nothing but \xff is searched in one go
_SCANS = re.compile(rb"\xff\xda(?=(.{0,14}))", re.DOTALL)
"""Each scan's header: length, count of components, two bytes for each, first and last coefficient, bits."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_QUANTISATION, _SCAN, _END = 0xDB, 0xDA, 0xD9
_BESIDE_THE_PICTURE = frozenset(range(0xE1, 0xFF)) - {0xEE}
"""Applications' segments, reserved ones and comments, without JFIF's (E0) and Adobe's, which tell of the colours."""
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_MOST_SEGMENTS = 1 << 16  # 4 GB in full ones; a file of empty segments must not take minutes
_MOST_SCANS = 100
"""Encoders write 20 or so. A scan of a hundred bytes costs a pass over all pixels, so thousands take hours."""
_HEAVY = 75
"""Quality below which `heavily_compressed` is said."""
# Annex K.1 of ITU-T T.81, the luma table that libjpeg scales; the order does not matter for a sum
_LUMA_STEPS = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)


@dataclass
class _Segments:
    frame: bytes = b""
    """Body of the frame header: precision, height, width, components."""
    progressive: bool = False
    tables: dict[int, int] = field(default_factory=dict)
    """{number of a quantisation table: the sum of its 64 steps}, as they stand when the first scan begins."""
    exif: bytes = b""
    icc: bytes = b""
    scan: int = 0
    """Where the first scan begins; 0: nowhere."""
    needed: list[tuple[int, int]] = field(default_factory=list)
    """Where each segment that the picture needs begins and ends, up to the first scan."""
    cut: bool = False
    """The file ends inside the header."""


def inspect_jpeg(data: bytes) -> Header | Unreadable:
    """Read the header of a JPEG."""
    found = _walk(data)
    if len(found.frame) < 6 or not found.frame[5]:
        return ends_early(name="JPEG") if found.cut else bad_header("JPEG")
    header = _header(found)
    if not header.width or not header.height:
        return bad_header("JPEG")
    if found.frame[0] != 8:
        return Unreadable("unsupported", f"JPEG files of {found.frame[0]} bits a channel cannot be decoded", header)
    if not found.scan:
        return ends_early(header) if found.cut else Unreadable("damaged", "the JPEG data is damaged", header)
    end = data.find(b"\xff\xd9", found.scan)  # what follows, such as a phone's video, is no scan
    scans = _SCANS.findall(data, found.scan, end if end >= 0 else len(data))
    if len(scans) > _MOST_SCANS:
        return Unreadable("damaged", f"the JPEG has {len(scans)} scans; a picture has {_MOST_SCANS} at most", header)
    if found.progressive and not _is_complete(scans, found.frame[6::3]):
        return header.with_warnings("scans_missing")
    return header


def without_metadata(data: bytes) -> bytes:
    """Return a JPEG of all that its picture needs: without profiles, comments, and bytes that belong to no segment."""
    found = _walk(data)
    return data[:2] + b"".join(data[start:end] for start, end in found.needed) + data[found.scan :]


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


def _walk(data: bytes) -> _Segments:
    found, place = _Segments(), 2
    for _ in range(_MOST_SEGMENTS):
        match = _MARKER.search(data, place)
        if match is None:
            found.cut = True
            break
        marker, place = data[match.start() + 1], match.end()
        if marker == _SCAN:
            found.scan = match.start()
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:
            continue
        if marker == _END or marker < 0xC0:
            break
        end = place + int.from_bytes(data[place : place + 2], "big")
        if marker in _BESIDE_THE_PICTURE:
            end = max(end, place + 2)  # as libjpeg does it: a length of nothing hides no picture
        if end < place + 2 or end > len(data):
            found.cut = end > len(data) or place + 2 > len(data)
            break
        _take(found, marker, data[place + 2 : end])
        if marker not in _BESIDE_THE_PICTURE:
            found.needed.append((match.start(), end))
        place = end
    return found


def _take(found: _Segments, marker: int, body: bytes) -> None:
    if marker in _FRAMES and not found.frame:
        found.frame, found.progressive = body, marker in _PROGRESSIVE
    elif marker == _QUANTISATION:
        found.tables |= _table_sums(body)
    elif marker == 0xE1 and body.startswith(_EXIF) and not found.exif:
        found.exif = body
    elif marker == 0xE2 and body.startswith(_ICC) and len(found.icc) < 1 << 20:
        found.icc += body[14:]


def _table_sums(body: bytes) -> dict[int, int]:
    sums, place = {}, 0
    while place < len(body):
        wide, number = body[place] >> 4, body[place] & 15
        steps = body[place + 1 : place + 1 + (128 if wide else 64)]
        sums[number] = 256 * sum(steps[::2]) + sum(steps[1::2]) if wide else sum(steps)
        place += 1 + (128 if wide else 64)
    return sums


def _header(found: _Segments) -> Header:
    height, width = int.from_bytes(found.frame[1:3], "big"), int.from_bytes(found.frame[3:5], "big")
    luma = found.frame[8] if len(found.frame) > 8 else 0  # the first component says which table is its own
    quality = _quality(found.tables[luma]) if luma in found.tables else None
    changes = {
        "colour_profile_ignored": is_other_profile(found.icc),
        "converted_from_cmyk": found.frame[5] == 4,
        "heavily_compressed": quality is not None and quality < _HEAVY,
    }
    header = make_header("JPEG", (width, height), changes, exif_orientation(found.exif) if found.exif else 1)
    return replace(header, compression="jpeg", quality=quality)


def _table_sum(quality: int) -> int:
    """Return the sum of libjpeg's luma table at a quality (jcparam.c, jpeg_quality_scaling)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(255, max(1, (step * scale + 50) // 100)) for step in _LUMA_STEPS)


_TABLE_SUMS = [_table_sum(quality) for quality in range(1, 101)]


def _quality(table_sum: int) -> int:
    """Return the quality whose luma table has the nearest sum: cameras and editors write tables of their own."""
    return min(range(1, 101), key=lambda quality: abs(_TABLE_SUMS[quality - 1] - table_sum))
