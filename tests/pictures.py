"""Encoded pictures for the tests, each made in code: every format and kind that a scan may meet."""

import base64
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

WIDTH, HEIGHT = 40, 32
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Neither Pillow nor OpenCV writes arithmetic coding; this is a JPEG of the gradient below, through jpegtran -arithmetic
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBYQERMUFRUVDA8XGBYU"
    "GBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAgACgD"
    "AREAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AOyq3gmccUSJ/wDNRa8aXf8AasYhn3x5HM7eJ/T2TmR+s0Ad/m+mGxQkAtBTtUBt"
    "eBSWPa19hmoflkWk2eye0U9rgkUtCfdNsr+KVdFf3rMrd4SB6KJmhC1hWabgy8KdzDkFwDDlfuYHcVUD5lKYLUk8Yr3xZI4LkWt1L565HZm8CLV4"
    "lpbSJL+x1atTJ5fq2DOaVu7FlCJhFh+1OeOHlR2ikvHqQkLfDczdzP0jvyVdzXhSYYra7GXSMg52zhuA/9k="
)


def gradient(height: int = HEIGHT, width: int = WIDTH, shift: int = 0) -> np.ndarray:
    """Return a smooth RGB picture, H x W x 3, whose four corners differ."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 6 + shift, rows * 7, (rows + columns) * 3 + shift], -1).astype(np.uint8)


def picture(mode: str = "RGB", shift: int = 0) -> Image.Image:
    """Return the gradient in a mode of Pillow."""
    return Image.fromarray(gradient(shift=shift)).convert(mode)


def encode(image: np.ndarray | Image.Image, kind: str, **options: Any) -> bytes:
    """Return an encoded picture; `kind` and `options` are those of Pillow."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    """Return a HEIC file."""
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """Return an EXIF block that holds an orientation."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def chunk(name: bytes, body: bytes = b"") -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int = WIDTH, height: int = HEIGHT, depth: int = 8, colours: int = 2, interlace: int = 0) -> bytes:
    """Return the IHDR chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlace))


def png(*chunks: bytes) -> bytes:
    """Return a PNG of these chunks, with its end."""
    return PNG_SIGNATURE + b"".join(chunks) + chunk(b"IEND")


def png_rows(pixels: np.ndarray | None = None) -> bytes:
    """Return what a PNG's IDAT chunks hold, not yet compressed: a filter byte and the pixels of each row."""
    return b"".join(b"\0" + row.tobytes() for row in (gradient() if pixels is None else pixels))


def png_with(*beside: bytes, behind: bytes = b"") -> bytes:
    """Return the gradient as a PNG of two IDAT chunks, with chunks before and behind them."""
    packed = zlib.compress(png_rows())
    half = len(packed) // 2
    return png(png_header(), *beside, chunk(b"IDAT", packed[:half]), chunk(b"IDAT", packed[half:]), behind)


def split_png(data: bytes) -> list[bytes]:
    """Return the chunks of a PNG, as far as their lengths can be followed."""
    parts, place = [], 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        parts.append(data[place:end])
        place = end
    return parts


def split_jpeg(data: bytes) -> list[bytes]:
    """Return the segments of a JPEG: SOI, each marker with its body, a scan header with its data, EOI."""
    parts, place = [data[:2]], 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xD9:
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] == 0xDA:
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        parts.append(data[place:end])
        place = max(end, place + 2)
    return [*parts, data[place:]]


def gif(body: Image.Image, canvas: tuple[int, int], corner: tuple[int, int], **options: Any) -> bytes:
    """Return a GIF whose one frame lies with its corner (x, y) on a canvas of another size; background: colour 0."""
    data = encode(body, "GIF", **options)
    place = data.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *body.size)) + 1
    return data[:6] + struct.pack("<HH", *canvas) + data[10:place] + struct.pack("<HH", *corner) + data[place + 4 :]


def bmp(body: bytes, bits: int, compression: int = 0, masks: Sequence[int] = (), palette: bytes = b"") -> bytes:
    """Return a BMP of WIDTH x HEIGHT with the pixels as they stand in the file, from the bottom up."""
    extra = struct.pack(f"<{len(masks)}I", *masks) + palette
    offset = 54 + len(extra)
    head = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, len(body), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + head + extra + body


def run_lengths(indices: np.ndarray, beyond: int = 0) -> bytes:
    """Return what an RLE8 BMP holds of palette indices, H x W.

    `beyond`: pixels that each row has too many, as ImageMagick writes them.
    """
    packed = b""
    for row in indices[::-1]:
        packed += b"".join(bytes((1, index)) for index in row) + bytes((beyond, 0)) * bool(beyond) + b"\0\0"
    return packed + b"\0\1"


