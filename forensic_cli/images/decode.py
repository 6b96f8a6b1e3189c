"""THE decoder: encoded bytes -> header -> upright 8-bit RGB. Training and scanning share it; nobody else decodes."""

import threading
from contextlib import nullcontext
from dataclasses import dataclass, replace

import cv2
import numpy as np
import simplejpeg

from forensic_cli.console import silence_c_libraries
from forensic_cli.images.containers import iso_format
from forensic_cli.images.gif_webp import inspect_gif, inspect_webp
from forensic_cli.images.header import Header, Inspection, Pixels, Unreadable, format_name
from forensic_cli.images.jpeg import inspect_jpeg
from forensic_cli.images.other_formats import after_failure, inspect_other, open_heic, stored_colours
from forensic_cli.images.png import SIGNATURE, inspect_png

MAX_PIXELS = 200_000_000
"""Larger images are refused on their header, before anything is decoded, unless a caller says otherwise."""
MAX_BYTES = 1 << 30
"""Larger files are not read: OpenCV takes no more than 2 GB, and several are in memory at once."""

_OPENCV = frozenset(("PNG", "WEBP", "PPM"))
"""Formats whose size OpenCV and the header's reader agree on; anything else that OpenCV might see is not decoded."""
_PILLOW = frozenset(("GIF", "BMP", "TIFF", "AVIF", "JPEG2000"))
"""Formats in which OpenCV multiplies alpha in, fills what a frame leaves free, or does not know every kind of pixel."""
SUFFIXES = {
    **{"JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"), "PNG": (".png", ".apng"), "WEBP": (".webp",), "GIF": (".gif",)},
    **{"BMP": (".bmp",), "TIFF": (".tif", ".tiff"), "JPEG2000": (".jp2", ".j2k")},
    **{"AVIF": (".avif", ".heif"), "HEIC": (".heic", ".heif")},
}
"""{format: the suffixes of its files}."""
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_LARGE = 50_000_000
"""Pixels. 200 million of them cost 1.4 GB as a PNG, 2.2 GB as an animated WebP and 3.9 GB as JPEG 2000."""
_LARGE_BYTES = 7
"""What decoding takes for each pixel, at least."""
_ONE_LARGE_IMAGE = threading.Lock()
"""Held while a large image is decoded, so that a folder of bombs takes the memory of one, not of one for each core."""
_UNKNOWN_TO_SIMPLEJPEG = ("Unsupported color conversion", "tjDecompressHeader3(): Could not determine subsampling")
"""Its messages about lossless grey, and about sampling that is rare but allowed."""
_JPEG_ENDS = "Premature end of JPEG file"  # libjpeg's message when it runs out of bytes

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
silence_c_libraries()

_MAGIC = {
    **{b"\xff\xd8\xff": "JPEG", SIGNATURE: "PNG", b"GIF8": "GIF", b"BM": "BMP"},
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    **dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG2000"),
}
_READERS = {"PNG": inspect_png, "JPEG": inspect_jpeg, "GIF": inspect_gif, "WEBP": inspect_webp}
"""{format: the reader of its header}; Pillow and libheif read the others'."""
_LONGEST_BRANDS = 256
"""Bytes of a first box that are looked at; real ones have ten brands or so."""


def sniff(head: bytes) -> str | None:
    """Return the image format that the first bytes promise, or None; 16 bytes do, more tell AVIF from HEIC better."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return iso_format(head)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def inspect(data: bytes) -> Inspection:
    """Walk through an encoded image's structure once; returns its header and metadata; never raises for bad input."""
    if not data:
        return Inspection(Unreadable("empty", "the file is empty"))
    promised = sniff(data[:_LONGEST_BRANDS])
    reader = _READERS.get(promised or "")
    return reader(data) if reader else inspect_other(data, promised)


def read_header(data: bytes) -> Header | None:
    """Return what the header of an encoded image says, or None where it cannot be read."""
    result = inspect(data).result
    return result if isinstance(result, Header) else result.header


