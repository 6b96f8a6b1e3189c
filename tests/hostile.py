"""Bad files of every kind, made in code, and the table of what a scan says about each: train/docs/bad-input.md.

usage: python tests/hostile.py    (with forensic_cli and this folder on the path) writes the page again
"""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pictures import (
    ARITHMETIC_JPEG,
    BAD_PROFILE,
    DEEP,
    FRAMES,
    NO_HUFFMAN_TABLE,
    PAGES,
    PNG_SIGNATURE,
    bmp,
    chunk,
    encode,
    exif,
    gif,
    gradient,
    heic,
    jpeg_with,
    nibbles,
    picture,
    png,
    png_header,
    png_rows,
    png_with,
    rarely_sampled_jpeg,
    run_lengths,
    split_jpeg,
    split_png,
    tiff,
    with_opencv,
)
from toys import ROOT, child_environment, drop_root_override, genforensic, write_toy_exports

TABLE = ROOT / "train" / "docs" / "bad-input.md"
_SYSTEM = "Names and the file system"
NO_PERMISSION = "a file without read permission"
_INTRODUCTION = """# What a scan says about bad and unusual files

`tests/hostile.py` makes every file in these tables and writes the tables; a test compares them with a real scan.

- Files with status `ok` are judged. Their `warnings` say what was done to them, or what is wrong with them.
- Any other [status](reference.md#statuses) comes with a reason and without an answer. SHA-256 and size are present if
  the bytes could be read. The [warnings](reference.md#warnings) are explained in the reference.
- The models of this scan use patches of 32 pixels. Models with larger patches add `padded`; those that resize add
  `upscaled`.
- Changed pixels cannot be detected in formats without checksums (BMP, most TIFF), and not always inside a JPEG.
"""
_MARKERS = {0xD8: "SOI", 0xE0: "APP0", 0xE1: "APP1", 0xDB: "DQT", 0xC0: "SOF0", 0xC2: "SOF2", 0xC4: "DHT", 0xDA: "SOS"}


@dataclass(frozen=True)
class Case:
    """One kind of file, in one or several variants."""

    name: str
    """What a reader of the table sees."""
    files: dict[str, bytes]
    """{variant, or "" if there is only one: the file}."""
    suffix: str
    """Of the files' names, with its dot."""


@dataclass(frozen=True)
class Row:
    """What a scan said about one variant."""

    section: str
    case: str
    variant: str
    status: str
    reason: str | None
    warnings: tuple[str, ...]


def sections() -> dict[str, list[Case]]:
    """Return all cases that are plain files, by the heading that they stand under."""
    return {
        "Cut short": [*cut_jpegs(), *cut_pngs(), *cut_others()],
        "Damaged": [*damaged_jpegs(), *damaged_pngs(), *damaged_others()],
        "Bombs and huge headers": bombs(),
        "Unusual, and judged": [*unusual_pixels(), *unusual_files()],
        "Not decoded": undecoded(),
    }


def cut_jpegs() -> list[Case]:
    """Return JPEGs that end at each of their structural points."""
    plain, turned = encode(picture(), "JPEG", quality=90, exif=exif(1)), {}
    parts = split_jpeg(plain)
    for i in range(1, len(parts)):
        turned[f"after {_MARKERS[parts[i - 1][1]]} {i}"] = b"".join(parts[:i])
    turned["inside DQT"] = b"".join(parts[:3])[:-20]
    turned["inside the scan"] = plain[:-150]
    turned["inside EOI"] = plain[:-1]
    progressive = encode(picture(), "JPEG", quality=90, progressive=True)
    scans = split_jpeg(progressive)
    later = {f"after part {i}": b"".join(scans[:i]) for i in range(1, len(scans))}
    return [Case("JPEG", turned, ".jpg"), Case("progressive JPEG", later, ".jpg")]


