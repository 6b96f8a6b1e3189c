"""THE preprocessing: encoded bytes -> pixels -> views. Training and scanning share it; nobody else decodes."""

import math
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from forensic_cli.card import Preprocessing
from forensic_cli.headers import inspect, read_header, sniff
from forensic_cli.headers.base import STATUSES, WARNINGS, Header, Unreadable, truncated
from forensic_cli.headers.general import after_failure
from forensic_cli.headers.heic import open_heic
from forensic_cli.headers.png import without_metadata

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "STATUSES",
    "WARNINGS",
    "WRONG_SUFFIX",
    "Decoded",
    "Header",
    "Pixels",
    "Unreadable",
    "Views",
    "decode",
    "even_origins",
    "grid_origins",
    "name_warnings",
    "pad",
    "read_header",
    "sniff",
    "view_warnings",
    "views",
]

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""RGB, H x W x 3."""
Views: TypeAlias = npt.NDArray[np.uint8]
"""RGB, V x S x S x 3."""

MAX_PIXELS = 200_000_000
"""Larger images are refused on their header, before anything is decoded, unless a caller says otherwise."""
MAX_BYTES = 1 << 30
"""Larger files are not read: OpenCV takes no more than 2 GB, and several are in memory at once."""

_OPENCV = frozenset(("PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM"))
"""Formats whose size OpenCV and the header's reader agree on; what else it might find in a file is not decoded."""
WRONG_SUFFIX = "wrong_suffix"
"""The only warning that a file's name deserves, not its bytes."""
_SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG",)),
    **dict.fromkeys((".png", ".apng"), ("PNG",)),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    **dict.fromkeys((".jp2", ".j2k"), ("JPEG2000",)),
    **{".webp": ("WEBP",), ".gif": ("GIF",), ".bmp": ("BMP",)},
    **{".avif": ("AVIF",), ".heic": ("HEIC",), ".heif": ("HEIC", "AVIF")},
}
_FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_LARGE = 50_000_000
"""Pixels. 200 million of them cost 1.4 GB as a PNG, 2.2 GB as an animated WebP and 3.7 GB as JPEG 2000."""
_LARGE_BYTES = 7
"""What decoding takes for a pixel, at least."""
_ONE_LARGE_PICTURE = threading.Lock()
"""Held while a large picture is decoded, so that a folder of bombs takes the memory of one, not of one a core."""
_JPEG_ENDS = "Premature end of JPEG file"  # libjpeg's words, when it runs out of bytes

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True)
class Decoded:
    """An image that was read."""

    pixels: Pixels
    """8-bit RGB, upright, alpha dropped, first frame."""
    header: Header
    """What the file said of itself, and in its warnings what decoding met."""


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded | Unreadable:
    """Decode one file's bytes to upright 8-bit RGB, if its header has no more pixels than `max_pixels`.

    JPEG goes through simplejpeg, which tells of damaged data, HEIC through pillow-heif, the rest through OpenCV.
    Never raises for bad input.
    """
    header = inspect(data)
    if isinstance(header, Unreadable):
        return header
    if header.width * header.height > max_pixels:
        return Unreadable(
            "too_large",
            f"{header.width} x {header.height} pixels are more than the {max_pixels / 1_000_000:g} megapixels allowed",
            header,
        )
    try:
        found = _decode_large(data, header) if header.width * header.height > _LARGE else _decode(data, header)
        if isinstance(found, Unreadable):
            return found
        height, width = found.pixels.shape[:2]
        if (width, height) != (header.width, header.height):
            reason = f"the header promises {header.width} x {header.height} pixels, the picture has {width} x {height}"
            return Unreadable("damaged", reason, header)
        return replace(found, pixels=_upright(found.pixels, header.orientation))
    except MemoryError:
        reason = f"{header.width} x {header.height} pixels are too many for this machine's memory"
        return Unreadable("unreadable", reason, header)


def _decode_large(data: bytes, header: Header) -> Decoded | Unreadable:
    with _ONE_LARGE_PICTURE:
        found = _decode(data, header)
        if isinstance(found, Unreadable):
            # OpenCV does not tell a lack of memory from damage; NumPy does, by a MemoryError
            np.empty((header.height, header.width, _LARGE_BYTES), np.uint8)
        return found


