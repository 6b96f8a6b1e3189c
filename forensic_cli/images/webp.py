"""Headers of WebP files: Pillow would make room for the whole canvas before its size can be looked at."""

from collections.abc import Iterator
from dataclasses import replace

from forensic_cli.images.header import Header, Unreadable, bad_header, exif_orientation, is_other_profile, make_header
from forensic_cli.images.header import truncated as ends_early

_ALPHA, _KEY_FRAME = 0x10, b"\x9d\x01\x2a"
_MOST_CHUNKS = 1 << 18


def inspect_webp(data: bytes) -> Header | Unreadable:
    """Read the header of a WebP."""
    chunks = list(webp_chunks(data))
    header = _header(data, chunks)
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        return ends_early(header, "WEBP")
    if header is None:
        return bad_header("WEBP")
    if len(chunks) == _MOST_CHUNKS:
        return Unreadable("damaged", f"the WebP has more than {_MOST_CHUNKS} chunks", header)
    return header


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and end of each chunk's body; an end may lie behind the file's."""
    place = 12
    for _ in range(_MOST_CHUNKS):
        if place + 8 > len(data):
            return
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], place + 8, place + 8 + size
        place += 8 + size + size % 2


def _header(data: bytes, chunks: list[tuple[bytes, int, int]]) -> Header | None:
    if not chunks:
        return None
    kind, start, _ = chunks[0]
    found = _size_and_alpha(kind, data[start : start + 10])
    if found is None:
        return None
    width, height, alpha = found
    beside = (
        {name: data[first:end] for name, first, end in chunks if name in (b"ICCP", b"EXIF")} if kind == b"VP8X" else {}
    )
    changes = {
        "alpha_dropped": alpha,
        "colour_profile_ignored": is_other_profile(beside.get(b"ICCP", b"")),
        "first_frame_only": kind == b"VP8X" and sum(name == b"ANMF" for name, _, _ in chunks) > 1,
    }
    orientation = exif_orientation(beside[b"EXIF"]) if b"EXIF" in beside else 1
    lossy = any(name == b"VP8 " for name, _, _ in chunks)
    return replace(
        make_header("WEBP", (width, height), changes, orientation), compression="webp" if lossy else "lossless"
    )


def _size_and_alpha(kind: bytes, body: bytes) -> tuple[int, int, bool] | None:
    """Return width, height, and whether there is transparency, of the first chunk of a WebP."""
    if kind == b"VP8X" and len(body) == 10:
        width, height = (1 + int.from_bytes(body[i : i + 3], "little") for i in (4, 7))
        return width, height, bool(body[0] & _ALPHA)
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1)
    if kind == b"VP8 " and len(body) == 10 and body[3:6] == _KEY_FRAME:
        width, height = (int.from_bytes(body[i : i + 2], "little") & 0x3FFF for i in (6, 8))
        return (width, height, False) if width and height else None
    return None
