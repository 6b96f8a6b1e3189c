"""THE preprocessing: encoded bytes -> pixels -> views. Training and scanning share it; nobody else decodes."""

import io
import math
import warnings
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from forensic_cli.card import Preprocessing

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""RGB, H x W x 3."""
Views: TypeAlias = npt.NDArray[np.uint8]
"""RGB, V x S x S x 3."""

MAX_PIXELS = 200_000_000
"""Larger images are refused on their header, before anything is decoded, unless a caller says otherwise."""

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC"}
_ORIENTATION = 0x0112  # EXIF tag
_QUALITY_75 = 1858
"""Sum of the luma quantisation table of JPEG's Annex K at the quality 75 of libjpeg; more is coarser."""

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # MAX_PIXELS is checked here, with a reason that the report can print


@dataclass(frozen=True)
class Header:
    """What a file's header says, before any pixel is decoded."""

    format: str
    """JPEG, PNG, WEBP, ..."""
    width: int
    """Pixels, as stored (before an EXIF rotation)."""
    height: int
    """Pixels, as stored."""
    warnings: tuple[str, ...]
    """What decoding will change, and what was lost before; names from WARNINGS."""


@dataclass(frozen=True)
class Decoded:
    """An image that was read."""

    pixels: Pixels
    """8-bit RGB, upright, alpha dropped, first frame."""
    header: Header
    """What the file said of itself."""


@dataclass(frozen=True)
class Unreadable:
    """A file that gives no pixels: a value, not an exception."""

    status: str
    """One of STATUSES."""
    reason: str
    """One line for the report."""
    header: Header | None = None
    """What could be read of the header."""


STATUSES = (
    "missing",
    "unreadable",
    "empty",
    "not_an_image",
    "truncated",
    "damaged",
    "unsupported",
    "too_large",
)
"""Every status of a row that is not `ok`."""

WARNINGS = {
    "alpha_dropped": "transparency was dropped; colours under it were judged as stored",
    "converted_from_cmyk": "CMYK was converted to RGB",
    "first_frame_only": "the file has several frames or pages; only the first was judged",
    "heavily_compressed": "a JPEG of quality below 75; little of a fingerprint survives that",
    "orientation_applied": "an EXIF rotation was applied",
    "padded": "smaller than one patch; mirrored at the border",
    "reduced_to_8_bit": "more than 8 bits a channel were reduced to 8",
    "upscaled": "smaller than the view; enlarged",
}
"""Name of each warning in a row, and what it means."""


def sniff(head: bytes) -> str | None:
    """Return the image format that the first 16 bytes promise, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _ISO_BRANDS.get(head[8:12])
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def read_header(data: bytes) -> Header | None:
    """Return what the header of an encoded image says, or None where it cannot be read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            name = "JPEG" if image.format == "MPO" else str(image.format)
            return Header(name, image.width, image.height, tuple(sorted(_changes(image))))
    except Exception:  # Pillow's parsers raise whatever a hostile header leads them into
        return None


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> Decoded | Unreadable:
    """Decode one file's bytes to upright 8-bit RGB with OpenCV, if its header has no more pixels than `max_pixels`.

    Never raises for bad input.
    """
    if not data:
        return Unreadable("empty", "the file is empty")
    promised = sniff(data[:16])
    header = read_header(data)
    if header is None:
        return _without_header(data, promised)
    if header.width * header.height > max_pixels:
        return Unreadable(
            "too_large",
            f"{header.width} x {header.height} pixels are more than the {max_pixels / 1_000_000:g} megapixels allowed",
            header,
        )
    if _ends_early(data, header.format):
        return Unreadable("truncated", "the file ends before the picture does", header)
    pixels = _imdecode(data)
    if pixels is not None:
        return Decoded(pixels, header)
    if header.format == "JPEG" and not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return Unreadable("truncated", "the file ends before the picture does", header)
    if promised is None:
        return Unreadable("unsupported", f"{header.format} files cannot be decoded", header)
    return Unreadable("damaged", f"the {header.format} data is damaged", header)


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
    size, grid = preprocessing.size, preprocessing.grid
    return [(top, left) for top in grid_origins(height, size, grid) for left in grid_origins(width, size, grid)]


def view_warnings(pixels: Pixels, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Return the warnings that cutting views from these pixels deserves."""
    if min(pixels.shape[:2]) >= preprocessing.size:
        return ()
    return ("padded",) if preprocessing.mode == "patches" else ("upscaled",)


def pad(pixels: Pixels, size: int) -> Pixels:
    """Mirror the border so that both sides measure at least `size` pixels."""
    below = max(0, size - pixels.shape[0])
    right = max(0, size - pixels.shape[1])
    if not below and not right:
        return pixels
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REFLECT_101), np.uint8)


def grid_origins(length: int, size: int, most: int) -> list[int]:
    """Return where patches of `size` begin along a side: evenly spread, from edge to edge, `most` at most."""
    count = min(most, math.ceil(length / size))
    if count == 1:
        return [(length - size) // 2]
    return [round(i * (length - size) / (count - 1)) for i in range(count)]


def _imdecode(data: bytes) -> Pixels | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _without_header(data: bytes, promised: str | None) -> Unreadable:
    if promised is None:
        return Unreadable("not_an_image", "no known image format")
    if promised == "HEIC":
        return Unreadable("unsupported", "HEIC files cannot be decoded; convert them to PNG without resizing")
    if _ends_early(data, promised):
        return Unreadable("truncated", f"begins like a {promised} file, but ends in its header")
    return Unreadable("damaged", f"begins like a {promised} file, but its header cannot be read")


def _ends_early(data: bytes, name: str) -> bool:
    # libpng writes to stderr by itself on a truncated file, so PNG is looked at before it decodes
    if name == "PNG":
        return b"IEND\xaeB`\x82" not in data
    if name == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    return False


def _changes(image: Image.Image) -> list[str]:
    found = []
    if "A" in image.mode or "transparency" in image.info:
        found.append("alpha_dropped")
    if image.mode == "CMYK":
        found.append("converted_from_cmyk")
    if sum(getattr(image, "quantization", {}).get(0, ())) > _QUALITY_75:
        found.append("heavily_compressed")
    if image.mode.startswith(("I", "F")) or _deep_png(image):
        found.append("reduced_to_8_bit")
    if getattr(image, "is_animated", False) and image.format != "MPO":
        found.append("first_frame_only")
    if 2 <= _orientation(image) <= 8:
        found.append("orientation_applied")
    return found


def _deep_png(image: Image.Image) -> bool:
    # Pillow opens 16-bit RGB PNGs as RGB; the raw mode of the tile still tells
    return any(";16" in str(tile[3]) for tile in getattr(image, "tile", []))


def _orientation(image: Image.Image) -> int:
    # PngImageFile.getexif() decodes the whole picture to look for a chunk behind the pixels
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1