def _decode(data: bytes, header: Header) -> Decoded | Unreadable:
    if header.format == "JPEG":
        return _decode_jpeg(data, header)
    if header.format == "HEIC":
        return _decode_heic(data, header)
    if header.format in _OPENCV:
        return _decode_with_opencv(data, header)
    return Unreadable("unsupported", f"{header.format} files cannot be decoded", header)


def views(pixels: Pixels, preprocessing: Preprocessing) -> Views:
    """Turn one image into its views, uint8 V x S x S x 3; the same pixels give the same array, bit for bit.

    `whole`: one view, resized to S x S with Pillow's antialiased bilinear filter, aspect not kept (PAPER,
    "Common to all techniques"; torchvision's Resize on a PIL image). `patches`: an even grid of S x S
    patches at native resolution; an image smaller than S is mirrored at its border.
    """
    size = preprocessing.size
    if preprocessing.mode == "whole":
        resized = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
        return np.array(resized)[None]  # an array of its own: PyTorch warns of read-only ones
    padded = pad(pixels, size)
    corners = _corners(padded.shape[0], padded.shape[1], preprocessing)
    return np.stack([padded[top : top + size, left : left + size] for top, left in corners])


def view_places(height: int, width: int, preprocessing: Preprocessing) -> list[tuple[int, int, int, int]]:
    """Return where each view of an image of these sides lies in it: (top, left, bottom, right), in the views' order.

    What was mirrored at a border is left out, so every place lies within the image.
    """
    size = preprocessing.size
    if preprocessing.mode == "whole":
        return [(0, 0, height, width)]
    corners = _corners(max(height, size), max(width, size), preprocessing)
    return [(top, left, min(top + size, height), min(left + size, width)) for top, left in corners]


def _corners(height: int, width: int, preprocessing: Preprocessing) -> list[tuple[int, int]]:
    size, grid, align = preprocessing.size, preprocessing.grid, preprocessing.align
    # Two origins less than a step of the alignment apart would be one patch twice
    tops, lefts = (
        dict.fromkeys(origin // align * align for origin in grid_origins(side, size, grid)) for side in (height, width)
    )
    return [(top, left) for top in tops for left in lefts]


def view_warnings(pixels: Pixels, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return the warnings that cutting views from these pixels deserves."""
    if min(pixels.shape[:2]) >= preprocessing.size:
        return ()
    return ("padded",) if preprocessing.mode == "patches" else ("upscaled",)


def name_warnings(path: Path, found: str) -> tuple[str, ...]:
    """Return the warning that a file's name deserves: its suffix promises another format than its bytes have."""
    return (WRONG_SUFFIX,) if found not in _SUFFIXES.get(path.suffix.lower(), (found,)) else ()


def pad(pixels: Pixels, size: int) -> Pixels:
    """Mirror the border so that both sides measure at least `size` pixels."""
    below = max(0, size - pixels.shape[0])
    right = max(0, size - pixels.shape[1])
    if not below and not right:
        return pixels
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def grid_origins(length: int, size: int, most: int) -> list[int]:
    """Return where patches of `size` begin along a side: evenly spread, from edge to edge, `most` at most."""
    return even_origins(length, size, min(most, math.ceil(length / size)))


def even_origins(length: int, size: int, count: int) -> list[int]:
    """Return where `count` pieces of `size` begin along a side, evenly from edge to edge; one is in the middle."""
    if count == 1:
        return [(length - size) // 2]
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def _decode_jpeg(data: bytes, header: Header) -> Decoded | Unreadable:
    try:
        return Decoded(_rgb_of_jpeg(data, strict=True), header)
    except ValueError as error:
        complaint = str(error)
    if complaint.startswith(_JPEG_ENDS) or data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):
        return truncated(header)
    try:
        pixels = _rgb_of_jpeg(data, strict=False)
    except ValueError:
        return Unreadable("damaged", "the JPEG data is damaged", header)
    return Decoded(pixels, replace(header, warnings=tuple(sorted((*header.warnings, "damaged_data")))))


def _rgb_of_jpeg(data: bytes, strict: bool) -> Pixels:
    """Decode with the slow, exact transform and upsampling of libjpeg: the pixels of OpenCV and Pillow, bit for bit."""
    return np.asarray(simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=strict), np.uint8)


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


def _decode_with_opencv(data: bytes, header: Header) -> Decoded | Unreadable:
    picture = without_metadata(data) if header.format == "PNG" else data
    try:
        pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), _FLAGS)
    except cv2.error:
        pixels = None
    return after_failure(data, header) if pixels is None else Decoded(np.asarray(pixels, np.uint8), header)


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