def cut_pngs() -> list[Case]:
    """Return PNGs that end at each of their structural points."""
    parts = split_png(png_with(chunk(b"tEXt", b"a\0b"), behind=chunk(b"tIME", bytes(7))))
    cut = {"after the signature": PNG_SIGNATURE}
    for i in range(1, len(parts)):
        whole = PNG_SIGNATURE + b"".join(parts[:i])
        cut[f"after {parts[i - 1][4:8].decode()} {i}"] = whole
        cut[f"inside {parts[i][4:8].decode()} {i + 1}"] = whole + parts[i][:-3]
    animated = encode(picture(), "PNG", **FRAMES)
    return [Case("PNG", cut, ".png"), Case("APNG", {"in its last frame": animated[:-30]}, ".png")]


def cut_others() -> list[Case]:
    """Return files of the other formats that end in their header, their picture and their last byte."""
    pages = encode(picture(), "TIFF", **PAGES)
    made = {
        "WebP": (encode(picture(), "WEBP", quality=80), ".webp"),
        "animated WebP": (encode(picture(), "WEBP", **FRAMES), ".webp"),
        "GIF": (encode(picture(), "GIF"), ".gif"),
        "animated GIF": (encode(picture(), "GIF", **FRAMES), ".gif"),
        "BMP": (encode(picture(), "BMP"), ".bmp"),
        "TIFF": (encode(picture(), "TIFF"), ".tif"),
        "TIFF with LZW": (encode(picture(), "TIFF", compression="tiff_lzw"), ".tif"),
        "AVIF": (encode(picture(), "AVIF"), ".avif"),
        "HEIC": (heic(picture()), ".heic"),
        "JPEG 2000": (encode(picture(), "JPEG2000"), ".jp2"),
    }
    cases = []
    for name, (data, suffix) in made.items():
        places = {"after 4 bytes": 4, "after 12": 12, "after 20": 20, "after 40": 40}
        places |= {"in its middle": len(data) // 2, "in its last tenth": len(data) * 19 // 20}
        if name not in ("TIFF", "TIFF with LZW"):  # their last bytes are padding
            places["in its last byte"] = len(data) - 1
        cases.append(Case(name, {label: data[:place] for label, place in places.items()}, suffix))
    second = {"in its second page": pages[: len(pages) * 3 // 4]}
    return [*cases, Case("TIFF of two pages", second, ".tif")]


def damaged_jpegs() -> list[Case]:
    """Return JPEGs whose data or header was changed."""
    noisy = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain = encode(noisy, "JPEG", quality=90)
    start = plain.index(b"\xff\xda") + 14
    progressive = split_jpeg(encode(picture(), "JPEG", quality=90, progressive=True))
    closed = {}
    for i in range(6, len(progressive) - 1):
        if progressive[i - 1][1] == 0xDA:
            closed[f"after part {i}"] = b"".join(progressive[:i]) + b"\xff\xd9"
    frame = plain.index(b"\xff\xc0")
    return [
        Case("JPEG with 100 bytes lost in the scan", {"": plain[: start + 500] + plain[start + 600 :]}, ".jpg"),
        Case("JPEG with 100 zero bytes in the scan", {"": _blank(plain, start + 500, 100)}, ".jpg"),
        Case("JPEG cut off in its scan, then closed with an EOI", {"": plain[: start + 500] + b"\xff\xd9"}, ".jpg"),
        Case("progressive JPEG cut off between scans, then closed with an EOI", closed, ".jpg"),
        Case("JPEG with a height of 0", {"": plain[: frame + 5] + bytes(2) + plain[frame + 7 :]}, ".jpg"),
        Case("JPEG without its Huffman tables", {"": _without(plain, 0xC4)}, ".jpg"),
        Case("JPEG without its quantisation tables", {"": _without(plain, 0xDB)}, ".jpg"),
        Case("JPEG with an incomplete ICC profile", {"": jpeg_with(BAD_PROFILE)}, ".jpg"),
        Case("JPEG with bytes between two segments", {"": jpeg_with(b"what is this?", 3)}, ".jpg"),
        Case("JPEG with a comment of an impossible length", {"": jpeg_with(b"\xff\xfe\0\0")}, ".jpg"),
        Case(
            "JPEG with an invalid Huffman table",
            {
                "in its header": jpeg_with(NO_HUFFMAN_TABLE, 3),
                "after junk between its scans": b"".join(
                    (*progressive[:9], b"junk", NO_HUFFMAN_TABLE, *progressive[9:])
                ),
            },
            ".jpg",
        ),
        Case("JPEG without its scan", {"": _without(plain, 0xDA)}, ".jpg"),
        Case("JPEG with invalid EXIF", {"": encode(picture(), "JPEG", exif=b"Exif\0\0nonsense")}, ".jpg"),
    ]


def damaged_pngs() -> list[Case]:
    """Return PNGs whose chunks were changed."""
    whole = png_with(chunk(b"tEXt", b"a\0b"))
    parts = split_png(whole)
    rows, more = zlib.compress(png_rows()), zlib.compress(png_rows(gradient(50)))

    def of(*order: int) -> bytes:
        return PNG_SIGNATURE + b"".join(parts[i] for i in order)

    return [
        Case("PNG with a changed byte in its pixels", {"": _blank(whole, whole.index(b"IDAT") + 40, 1)}, ".png"),
        Case("PNG with a changed byte in its text", {"": whole.replace(b"a\0b", b"a\0c")}, ".png"),
        Case("PNG without its first, second, or all pixel data", {
            "first": of(0, 1, 3, 4), "second": of(0, 1, 2, 4), "all": of(0, 1, 4)}, ".png"),
        Case("PNG with its pixel data in the wrong order", {"": of(0, 1, 3, 2, 4)}, ".png"),
        Case("PNG with fewer rows than declared", {"": png(png_header(), chunk(b"IDAT", rows[:200]))}, ".png"),
        Case("PNG with more rows than declared", {"": png(png_header(), chunk(b"IDAT", more))}, ".png"),
        Case("PNG with a wrong chunk length", {
            "": whole.replace(len(parts[2][8:-4]).to_bytes(4, "big") + b"IDAT", b"\0\0\0\x20IDAT")}, ".png"),
        Case("PNG of 3 bits per channel", {"": png(png_header(depth=3), chunk(b"IDAT", rows))}, ".png"),
        Case("PNG with two headers", {"": png(png_header(), png_header(80), chunk(b"IDAT", rows))}, ".png"),
        Case("PNG whose palette is missing", {"": png(png_header(colours=3), chunk(b"IDAT", rows))}, ".png"),
    ]  # fmt: skip


def damaged_others() -> list[Case]:
    """Return damaged files of the other formats, and files that are nothing."""
    plain = encode(picture(), "TIFF")
    jp2 = encode(picture(), "JPEG2000")
    sizes = jp2.index(b"\xff\x4f\xff\x51") + 8
    webp, still = encode(picture(), "WEBP", quality=80), encode(picture(), "GIF")
    return [
        Case("TIFF with two widths", {"": _tiff((256, 40), (256, 60_000), (257, 32))}, ".tif"),
        Case("TIFF whose directory is zeros", {
            "": _blank(plain, int.from_bytes(plain[4:8], "little") + 2, 60)}, ".tif"),
        Case("JPEG 2000 with two sizes", {
            "": jp2[:sizes] + struct.pack(">II", 9000, 9000) + jp2[sizes + 8 :]}, ".jp2"),
        Case("WebP with zeros in its picture", {"": _blank(webp, 20, 30)}, ".webp"),
        Case("GIF with zeros in its picture", {"": _blank(still, len(still) - 600, 500)}, ".gif"),
        Case("an empty file", {"": b""}, ".png"),
        Case("text, HTML and zeros with an image's name", {
            "text": b"This is text.\n", "HTML": b"<html><body>404</body></html>", "zeros": bytes(5000)}, ".jpg"),
        Case("only a signature", {
            "JPEG": b"\xff\xd8\xff\xe0", "PNG": PNG_SIGNATURE, "GIF": b"GIF89a", "BMP": b"BM", "TIFF": b"II*\0",
            "WebP": b"RIFF\x20\0\0\0WEBPVP8 "}, ".img.png"),
    ]  # fmt: skip


def bombs() -> list[Case]:
    """Return small files that would cost gigabytes or minutes if they were believed."""
    bomb = png(png_header(50_000, 50_000), chunk(b"IDAT", zlib.compress(b"\0")))
    pixels = chunk(b"IDAT", zlib.compress(png_rows()))
    zeros = b"a\0\0" + zlib.compress(bytes(50_000_000))
    jpeg = encode(picture(), "JPEG", quality=90)
    progressive = split_jpeg(encode(picture("L"), "JPEG", progressive=True))
    size = jpeg.index(b"\xff\xc0") + 5
    still, moving = encode(picture(), "GIF"), encode(picture(), "WEBP", **FRAMES)
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bomb), 22)
    wide = Image.new("1", (20_000, 15_000))
    return [
        Case("PNG of 50,000 x 50,000 by its header", {"": bomb}, ".png"),
        Case("PNG of 20,000 x 15,000, complete, in 40 kB", {"": encode(wide, "PNG")}, ".png"),
        Case("a PNG of 50,000 x 50,000 in an icon", {"": b"\0\0\1\0\1\0" + entry + bomb}, ".png"),
        Case("PNG with text or a profile that unpacks to 50 MB", {
            "text": png(png_header(), chunk(b"zTXt", zeros), pixels),
            "profile": png(png_header(), chunk(b"iCCP", b"sRGB" + zeros), pixels)}, ".png"),
        Case("PNG with 20 MB of text", {
            "": png(png_header(), chunk(b"tEXt", b"a\0" + bytes(20_000_000)), pixels)}, ".png"),
        Case("PNG of 300,000 chunks", {"": png(png_header(), chunk(b"teXt") * 300_000, pixels)}, ".png"),
        Case("JPEG of 60,000 x 60,000 by its header", {
            "": jpeg[:size] + struct.pack(">HH", 60_000, 60_000) + jpeg[size + 4 :]}, ".jpg"),
        Case("JPEG of 1,000 scans", {"": b"".join(progressive[:-1]) + progressive[-2] * 1000 + b"\xff\xd9"}, ".jpg"),
        Case("JPEG of 100,000 comments", {"": jpeg[:2] + b"\xff\xfe\0\2" * 100_000 + jpeg[2:]}, ".jpg"),
        Case("JPEG with 10 MB of fill bytes", {"": jpeg[:2] + b"\xff" * 10_000_000 + jpeg[2:]}, ".jpg"),
        Case("GIF of 60,000 x 60,000 by its header", {
            "": still[:6] + struct.pack("<HH", 60_000, 60_000) + still[10:]}, ".gif"),
        Case("GIF whose picture is 60,000 x 60,000", {
            "": still.replace(b"\x2c\0\0\0\0\x28\0\x20\0", b"\x2c\0\0\0\0\x60\xea\x60\xea")}, ".gif"),
        Case("GIF of a million comments", {"": still[:781] + b"\x21\xfe\x01x\0" * 1_100_000 + still[781:]}, ".gif"),
        Case("animated WebP of 40 x 16,777,216 by its header", {
            "": moving[:27] + b"\xff\xff\xff" + moving[30:]}, ".webp"),
        Case("TIFF of 60,000 x 60,000 by its header", {"": _tiff((256, 60_000), (257, 60_000))}, ".tif"),
        Case("TIFF of 10,000 pages", {"": _many_pages(10_000)}, ".tif"),
        Case("run-length encoded BMP, 10,000 x 10,000 by its header", {
            "": b"BM" + struct.pack("<IHHIIiiHHIIIIII", 1078, 0, 0, 1078, 40, 10_000, 10_000, 1, 8, 1, *[0] * 5)
            + bytes(1024)}, ".bmp"),
        Case("BMP of 60,000 x 60,000 by its header", {
            "": b"BM" + struct.pack("<IHHIIiiHHIIIIII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6)}, ".bmp"),
    ]  # fmt: skip


def unusual_pixels() -> list[Case]:
    """Return good files whose pixels are not 8-bit RGB, or are few."""
    clear = picture("RGBA")
    clear.putpixel((3, 3), (1, 2, 3, 0))
    return [
        Case("CMYK", {"JPEG": encode(picture("CMYK"), "JPEG", quality=90)}, ".jpg"),
        Case("CMYK in a TIFF", {"": encode(picture("CMYK"), "TIFF")}, ".tif"),
        Case("16 bits per channel", {
            "grey": encode(Image.fromarray(DEEP[..., 0].copy()), "PNG"), "RGB": with_opencv(".png", DEEP)}, ".png"),
        Case("16 bits per channel in a TIFF", {"": with_opencv(".tif", DEEP)}, ".tif"),
        Case("10 bits per channel in an AVIF", {"": with_opencv(".avif", DEEP >> 6, 512 + 1, 10)}, ".avif"),
        Case("16 bits per channel in a JPEG 2000", {
            "": encode(Image.fromarray(DEEP[..., 0].copy()), "JPEG2000")}, ".jp2"),
        Case("grey of 2 and 4 bits in a TIFF", {
            "2 bits": tiff(bytes(range(256)) + bytes(64), (2,)),
            "4 bits": tiff(nibbles(DEEP[..., 0] >> 12), (4,))}, ".tif"),
        Case("BMP of 5 or 6 bits per channel", {"": bmp(DEEP[..., 0].tobytes(), 16, 3, (0xF800, 0x7E0, 0x1F))}, ".bmp"),
        Case("palette", {"PNG": encode(picture("P"), "PNG"), "1 bit": encode(picture("1"), "PNG")}, ".png"),
        Case("palette in a BMP", {
            "as it is": encode(picture("P"), "BMP"),
            "run lengths": bmp(run_lengths(gradient()[..., 0], 3), 8, 1, palette=bytes(range(256)) * 4)}, ".bmp"),
        Case("grey", {"PNG": encode(picture("L"), "PNG")}, ".png"),
        Case("grey in a JPEG", {"": encode(picture("L"), "JPEG", quality=90)}, ".jpg"),
        Case("transparency", {
            "RGBA": encode(clear, "PNG"), "grey": encode(picture("LA"), "PNG"),
            "a transparent colour of a palette": encode(picture("P"), "PNG", transparency=0)}, ".png"),
        Case("transparency in a WebP", {"": encode(clear, "WEBP", lossless=True)}, ".webp"),
        Case("transparency in a GIF", {"": encode(picture("P"), "GIF", transparency=0)}, ".gif"),
        Case("transparency in a BMP", {"": encode(clear, "BMP")}, ".bmp"),
        Case("transparency in a TIFF", {"": encode(clear, "TIFF")}, ".tif"),
        Case("transparency in an AVIF", {"": encode(clear, "AVIF")}, ".avif"),
        Case("transparency in a HEIC", {"": heic(clear)}, ".heic"),
        Case("tiny or thin", {
            "1 x 1": encode(gradient(1, 1), "PNG"), "1 x 10,000": encode(gradient(10_000, 1), "PNG"),
            "10,000 x 1": encode(gradient(1, 10_000), "PNG")}, ".png"),
    ]  # fmt: skip


def unusual_files() -> list[Case]:
    """Return good files with more in them than one upright picture, or with a misleading name."""
    turned = ("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp"), ("TIFF", ".tif"), ("AVIF", ".avif")
    profile = b"ICC of another colour space"
    jpeg, coarse = encode(picture(), "JPEG", quality=90), encode(picture(), "JPEG", quality=40)
    return [
        *(
            Case(
                f"EXIF orientation in a {kind}",
                {str(i): encode(picture(), kind, exif=exif(i), **_quality(kind)) for i in range(1, 9)},
                suffix,
            )
            for kind, suffix in turned
        ),
        Case("EXIF orientation after the pixels of a PNG", {
            "": png_with(behind=chunk(b"eXIf", exif(6).tobytes()[6:]))}, ".png"),
        Case("GIF whose picture and canvas differ", {
            "smaller": gif(picture("P"), (50, 50), (3, 4)), "larger": gif(picture("P"), (30, 20), (3, 4))}, ".gif"),
        Case("animated GIF", {"": encode(picture(), "GIF", **FRAMES)}, ".gif"),
        Case("animated PNG", {"": encode(picture(), "PNG", **FRAMES)}, ".png"),
        Case("animated WebP", {"": encode(picture(), "WEBP", **FRAMES)}, ".webp"),
        Case("animated AVIF", {"": encode(picture(), "AVIF", **FRAMES)}, ".avif"),
        Case("TIFF of two pages", {"": encode(picture(), "TIFF", **PAGES)}, ".tif"),
        Case("rotated HEIC", {"": heic(picture(), exif=exif(6).tobytes())}, ".heic"),
        Case("compressed TIFF", {
            "LZMA": encode(picture(), "TIFF", compression="lzma"), "old JPEG": _tiff_of_old_jpeg()}, ".tif"),
        Case("BigTIFF", {"": encode(picture(), "TIFF", big_tiff=True)}, ".tif"),
        Case("ICC profile", {
            "sRGB": encode(picture(), "JPEG", quality=90, icc_profile=b"this is sRGB"),
            "another": encode(picture(), "JPEG", quality=90, icc_profile=profile)}, ".jpg"),
        Case("ICC profile in a PNG", {"": encode(picture(), "PNG", icc_profile=profile)}, ".png"),
        Case("progressive JPEG", {"": encode(picture(), "JPEG", quality=90, progressive=True)}, ".jpg"),
        Case("arithmetic JPEG", {"": ARITHMETIC_JPEG}, ".jpg"),
        Case("JPEG with rare chroma sampling", {"": rarely_sampled_jpeg()}, ".jpg"),
        Case("heavily compressed JPEG", {
            "quality 40": coarse, "luma table other than table 0": swap_tables(coarse)}, ".jpg"),
        Case("JPEG with bytes after its end", {"zeros": jpeg + bytes(100), "text": jpeg + b"hidden"}, ".jpg"),
        Case("wrong suffix", {
            "JPEG": jpeg, "WebP": encode(picture(), "WEBP", lossless=True)}, ".png"),
        Case("AVIF", {"": encode(picture(), "AVIF")}, ".avif"),
        Case("HEIC", {"": heic(picture())}, ".heic"),
        Case("JPEG 2000", {"": encode(picture(), "JPEG2000")}, ".jp2"),
    ]  # fmt: skip


def undecoded() -> list[Case]:
    """Return valid images that nothing here decodes."""
    jpeg = encode(picture(), "JPEG", quality=90)
    precision = jpeg.index(b"\xff\xc0") + 4
    return [
        Case("JPEG of 12 bits per channel", {"": jpeg[:precision] + b"\x0c" + jpeg[precision + 1 :]}, ".jpg"),
        Case("TIFF of 32 bits per channel", {
            "integer": encode(picture("I"), "TIFF"), "float": encode(picture("F"), "TIFF")}, ".tif"),
        Case("TIFF with signed numbers", {"": tiff(DEEP[..., 0].tobytes(), (16,), tags={339: (2,)})}, ".tif"),
        Case("TIFF with JPEG data of 12 or 16 bits per channel", {
            str(bits): tiff(jpeg, (bits,), tags={259: (7,)}) for bits in (12, 16)}, ".tif"),
        Case("TIFF with WebP data", {"": tiff(encode(picture(), "WEBP"), (8, 8, 8), 2, {259: (50_001,)})}, ".tif"),
        Case("TIFF with colours that Pillow does not know", {
            "4 bits": tiff(bytes(1920), (4, 4, 4), 2),
            "YCbCr in planes": tiff(bytes(3840), (8, 8, 8), 6, {284: (2,)})}, ".tif"),
        Case("BMP with channels that Pillow does not know", {
            "": bmp(DEEP[..., 0].tobytes(), 16, 3, (0xF00, 0xF0, 0xF))}, ".bmp"),
        Case("JPEG 2000 with five channels", {"": _more_channels(encode(picture(), "JPEG2000", no_jp2=True))}, ".j2k"),
        Case("formats of other tools", {
            "TGA": encode(picture(), "TGA"), "PCX": encode(picture(), "PCX"), "ICO": encode(picture(), "ICO")}, ".png"),
    ]  # fmt: skip


def _tiff_of_old_jpeg() -> bytes:
    jpeg = encode(picture(), "JPEG", quality=95)
    return tiff(jpeg, (8, 8, 8), 6, {259: (6,), 513: (8,), 514: (len(jpeg),), 530: (2, 2)})


def _more_channels(codestream: bytes) -> bytes:
    size = int.from_bytes(codestream[4:6], "big")
    more = struct.pack(">H", size + 6) + codestream[6:40] + struct.pack(">H", 5)
    return codestream[:4] + more + codestream[42 : 4 + size] + codestream[42:45] * 2 + codestream[4 + size :]


def swap_tables(jpeg: bytes) -> bytes:
    """Return a JPEG whose first component uses quantisation table 1, and the others table 0."""
    changed = bytearray(jpeg)
    for i, number in enumerate((1, 0)):
        changed[[at for at in range(len(jpeg)) if jpeg.startswith(b"\xff\xdb\0\x43", at)][i] + 4] = number
    frame = jpeg.index(b"\xff\xc0")
    for component, number in enumerate((1, 0, 0)):
        changed[frame + 12 + 3 * component] = number
    return bytes(changed)


def _quality(kind: str) -> dict[str, Any]:
    return {"JPEG": {"quality": 90}, "WEBP": {"lossless": True}}.get(kind, {})


def _blank(data: bytes, start: int, count: int) -> bytes:
    return data[:start] + bytes(count) + data[start + count :]


def _without(jpeg: bytes, marker: int) -> bytes:
    return b"".join(part for part in split_jpeg(jpeg) if part[1] != marker)


def _tiff(*sides: tuple[int, int]) -> bytes:
    tags = [*sides, (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 4)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IHxx", 12, 0)[:8] + struct.pack("<H", len(tags)) + entries + bytes(4)


def _many_pages(count: int) -> bytes:
    sides = ((256, 40), (257, 32), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 32), (279, 1280))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sides)
    first, size = 8 + 1280, 2 + len(entries) + 4
    pages = (
        struct.pack("<H", len(sides)) + entries + struct.pack("<I", first + (i + 1) * size if i + 1 < count else 0)
        for i in range(count)
    )
    return b"II*\0" + struct.pack("<I", first) + bytes(1280) + b"".join(pages)


NAMES = {
    "a newline": b"new\nline.png",
    "quotes and commas": b"\"it's\", 'said'.png",
    "bytes that are not UTF-8": b"latin-\xe9.png",
    "255 bytes": b"x" * 251 + b".png",
    "an emoji": "\N{CAMERA WITH FLASH}.png".encode(),
    "a formula": b"=1+1.png",
}
"""Names of good files, as the file system has them."""


def write_corpus(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Write every case; returns {file name as a report shows it: section, case and variant}."""
    written = {}
    for section, cases in sections().items():
        for case in cases:
            for variant, data in case.files.items():
                path = folder / f"{len(written):04}{case.suffix}"
                path.write_bytes(data)
                written[path.name] = (section, case.name, variant)
    for variant, name in NAMES.items():
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(encode(picture(), "PNG"))
        written[name.decode("utf-8", "backslashreplace")] = (_SYSTEM, "a name with", variant)
    return {**written, **_write_troubles(folder)}


def _write_troubles(folder: Path) -> dict[str, tuple[str, str, str]]:
    good = encode(picture(), "PNG")
    (folder / "closed.png").write_bytes(good)
    (folder / "closed.png").chmod(0)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    with (folder / "vast.png").open("wb") as stream:
        stream.truncate(3 << 30)
    return {
        "closed.png": (_SYSTEM, NO_PERMISSION, ""),
        "gone.png": (_SYSTEM, "a file that disappears", ""),
        "vast.png": (_SYSTEM, "a file of 3 GiB", ""),
    }


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """Keep appending to a file, from another process."""
    program = (
        "import sys\nwith open(sys.argv[1], 'ab', 0) as f:\n    print(flush=True)\n    while f.write(b'x'): pass\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield
    finally:
        writer.kill()
        writer.communicate()


def scan_corpus(folder: Path) -> list[Row]:
    """Write every case below a folder and scan them all with toy models; return what the rows say."""
    files = folder / "files"
    files.mkdir()
    known = write_corpus(files)
    exports = write_toy_exports(folder / "exports")
    options = {"preexec_fn": drop_root_override} if os.geteuid() == 0 else {}
    done = genforensic("scan", files, "--exports", exports, "-f", "jsonl", timeout=300, **options)
    assert done.returncode == 1, done.stderr
    records = [record for line in done.stdout.splitlines() if "path" in (record := json.loads(line))]
    by_name = {record["path"].removeprefix(f"{files}/"): record for record in records}
    assert set(by_name) == set(known)
    rows = [_row(*known[name], by_name[name]) for name in known]
    rows.append(_row(_SYSTEM, "a file that grows while it is read", "", scan_growing(folder, exports)))
    return [*rows, _row("Not decoded", "HEIC without the extra `heif`", "", scan_without_heif(folder, exports))]


def scan_growing(folder: Path, exports: Path) -> dict[str, Any]:
    """Return the record of a file that another process writes to; on a busy machine a few scans may be needed."""
    path = folder / "growing.png"
    with path.open("wb") as stream:
        stream.write(encode(picture(), "PNG"))
        stream.truncate(200 << 20)
    record: dict[str, Any] = {}
    for _ in range(20):
        with growing(path):
            done = genforensic("scan", path, "--exports", exports, "-f", "jsonl")
        record = json.loads(done.stdout.splitlines()[1])
        if record["status"] != "ok":
            break
    return record


def scan_without_heif(folder: Path, exports: Path) -> dict[str, Any]:
    """Return the record of a HEIC file where pillow-heif is not installed."""
    path = folder / "apple.heic"
    path.write_bytes(heic(picture()))
    (folder / "shim").mkdir()
    (folder / "shim" / "pillow_heif.py").write_text("raise ModuleNotFoundError(name='pillow_heif')\n")
    paths = os.pathsep.join([str(folder / "shim"), child_environment()["PYTHONPATH"]])
    done = genforensic("scan", path, "--exports", exports, "-f", "jsonl", env={"PYTHONPATH": paths})
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[1])
    return record


def _row(section: str, case: str, variant: str, record: dict[str, Any]) -> Row:
    return Row(section, case, variant, record["status"], record["reason"], tuple(record["warnings"]))


def table(rows: list[Row]) -> str:
    """Return the page: a table under each heading, with variants of one case together where a scan says the same."""
    lines = [_INTRODUCTION]
    for section in dict.fromkeys(row.section for row in rows):
        lines += [f"## {section}", "", "| file | status | reason | warnings |", "|---|---|---|---|"]
        grouped: dict[tuple[Any, ...], list[str]] = {}
        for row in (row for row in rows if row.section == section):
            grouped.setdefault((row.case, row.status, row.reason, row.warnings), []).append(row.variant)
        for (case, status, reason, warnings), variants in grouped.items():
            which = f": {', '.join(_with_ranges(variants))}" if any(variants) else ""
            lines.append(f"| {case}{which} | {status} | {reason or ''} | {' '.join(f'`{one}`' for one in warnings)} |")
        lines.append("")
    return "\n".join(lines)


def _with_ranges(variants: list[str]) -> Iterator[str]:
    """Yield names, with three or more that count up put together: "part 5", "part 6", "part 7" become "part 5 to 7"."""
    names = [re.fullmatch(r"(.*?)(\d*)", name) for name in variants]
    counted = [(name[1], int(name[2]) if name[2] else None) for name in names if name is not None]
    # Numbers that count up have the same difference to their place in the list
    runs = groupby(enumerate(counted), lambda item: (item[1][0], item[1][1] and item[1][1] - item[0]))
    for _, run in runs:
        places = [place for place, _ in run]
        if len(places) > 2:
            yield f"{variants[places[0]]} to {counted[places[-1]][1]}"
        else:
            yield from (variants[place] for place in places)


def main() -> None:
    """Write the page."""
    folder = Path(tempfile.mkdtemp())
    try:
        TABLE.write_text(table(scan_corpus(folder)), encoding="utf-8")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
