"""Headers of all the formats that Pillow opens for us, with what it does not tell."""

import io
import logging
import warnings
from dataclasses import replace

from PIL import Image

from forensic_cli.headers.base import (
    Header,
    Unreadable,
    bad_header,
    is_other_profile,
    make_header,
    truncated,
    valid_orientation,
)
from forensic_cli.headers.boxes import boxes_end_early, has_too_many_boxes, is_deep_avif, jpeg2000_size
from forensic_cli.headers.tiff import look_at_tiff

_ORIENTATION = 0x0112  # EXIF tag
_ALPHA = frozenset(("LA", "La", "PA", "RGBA", "RGBa"))
_BOXED = frozenset(("AVIF", "JPEG2000"))
_LOSSLESS_TIFF = frozenset(("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd", "lzma"))
_UNPROMISED = ("PPM", "TGA", "ICO", "PCX", "PSD", "SGI", "DDS", "QOI", "ICNS", "DIB", "SUN")
"""Formats without a signature worth the name. Pillow has more, and with some of them a header takes it minutes."""
_UNPROMISED_BYTES = 1 << 16
"""More of a file is not searched for such a header."""

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its errors would go to standard error, without a file's name
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # decode() has its own limit, with a reason that the report can print


def inspect_general(data: bytes, promised: str | None) -> Header | Unreadable:
    """Read a header with Pillow; `promised` is the format that the first bytes say, None where they say nothing."""
    if promised is None:
        return _open(data[:_UNPROMISED_BYTES], _UNPROMISED) or Unreadable("not_an_image", "no known image format")
    if promised in _BOXED and has_too_many_boxes(data):
        return bad_header(promised)
    header = _open(data, (promised,))
    if _ends_early(data, promised):
        return truncated(header, promised)
    if header is None:
        return bad_header(promised)
    if promised == "TIFF" and look_at_tiff(data).ambiguous:
        return Unreadable("damaged", "the TIFF gives its width or height twice", header)
    if promised == "JPEG2000" and (jpeg2000_size(data) or ())[:2] != (header.width, header.height):
        return Unreadable("damaged", "the JPEG 2000 data contradicts its header", header)
    return header


def after_failure(data: bytes, header: Header) -> Unreadable:
    """Return why a picture with a good header could not be decoded, as far as the bytes tell."""
    name = header.format
    cut = (
        (name == "GIF" and not data.rstrip(b"\0").endswith(b";"))
        or (name == "BMP" and len(data) < int.from_bytes(data[2:6], "little"))
        or (name == "JPEG2000" and not data.rstrip(b"\0").endswith(b"\xff\xd9"))
        or (name == "AVIF" and b"mdat" not in data)
    )
    if cut:
        return truncated(header)
    if name == "TIFF" and "reduced_to_8_bit" in header.warnings:
        return Unreadable("unsupported", "TIFF files of 32 bits a channel cannot be decoded", header)
    return Unreadable("damaged", f"the {name} data is damaged", header)


def _open(data: bytes, formats: tuple[str, ...]) -> Header | None:
    try:
        # Not every format, so that a file cannot be one thing to Pillow and another one to the decoder
        with Image.open(io.BytesIO(data), formats=formats) as image:
            return _header(image, data)
    except Exception:  # Pillow's parsers raise whatever a hostile header leads them into
        return None


def _header(image: Image.Image, data: bytes) -> Header:
    changes = {
        "alpha_dropped": image.mode in _ALPHA or "transparency" in image.info,
        "colour_profile_ignored": is_other_profile(image.info.get("icc_profile") or b""),
        "converted_from_cmyk": image.mode == "CMYK",
        "first_frame_only": bool(getattr(image, "is_animated", False)),
        "palette": image.mode in ("1", "P", "PA"),
        "reduced_to_8_bit": image.mode.startswith(("I", "F")) or _is_deep(image, data),
    }
    header = make_header(str(image.format), image.size, changes, _orientation(image))
    if header.format != "TIFF":
        return header
    lossless = image.info.get("compression") in _LOSSLESS_TIFF
    # libtiff turns the pixels by itself; Pillow gives the size after that, too
    return replace(header, orientation=1, compression="lossless" if lossless else "")


def _is_deep(image: Image.Image, data: bytes) -> bool:
    if image.format == "AVIF":
        return is_deep_avif(data)
    if image.format == "JPEG2000":
        return (jpeg2000_size(data) or (0, 0, 0))[2] > 8
    tiles = [str(tile[3]) for tile in getattr(image, "tile", [])]
    return any(";16" in tile or "65535" in tile for tile in tiles)


def _orientation(image: Image.Image) -> int:
    try:
        return valid_orientation(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1


def _ends_early(data: bytes, name: str) -> bool:
    if name == "TIFF":
        return look_at_tiff(data).ends_early
    if name == "BMP":
        return len(data) < 14 + int.from_bytes(data[14:18].ljust(4, b"\xff"), "little")
    return name in _BOXED and boxes_end_early(data, name)
