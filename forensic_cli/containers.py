"""Finds the blocks of metadata in an image file's bytes without decoding it: bounded work on whatever bytes they are.

Sources: ITU-T T.81 Annex B (JPEG), PNG 3rd edition section 5, Google's WebP container, ISO/IEC 14496-12 (AVIF, HEIC),
and C2PA 2.2 section A.3 (where each of them keeps a manifest).
"""

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

from forensic_cli.headers.webp import webp_chunks

MOST_BYTES = 1 << 16
"""Of one block; the rest of a longer one is not looked at."""
_MOST_SEGMENTS = 4096
"""Segments, chunks or boxes that are walked past in one file."""
_MOST_BLOCKS = 64
"""Blocks that are looked into in one file."""
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF = b"Exif\0\0"
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


class Block(NamedTuple):
    """One piece of metadata, as stored."""

    kind: Literal["exif", "xmp", "iptc", "text", "comment", "c2pa"]
    """exif: a TIFF structure. iptc: Photoshop resources. text: a PNG text. c2pa: only that a manifest is there."""
    data: bytes
    """At most MOST_BYTES, but for a TIFF: that is one block."""
    key: str = ""
    """Keyword of a PNG text."""


def blocks(data: bytes) -> Iterator[Block]:
    """Yield the metadata of a JPEG, PNG, WebP, TIFF, AVIF or HEIC file; nothing for other bytes. Never raises."""
    walk = None
    if data.startswith(b"\xff\xd8"):
        walk = _jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        walk = _png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        walk = _webp(data)
    elif data.startswith((b"II*\0", b"MM\0*")):
        walk = iter([Block("exif", data)])  # EXIF has the structure of a TIFF
    elif data[4:8] == b"ftyp":
        walk = _boxes(data)
    for _, block in zip(range(_MOST_BLOCKS), walk or (), strict=False):
        yield block


def _jpeg(data: bytes) -> Iterator[Block]:
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 4 or data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xDA, 0xD9) or length < 2:  # the picture begins, or there is none
            return
        payload = place + 4
        end = place + 2 + length
        if marker == 0xE1 and data.startswith(_EXIF, payload):
            yield Block("exif", data[payload + len(_EXIF) : end])
        elif marker == 0xE1 and data.startswith(_XMP, payload):
            yield Block("xmp", data[payload + len(_XMP) : end])
        elif marker == 0xED and data.startswith(b"Photoshop 3.0\0", payload):
            yield Block("iptc", data[payload:end])
        elif marker == 0xEB and data.startswith(b"JP", payload) and data.find(b"c2pa", payload, payload + 64) > 0:
            yield Block("c2pa", b"")
        elif marker == 0xFE:
            yield Block("comment", data[payload:end])
        place = end


def _png(data: bytes) -> Iterator[Block]:
    place = 8
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 8:
            return
        length = int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if name not in (b"IDAT", b"IHDR"):
            chunk = data[place + 8 : place + 8 + min(length, MOST_BYTES)]
            if name in (b"tEXt", b"zTXt", b"iTXt"):
                yield _png_text(name, chunk)
            elif name == b"eXIf":
                yield Block("exif", chunk)
            elif name == b"caBX":
                yield Block("c2pa", b"")
        place += 12 + length


def _png_text(name: bytes, chunk: bytes) -> Block:
    key, _, rest = chunk.partition(b"\0")
    if name == b"zTXt":
        rest = _inflated(rest[1:])
    elif name == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        rest = _inflated(rest) if packed else rest
    if key == b"XML:com.adobe.xmp":
        return Block("xmp", rest)
    return Block("text", rest, key[:79].decode("latin-1"))


def _inflated(packed: bytes) -> bytes:
    """Unpack zlib data, and no more of it than MOST_BYTES: a small chunk may hold gigabytes."""
    try:
        return zlib.decompressobj().decompress(packed, MOST_BYTES)
    except zlib.error:
        return b""


def _webp(data: bytes) -> Iterator[Block]:
    for name, start, end in islice(webp_chunks(data), _MOST_SEGMENTS):
        body = slice(start, min(end, start + MOST_BYTES))
        if name == b"EXIF":
            yield Block("exif", data[body].removeprefix(_EXIF))
        elif name == b"XMP ":
            yield Block("xmp", data[body])
        elif name == b"C2PA":
            yield Block("c2pa", b"")


def _boxes(data: bytes) -> Iterator[Block]:
    """Walk the outermost boxes, of which one may be a C2PA manifest. EXIF and XMP lie deeper and are not read."""
    place = 0
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 8:
            return
        length = int.from_bytes(data[place : place + 4], "big")
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        if data[place + 4 : place + 8] == b"uuid" and data.startswith(_C2PA_BOX, place + head):
            yield Block("c2pa", b"")
        if length < head:  # 0: up to the end of the file
            return
        place += length
