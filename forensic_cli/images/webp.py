"""WebP files: header and metadata from one walk from chunk to chunk.

Pillow would make room for the whole canvas before its size can be looked at. Sources: RFC 9649 for the container and
VP8L, RFC 6386 section 9.1 for VP8, C2PA 2.2 section A.3.
"""

from dataclasses import replace

from forensic_cli.images.header import Blocks, Header, Inspection, Unreadable, is_other_profile, make_header

_ALPHA, _KEY_FRAME = 0x10, b"\x9d\x01\x2a"
_MOST_CHUNKS = 1 << 18  # a file of empty chunks must not take minutes

_Chunks = list[tuple[bytes, int, int]]
"""Name, start and end of the body of each chunk; an end may lie beyond the file's."""


def inspect_webp(data: bytes) -> Inspection:
    """Read the header and the metadata of a WebP."""
    chunks, blocks = _walk(data), Blocks()
    for name, start, end in chunks:
        if name == b"EXIF" and blocks.has_room("exif"):
            blocks.add("exif", data[start:end])
        elif name == b"XMP " and blocks.has_room("xmp"):
            blocks.add("xmp", data[start:end])
        elif name == b"C2PA":
            blocks.add("c2pa")
    return Inspection(_result(data, chunks, blocks.orientation), tuple(blocks.kept))


def _walk(data: bytes) -> _Chunks:
    """Follow the chunks: a name of four bytes, a length of four, and the body, with a byte more where that is odd."""
    chunks: _Chunks = []
    place = 12
    while place + 8 <= len(data) and len(chunks) < _MOST_CHUNKS:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        chunks.append((data[place : place + 4], place + 8, place + 8 + size))
        place += 8 + size + size % 2
    return chunks


def _result(data: bytes, chunks: _Chunks, orientation: int) -> Header | Unreadable:
    header = _header(data, chunks, orientation)
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        return Unreadable.truncated(header, "WEBP")
    if header is None:
        return Unreadable.bad_header("WEBP")
    if len(chunks) == _MOST_CHUNKS:
        return Unreadable("damaged", f"the WebP has more than {_MOST_CHUNKS} chunks", header)
    return header


def _header(data: bytes, chunks: _Chunks, orientation: int) -> Header | None:
    kind, start, _ = chunks[0] if chunks else (b"", 0, 0)
    size_and_alpha = _size_and_alpha(kind, data[start : start + 10])
    if size_and_alpha is None:
        return None
    width, height, has_alpha = size_and_alpha
    is_extended = kind == b"VP8X"  # else the one chunk of pixels is the whole file
    names = [name for name, _, _ in chunks]
    profile = next((data[start:end] for name, start, end in chunks if name == b"ICCP" and is_extended), b"")
    changes = {
        "alpha_dropped": has_alpha,
        "colour_profile_ignored": is_other_profile(profile),
        "first_frame_only": is_extended and names.count(b"ANMF") > 1,
    }
    header = make_header("WEBP", (width, height), changes, orientation if is_extended else 1)
    return replace(header, compression="webp" if b"VP8 " in names else "lossless")


def _size_and_alpha(kind: bytes, body: bytes) -> tuple[int, int, bool] | None:
    """Return width, height, and whether there is transparency, from the first chunk; None if that is of no known kind.

    VP8X: flags, 3 bytes, both sides less 1 in 3 bytes each. VP8L: 0x2F, both sides less 1 in 14 bits each, a bit for
    alpha. VP8: 3 bytes, a start code, both sides in 14 bits of 2 bytes each.
    """
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