def tiff(body: bytes, bits: Sequence[int], photometric: int = 1, tags: Mapping[int, Sequence[int]] = {}) -> bytes:
    """Return a TIFF of WIDTH x HEIGHT in one strip, with the pixels as they stand in the file.

    `bits`: of each channel. `photometric`: 0 white is zero, 1 black is zero, 2 RGB, 6 YCbCr. `tags`: further ones.
    """
    entries = {256: (WIDTH,), 257: (HEIGHT,), 258: bits, 259: (1,), 262: (photometric,), 273: (8,), 277: (len(bits),)}
    entries |= {278: (HEIGHT,), 279: (len(body),), **tags}
    directory, behind, place = b"", b"", 8 + len(body) + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}H", *values).ljust(4, b"\0")
        value = packed if len(packed) == 4 else struct.pack("<I", place + len(behind))
        behind += packed if len(packed) > 4 else b""
        directory += struct.pack("<HHI", tag, 3, len(values)) + value
    count = struct.pack("<H", len(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + count + directory + bytes(4) + behind


def rarely_sampled_jpeg() -> bytes:
    """Return a JPEG of 16 x 16 grey pixels whose colour channels are sampled in a way that hardly anything writes."""
    flat = encode(np.full((16, 16, 3), 128, np.uint8), "JPEG")
    head = bytearray(flat[: flat.index(b"\xff\xda") + 14])
    for i, factors in enumerate((0x22, 0x21, 0x12)):
        head[flat.index(b"\xff\xc0") + 11 + 3 * i] = factors
    blocks = 4 * "001010" + 4 * "0000"  # no change of the mean and no detail: luma, then both colours
    return bytes(head) + int(blocks, 2).to_bytes(5, "big") + b"\xff\xd9"


def jpeg_with(piece: bytes, number: int = 1) -> bytes:
    """Return the gradient as a JPEG with something in front of one of its segments; the first is number 1."""
    parts = split_jpeg(encode(picture(), "JPEG", quality=90))
    return b"".join((*parts[:number], piece, *parts[number:]))


BAD_PROFILE = b"\xff\xe2\0\x14ICC_PROFILE\0\x05\x02sRGB"
"""A segment that is part 5 of 2."""
NO_HUFFMAN_TABLE = b"\xff\xc4\0\x13\0" + b"\xff" * 16
"""A segment of a JPEG with more codes than there are."""


def nibbles(values: np.ndarray) -> bytes:
    """Return numbers below 16, H x W, two in a byte."""
    return (values[:, ::2] << 4 | values[:, 1::2]).astype(np.uint8).tobytes()


FRAMES: dict[str, Any] = {
    "save_all": True,
    "append_images": [picture(shift=80), picture(shift=160)],
    "duration": 100,
}
PAGES: dict[str, Any] = {"save_all": True, "append_images": [picture(shift=80)]}
DEEP = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)


def with_opencv(suffix: str, pixels: np.ndarray, *options: int) -> bytes:
    """Return what OpenCV writes: it knows 16-bit colour, where Pillow does not."""
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def seeds() -> dict[str, bytes]:
    """Return a small valid file of every format and kind, to be mutated."""
    plain = picture()
    return {
        "png": encode(plain, "PNG"),
        "png-parts": png_with(chunk(b"tEXt", b"a\0b"), behind=chunk(b"eXIf", exif(6).tobytes()[6:])),
        "png-palette": encode(plain.convert("P"), "PNG", transparency=0),
        "png-16": with_opencv(".png", DEEP),
        "png-interlaced": png(png_header(interlace=1), chunk(b"IDAT", zlib.compress(bytes(4200)))),
        "apng": encode(plain, "PNG", **FRAMES),
        "jpeg": encode(plain, "JPEG", quality=90, exif=exif(6)),
        "jpeg-progressive": encode(plain, "JPEG", quality=90, progressive=True),
        "jpeg-restarts": encode(plain, "JPEG", quality=90, restart_marker_blocks=2),
        "jpeg-cmyk": encode(plain.convert("CMYK"), "JPEG"),
        "jpeg-grey": encode(plain.convert("L"), "JPEG"),
        "jpeg-arithmetic": ARITHMETIC_JPEG,
        "jpeg-rare": rarely_sampled_jpeg(),
        "jpeg-profile": jpeg_with(BAD_PROFILE),
        "webp": encode(plain, "WEBP", quality=80),
        "webp-lossless": encode(plain.convert("RGBA"), "WEBP", lossless=True, exif=exif(6)),
        "webp-animated": encode(plain, "WEBP", **FRAMES),
        "gif": encode(plain, "GIF"),
        "gif-beyond": gif(picture("P"), (30, 20), (3, 4), transparency=0),
        "gif-animated": encode(plain, "GIF", **FRAMES),
        "bmp": encode(plain, "BMP"),
        "bmp-palette": encode(plain.convert("P"), "BMP"),
        "bmp-runs": bmp(run_lengths(gradient()[..., 0], 3), 8, 1, palette=bytes(1024)),
        "bmp-rgba": encode(plain.convert("RGBA"), "BMP"),
        "tiff": encode(plain, "TIFF"),
        "tiff-lzw": encode(plain, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encode(plain, "TIFF", compression="jpeg"),
        "tiff-fax": encode(plain.convert("1"), "TIFF", compression="group4"),
        "tiff-lzma": encode(plain.convert("RGBA"), "TIFF", compression="lzma"),
        "tiff-grey": tiff(DEEP[..., 0].tobytes(), (16,), 0),
        "tiff-pages": encode(plain, "TIFF", **PAGES),
        "tiff-16": with_opencv(".tiff", DEEP),
        "avif": encode(plain, "AVIF", exif=exif(6)),
        "avif-10": with_opencv(".avif", DEEP >> 6, cv2.IMWRITE_AVIF_DEPTH, 10),
        "heic": heic(plain),
        "jpeg2000": encode(plain, "JPEG2000"),
        "ppm": encode(plain, "PPM"),
        "tga": encode(plain, "TGA"),
    }
