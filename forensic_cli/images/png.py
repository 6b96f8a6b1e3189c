"""PNG files: header and metadata from one walk from chunk to chunk, which also checks every checksum.

Source: PNG, third edition, section 5 for chunks and section 11 for what is in them; C2PA 2.2 section A.3 (caBX).
"""

import struct
import zlib
from dataclasses import dataclass, field

from forensic_cli.images.header import MOST_BYTES, Blocks, Header, Inspection, Unreadable, make_header

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND\xaeB`\x82"
_HEADER_CHUNKS = frozenset((b"IHDR", b"tRNS", b"acTL", b"eXIf", b"iCCP"))
_TEXTS = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_BESIDE_THE_PICTURE = _TEXTS | {b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"}
"""Texts, profiles and EXIF may be bombs, or damaged; the further frames of an animation are not judged."""
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""{type of the colours: the bits that it may have}; 3 is a palette, and 4 is added for alpha."""
_MOST_CHUNKS = 1 << 18  # 2 GB in chunks of 8 KB; a file of empty chunks must not take minutes


@dataclass
class _Walk:
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    """{name: body of the first chunk}, of those in _HEADER_CHUNKS alone."""
    blocks: Blocks = field(default_factory=Blocks)
    bad: set[bytes] = field(default_factory=set)
    """Names of chunks with a wrong checksum."""
    essential: list[tuple[int, int]] = field(default_factory=list)
    """Where each chunk that the first picture needs begins and ends."""
    count: int = 0
    """Chunks that are complete."""
    is_complete: bool = False
    """The walk came to the end chunk; bytes behind that are nobody's."""


def inspect_png(data: bytes) -> Inspection:
    """Read the header and the metadata of a PNG, and find missing parts and wrong checksums before libpng does."""
    walk = _walk(data)
    has_more = len(walk.essential) < walk.count
    parts = ((0, len(SIGNATURE)), *walk.essential) if has_more else ()
    return Inspection(_result(data, walk), walk.blocks.items, parts)


def _result(data: bytes, walk: _Walk) -> Header | Unreadable:
    header = _header(walk)
    has_end = data.rstrip(b"\0").endswith(_END)
    if header is None:
        is_whole = walk.is_complete or has_end or len(data) >= 33  # signature and IHDR
        return Unreadable.bad_header("PNG") if is_whole else Unreadable.truncated(None, "PNG")
    # A chunk whose name begins with a capital letter is needed to show the picture
    critical = sorted(name.decode("ascii") for name in walk.bad if name.isalpha() and name[:1].isupper())
    if critical:
        return Unreadable("damaged", f"the checksum of the PNG's {critical[0]} data is wrong", header)
    if walk.is_complete:
        return header
    if walk.count == _MOST_CHUNKS:
        return Unreadable("damaged", f"the PNG has more than {_MOST_CHUNKS} chunks", header)
    if has_end:
        return Unreadable("damaged", "the lengths of the PNG's chunks are wrong", header)
    return Unreadable.truncated(header, "PNG")


def _walk(data: bytes) -> _Walk:
    """Follow the chunks: a length of four bytes, a name of four, the body, and a checksum of name and body."""
    walk, view, place = _Walk(), memoryview(data), len(SIGNATURE)
    while walk.count < _MOST_CHUNKS and not walk.is_complete:
        name, body = data[place + 4 : place + 8], place + 8
        end = body + int.from_bytes(data[place : place + 4], "big")
        _take_metadata(walk.blocks, name, view[body:end])  # even if the end of the file cuts it
        if end + 4 > len(data):
            break
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            walk.bad.add(name)
        if name in _HEADER_CHUNKS:
            walk.bodies.setdefault(name, data[body:end])
        if name not in _BESIDE_THE_PICTURE:
            walk.essential.append((place, end + 4))
        walk.is_complete = name == b"IEND"
        walk.count += 1
        place = end + 4
    return walk


def _take_metadata(blocks: Blocks, name: bytes, body: memoryview) -> None:
    if name in _TEXTS:
        _take_text(blocks, name, bytes(body[:MOST_BYTES]))
    elif name == b"eXIf" and blocks.has_room("exif"):
        blocks.add("exif", bytes(body))
    elif name == b"caBX":
        blocks.add("c2pa")


def _take_text(blocks: Blocks, name: bytes, body: bytes) -> None:
    """Add a text: keyword, NUL, text; in an iTXt a flag, a byte, language and translated keyword stand before it."""
    keyword, _, text = body.partition(b"\0")
    is_xmp, is_packed = keyword == _XMP_KEYWORD, name == b"zTXt"
    if not blocks.has_room("xmp" if is_xmp else "text"):
        return
    if is_packed:
        text = text[1:]
    elif name == b"iTXt":
        is_packed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    text = _unpacked(text) if is_packed else text
    if is_xmp:
        blocks.add("xmp", text)
    else:
        blocks.add("text", text, keyword[:79].decode("latin-1"))


def _unpacked(packed: bytes) -> bytes:
    """Unpack zlib data, and no more of it than MOST_BYTES: a small chunk may hold gigabytes."""
    try:
        return zlib.decompressobj().decompress(packed, MOST_BYTES)
    except zlib.error:
        return b""


def _header(walk: _Walk) -> Header | None:
    start = walk.bodies.get(b"IHDR", b"")
    if len(start) != 13 or next(iter(walk.bodies)) != b"IHDR":
        return None
    width, height, depth, colours, *methods = struct.unpack(">IIBBBBB", start)
    if not width or not height or depth not in _DEPTHS.get(colours, ()) or methods not in ([0, 0, 0], [0, 0, 1]):
        return None
    good = {name: body for name, body in walk.bodies.items() if name not in walk.bad}
    # A profile is its name, NUL, a byte, and zlib data; sRGB calls itself so in the name or in the first kilobytes
    profile_name, _, packed = good.get(b"iCCP", b"").partition(b"\0")
    changes = {
        "alpha_dropped": colours in (4, 6) or b"tRNS" in good,
        "damaged_metadata": any(name[:1].islower() for name in walk.bad),
        "first_frame_only": int.from_bytes(good.get(b"acTL", b"")[:4], "big") > 1,
        "palette": colours == 3 or depth < 8,
        "reduced_to_8_bit": depth == 16,
    }
    orientation = 1 if b"eXIf" in walk.bad else walk.blocks.orientation
    return make_header("PNG", (width, height), changes, orientation, profile_name + _unpacked(packed[1:]))
