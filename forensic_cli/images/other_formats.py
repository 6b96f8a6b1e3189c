"""Headers and stored colours of all the formats that Pillow opens for us, with what it does not tell."""

import io
import logging
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, COMPRESSION, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from forensic_cli.errors import pip_line
from forensic_cli.images.containers import (
    Structure,
    boxes_end_early,
    has_too_many_boxes,
    is_deep_avif,
    is_turned,
    jpeg2000_size,
    look_at_tiff,
)
from forensic_cli.images.header import (
    Header,
    Unreadable,
    bad_header,
    is_other_profile,
    make_header,
    truncated,
    valid_orientation,
)

_ORIENTATION = 0x0112  # EXIF tag
_ALPHA = frozenset(("LA", "La", "PA", "RGBA", "RGBa"))
_BOXED = frozenset(("AVIF", "JPEG2000"))
_LOSSLESS_TIFF = frozenset(("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd", "lzma"))
_UNPROMISED = ("PPM", "TGA", "ICO", "PCX", "PSD", "SGI", "DDS", "QOI", "ICNS", "DIB", "SUN")
"""Formats without a signature worth the name. Pillow has more, and with some of them a header takes it minutes."""
_UNPROMISED_BYTES = 1 << 16
"""More of a file is not searched for such a header."""
_JPEG, _WEBP = 7, 50_001
"""Compressions of a TIFF; Pillow decodes the first of 8 bits alone, and the second not at all."""
_WHITE_IS_ZERO = 0
_RLE = (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"])
_MOST_RLE_PIXELS = 16_000_000
"""Pillow unpacks a BMP's run lengths in Python: 60 kB of them could hold 200 million pixels and take half a minute."""

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its errors would go to standard error, without a file's name
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # decode() has its own limit, with a reason that the report can print


def inspect_general(data: bytes, promised: str | None) -> Header | Unreadable:
    """Read a header with Pillow; `promised` is the format that the first bytes say, None where they say nothing."""
    if promised is None:
        return _open(data[:_UNPROMISED_BYTES], _UNPROMISED) or Unreadable("not_an_image", "no known image format")
    if promised in _BOXED and has_too_many_boxes(data):
        return bad_header(promised)
    opened = _open(data, (promised,))
    header = opened if isinstance(opened, Header) else None
    tiff = look_at_tiff(data) if promised == "TIFF" else Structure()
    if tiff.ends_early or _ends_early(data, promised):
        return truncated(header, promised)
    if header is None:
        return opened or _unopened(data, promised, tiff)
    if tiff.ambiguous:
        return Unreadable("damaged", "the TIFF gives its width or height twice", header)
    if promised == "JPEG2000" and (jpeg2000_size(data) or ())[:2] != (header.width, header.height):
        return Unreadable("damaged", "the JPEG 2000 data contradicts its header", header)
    return header


def after_failure(data: bytes, header: Header, complaint: str = "") -> Unreadable:
    """Return why a picture with a good header could not be decoded, as far as the bytes and the decoder tell."""
    name = header.format
    cut = (
        ("truncated" in complaint and name != "GIF")  # whose end was looked for before
        or (name == "GIF" and not data.rstrip(b"\0").endswith(b";"))
        or (name == "BMP" and len(data) < int.from_bytes(data[2:6], "little"))
        or (name == "JPEG2000" and not data.rstrip(b"\0").endswith(b"\xff\xd9"))
        or (name == "AVIF" and b"mdat" not in data)
    )
    if cut:
        return truncated(header)
    if "unknown raw mode" in complaint:
        return _unsupported(f"{name} files of this kind", header)
    return Unreadable("damaged", f"the {name} data is damaged", header)


def open_image(data: bytes, name: str) -> Image.Image:
    """Open an image with Pillow as the named format, not as any other; raises whatever Pillow does."""
    return Image.open(io.BytesIO(data), formats=(name,))


def stored_colours(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Decode an open image to the colours as stored, RGB, H x W x 3; raises whatever Pillow does.

    Alpha is neither multiplied in nor divided out, and of more than 8 bits the upper 8 are taken.
    """
    if isinstance(image, TiffImageFile):  # from colours that alpha was multiplied into, Pillow would divide it out
        image.tile = [tile._replace(args=_without_division(tile.args)) for tile in image.tile]
    image.load()
    if image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.mode == "La":
        image = image.getchannel(0)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), np.uint8)


def _without_division(args: Any) -> Any:
    return (args[0].replace("RGBa", "RGBA"), *args[1:]) if isinstance(args, tuple) else args


def _deep_grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    tags: Mapping[int, Any] = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    grey = (np.asarray(image) >> (tags.get(BITSPERSAMPLE, (16,))[0] - 8)).astype(np.uint8)
    if tags.get(PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:  # which Pillow sees to up to 8 bits
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2)


def _unsupported(what: str, header: Header | None) -> Unreadable:
    return Unreadable("unsupported", f"{what} cannot be decoded", header)


def _unopened(data: bytes, name: str, tiff: Structure) -> Unreadable:
    """Return why there is no header: a kind of file that Pillow does not know is not damaged."""
    size = (jpeg2000_size(data) or ())[:2] if name == "JPEG2000" else (tiff.width, tiff.height)
    if len(size) == 2 and all(size):
        return _unsupported(f"{name} files of this kind", make_header(name, size, {}))
    return bad_header(name)


def _open(data: bytes, formats: tuple[str, ...]) -> Header | Unreadable | None:
    try:
        # Not every format, so that a file cannot be one thing to Pillow and another one to the decoder
        with Image.open(io.BytesIO(data), formats=formats) as image:
            header = _header(image, data)
            return _refusal(image, header) or header
    except Exception as error:  # Pillow's parsers raise whatever a hostile header leads them into
        is_known = str(error).startswith("Unsupported BMP")
        return _unsupported("BMP files of this kind", None) if is_known else None


def _refusal(image: Image.Image, header: Header) -> Unreadable | None:
    """Return why an image is not decoded although Pillow can open it; None where it is."""
    if header.format == "BMP" and image.info["compression"] in _RLE and image.width * image.height > _MOST_RLE_PIXELS:
        limit = f"{_MOST_RLE_PIXELS // 1_000_000} megapixels"
        return _unsupported(f"run-length encoded BMP files of more than {limit}", header)
    if not isinstance(image, TiffImageFile):
        return None
    bits, compression = image.tag_v2.get(BITSPERSAMPLE, (1,))[0], image.tag_v2.get(COMPRESSION)
    if image.mode in ("I", "F"):
        kind = f"{bits} bits a channel" if bits > 16 else "signed numbers"
        return _unsupported(f"TIFF files of {kind}", header)
    if compression == _JPEG and bits != 8:
        return _unsupported(f"TIFF files with JPEG data of {bits} bits a channel", header)
    return _unsupported("TIFF files with WebP data", header) if compression == _WEBP else None


def _header(image: Image.Image, data: bytes) -> Header:
    changes = {
        "alpha_dropped": image.mode in _ALPHA or "transparency" in image.info or _has_spare_bytes(image, data),
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
    # Pillow turns the pixels of a TIFF by itself, and gives the size after that, too
    return replace(header, orientation=1, compression="lossless" if lossless else "")


def _has_spare_bytes(image: Image.Image, data: bytes) -> bool:
    """Tell whether the fourth bytes of a BMP, which its header calls spare, hold what can only be alpha."""
    tile = image.tile[0] if image.format == "BMP" and isinstance(image, ImageFile) else None
    if tile is None or not isinstance(tile.args, tuple) or tile.args[0] != "BGRX":
        return False
    pixels = np.frombuffer(data, np.uint8)[tile.offset : tile.offset + 4 * image.width * image.height]
    return bool(pixels[3::4].any())


def _is_deep(image: Image.Image, data: bytes) -> bool:
    if image.format == "AVIF":
        return is_deep_avif(data)
    if image.format == "JPEG2000":
        return (jpeg2000_size(data) or (0, 0, 0))[2] > 8
    if image.format == "BMP":  # its 16 bits are those of all channels together
        return False
    tiles = [str(tile[3]) for tile in getattr(image, "tile", [])]
    return any(";16" in tile or "65535" in tile for tile in tiles)


def _orientation(image: Image.Image) -> int:
    try:
        return valid_orientation(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1


def _ends_early(data: bytes, name: str) -> bool:
    if name == "BMP":
        return len(data) < 14 + int.from_bytes(data[14:18].ljust(4, b"\xff"), "little")
    return name in _BOXED and boxes_end_early(data, name)


_MISSING = Unreadable("unsupported", f"HEIC files need pillow-heif, which is not installed; run: {pip_line('heif')}")


def open_heic(data: bytes) -> Any:
    """Return pillow-heif's lazy file object; its pixels are 8-bit, and turned upright by libheif."""
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)


def inspect_heic(data: bytes) -> Header | Unreadable:
    """Read the header of a HEIC file; without pillow-heif the answer says what to install."""
    if has_too_many_boxes(data):
        return bad_header("HEIC")
    try:
        file = open_heic(data)
        image = file[file.primary_index]
        changes = {
            "alpha_dropped": image.mode in ("RGBA", "RGBa", "LA", "La"),
            "colour_profile_ignored": is_other_profile(image.info.get("icc_profile") or b""),
            "first_frame_only": len(file) > 1,
            "reduced_to_8_bit": int(image.info["bit_depth"]) > 8,
        }
        # 3 stands for any turn; the pixels come upright from libheif, so that none is left to undo
        header = replace(make_header("HEIC", image.size, changes, 3 if is_turned(data) else 1), orientation=1)
    except ModuleNotFoundError:
        return _MISSING
    except Exception:  # libheif's errors come as several types
        return truncated(name="HEIC") if boxes_end_early(data, "HEIC") else bad_header("HEIC")
    return truncated(header) if boxes_end_early(data, "HEIC") else header