@dataclass(frozen=True)
class Decoded:
    """An image that was read."""

    pixels: Pixels
    """8-bit RGB, upright, alpha dropped, first frame."""
    header: Header
    """What the file said of itself, and in its warnings what decoding met."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS, inspection: Inspection | None = None) -> Decoded | Unreadable:
    """Decode one file's bytes to upright 8-bit RGB, if its header has no more pixels than `max_pixels`.

    `inspection`: what `inspect` returned for the same bytes, if that was needed before. JPEG goes through simplejpeg,
    which reports damaged data, PNG and WebP through OpenCV, which is the fastest, HEIC through pillow-heif, the rest
    through Pillow, which gives colours as they are stored. Never raises for bad input.
    """
    inspection = inspection or inspect(data)
    header = inspection.result
    if isinstance(header, Unreadable):
        return header
    size = f"{header.width} x {header.height} pixels"
    if header.width * header.height > max_pixels:
        limit = f"{max_pixels / 1_000_000:g} megapixels" if max_pixels >= 1_000_000 else f"{max_pixels} pixels"
        return Unreadable("too_large", f"{size} are more than the {limit} allowed", header)
    try:
        return _decode_upright(data, header, inspection)
    except MemoryError:
        return Unreadable("unreadable", f"{size} are too many for this machine's memory", header)


def _decode_upright(data: bytes, header: Header, inspection: Inspection) -> Decoded | Unreadable:
    is_large = header.width * header.height > _LARGE
    with _ONE_LARGE_IMAGE if is_large else nullcontext():
        decoded = _decode(data, header, inspection)
        if isinstance(decoded, Unreadable):
            if is_large:  # OpenCV does not tell a lack of memory from damage; NumPy does, by a MemoryError
                np.empty((header.height, header.width, _LARGE_BYTES), np.uint8)
            return decoded
    height, width = decoded.pixels.shape[:2]
    if (width, height) != (header.width, header.height):
        reason = f"the header promises {header.width} x {header.height} pixels, the picture has {width} x {height}"
        return Unreadable("damaged", reason, header)
    return replace(decoded, pixels=_upright(decoded.pixels, header.orientation))


def _decode(data: bytes, header: Header, inspection: Inspection) -> Decoded | Unreadable:
    if header.format == "JPEG":
        return _decode_jpeg(data, header, inspection)
    if header.format == "HEIC":
        return _decode_heic(data, header)
    if header.format in _OPENCV:
        pixels = _pixels_of_opencv(inspection.without_metadata(data))
        return after_failure(data, header) if pixels is None else Decoded(pixels, header)
    if header.format == "GIF":  # its first frame alone, and the end mark
        return _decode_with_pillow(inspection.without_metadata(data) + b";", header, data)
    if header.format in _PILLOW:
        return _decode_with_pillow(data, header, data)
    return Unreadable("unsupported", f"{header.format} files cannot be decoded", header)


def has_wrong_suffix(suffix: str, name: str) -> bool:
    """Tell whether a file's suffix, such as `.png`, promises another format than `name`, which its bytes have."""
    promised = [promised for promised, suffixes in SUFFIXES.items() if suffix.lower() in suffixes]
    return bool(promised) and name not in promised


def _decode_jpeg(data: bytes, header: Header, inspection: Inspection) -> Decoded | Unreadable:
    """Decode strictly; then without metadata and stray bytes; then with guesses at what is damaged."""
    try:
        return Decoded(_rgb_of_jpeg(data), header)
    except ValueError as error:
        complaint = str(error)
    # A broken profile, or bytes between two segments, must not keep an image from being judged
    bare = inspection.without_metadata(data)
    if not _is_cut(data, complaint):
        try:
            return Decoded(_rgb_of_jpeg(bare), header.with_warnings("damaged_metadata"))
        except ValueError as error:
            complaint = str(error)
    if _is_cut(data, complaint):
        return Unreadable.truncated(header, header.format)
    guessed = _guessed_rgb_of_jpeg(bare, header)
    if guessed is not None:
        return Decoded(guessed, header.with_warnings("damaged_data"))
    is_whole = complaint.startswith(_UNKNOWN_TO_SIMPLEJPEG)
    return _decode_with_pillow(bare, header if is_whole else header.with_warnings("damaged_data"), bare)


def _is_cut(jpeg: bytes, complaint: str) -> bool:
    return complaint.startswith(_JPEG_ENDS) or jpeg.rfind(b"\xff\xd9") < jpeg.rfind(b"\xff\xda")


def _rgb_of_jpeg(data: bytes) -> Pixels:
    """Decode with the slow, exact transform and upsampling of libjpeg: the pixels of OpenCV and Pillow, bit for bit."""
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True), np.uint8)


def _guessed_rgb_of_jpeg(data: bytes, header: Header) -> Pixels | None:
    """Decode as far as libjpeg gets; None if it gave up before the last row, and left the memory there as it was."""
    if "converted_from_cmyk" in header.warnings:  # simplejpeg converts whatever lies in a buffer of its own
        return None
    pixels = np.empty((header.height, header.width, 3), np.uint8)
    mark = np.random.default_rng(0).integers(0, 256, pixels.shape[1:], dtype=np.uint8)
    pixels[-1] = mark
    try:
        simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=False, buffer=pixels)
    except ValueError:
        return None
    return None if np.array_equal(pixels[-1], mark) else pixels


def _decode_heic(data: bytes, header: Header) -> Decoded | Unreadable:
    try:
        file = open_heic(data)
        pixels = np.asarray(file[file.primary_index])
    except Exception:  # libheif's errors come as several types
        return Unreadable("damaged", "the HEIC data is damaged", header)
    if pixels.dtype == np.uint16:
        pixels = pixels >> 8
    colours = pixels[..., :3] if pixels.ndim == 3 and pixels.shape[2] >= 3 else np.atleast_3d(pixels)[..., :1]
    return Decoded(np.ascontiguousarray(np.broadcast_to(colours, (*pixels.shape[:2], 3)), np.uint8), header)


def _pixels_of_opencv(data: bytes) -> Pixels | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _decode_with_pillow(picture: bytes, header: Header, data: bytes) -> Decoded | Unreadable:
    """Decode `picture`; what went wrong is told from `data`, the file that it is from."""
    try:
        return Decoded(stored_colours(picture, header.format), header)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever hostile data leads them into
        failure = after_failure(data, header, str(error))
    if failure.status == "damaged" and header.format in _PILLOW and _pixels_of_opencv(data) is not None:
        # So it is not damaged; but OpenCV may have multiplied alpha in, or guessed
        reason = f"this kind of {format_name(header.format)} data cannot be decoded faithfully"
        return Unreadable("unsupported", reason, header)
    return failure


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
