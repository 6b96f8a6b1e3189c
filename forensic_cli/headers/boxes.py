"""Boxes of AVIF, HEIC and JPEG 2000 files, and what they say that Pillow does not tell."""

import re
from collections.abc import Iterator

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
