"""Headers of PNG files: a walk from chunk to chunk that also checks every checksum."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from forensic_cli.images.header import Header, Unreadable, bad_header, exif_orientation, is_other_profile, make_header
from forensic_cli.images.header import truncated as ends_early

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = b"IEND\xaeB`\x82"
_WANTED = frozenset((b"IHDR", b"tRNS", b"acTL", b"eXIf", b"iCCP"))
_BESIDE_THE_PICTURE = frozenset((b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"fdAT"))
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""{type of the colours: its bits}."""
_MOST_CHUNKS = 1 << 18  # 2 GB in chunks of 8 KB; a file of empty chunks must not take minutes
_PROFILE_BYTES = 1 << 16  # of a profile that may be a bomb; its name stands in its first hundreds


@dataclass
class _Found:
    bodies: dict[bytes, bytes] = field(default_factory=dict)
    """{name: the first body}, of the wanted names alone."""
    bad: set[bytes] = field(default_factory=set)
    """Names of chunks with a wrong checksum."""
    complete: bool = False
    """The walk came to the end chunk."""
    count: int = 0


def inspect_png(data: bytes) -> Header | Unreadable:
    """Read the header of a PNG, and find missing parts and wrong checksums before libpng does."""
    chunks = _walk(data)
    header = _header(chunks)
    if header is None:
        whole = chunks.complete or data.rstrip(b"\0").endswith(_END) or len(data) >= 33
        return bad_header("PNG") if whole else ends_early(name="PNG")
    critical = sorted(name.decode("ascii") for name in chunks.bad if name.isalpha() and name[:1].isupper())
    if critical:
        return Unreadable("damaged", f"the checksum of the PNG's {critical[0]} data is wrong", header)
    if chunks.complete:
        return header
    if chunks.count == _MOST_CHUNKS:
        return Unreadable("damaged", f"the PNG has more than {_MOST_CHUNKS} chunks", header)
    if data.rstrip(b"\0").endswith(_END):
        return Unreadable("damaged", "the PNG's chunks do not follow each other", header)
    return ends_early(header)


def without_metadata(data: bytes) -> bytes:
    """Return a complete PNG with all that its first picture needs, and nothing that libpng would unpack or print about.

    Text, profiles and EXIF may be bombs or damaged; the further frames of an animation are not judged.
    """
    chunks = list(_chunks(data))
    if not any(name in _BESIDE_THE_PICTURE for name, _, _ in chunks):
        return data
    needed = (data[start : end + 4] for name, start, end in chunks if name not in _BESIDE_THE_PICTURE)
    return SIGNATURE + b"".join(needed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield each chunk that is all there: its name, where it begins, and where its checksum does."""
    place = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        name, end = data[place + 4 : place + 8], place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            return
        yield name, place, end
        if name == b"IEND":
            return
        place = end + 4


def _walk(data: bytes) -> _Found:
    found, view = _Found(), memoryview(data)
    for name, start, end in _chunks(data):
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            found.bad.add(name)
        if name in _WANTED and name not in found.bodies:
            found.bodies[name] = data[start + 8 : end]
        found.complete = name == b"IEND"
        found.count += 1
    return found


def _header(chunks: _Found) -> Header | None:
    start = chunks.bodies.get(b"IHDR", b"")
    if len(start) != 13 or next(iter(chunks.bodies)) != b"IHDR":
        return None
    width, height, depth, colours, *methods = struct.unpack(">IIBBBBB", start)
    if not width or not height or depth not in _DEPTHS.get(colours, ()) or methods not in ([0, 0, 0], [0, 0, 1]):
        return None
    good = {name: body for name, body in chunks.bodies.items() if name not in chunks.bad}
    changes = {
        "alpha_dropped": colours in (4, 6) or b"tRNS" in good,
        "colour_profile_ignored": is_other_profile(_profile(good.get(b"iCCP", b""))),
        "damaged_metadata": any(name[:1].islower() for name in chunks.bad),
        "first_frame_only": int.from_bytes(good.get(b"acTL", b"")[:4], "big") > 1,
        "palette": colours == 3 or depth < 8,
        "reduced_to_8_bit": depth == 16,
    }
    orientation = exif_orientation(good[b"eXIf"]) if b"eXIf" in good else 1
    return make_header("PNG", (width, height), changes, orientation)


def _profile(body: bytes) -> bytes:
    """Return an ICC profile's name and its beginning, never more of it: it may be a bomb."""
    name, _, packed = body.partition(b"\0")
    try:
        return name + zlib.decompressobj().decompress(packed[1:], _PROFILE_BYTES)
    except zlib.error:
        return name
