"""The formats that Pillow or libheif opens, with what these leave out: TIFF, AVIF, HEIC, JPEG 2000, BMP and others."""

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
from forensic_cli.images.containers import Boxes, is_deep_avif, is_turned, read_tiff, valid_orientation
from forensic_cli.images.header import Block, Blocks, Header, Inspection, Unreadable, format_name, make_header

_ORIENTATION = 0x0112  # EXIF tag
_ALPHA = frozenset(("LA", "La", "PA", "RGBA", "RGBa"))
_LOSSLESS_TIFF = frozenset(("raw", "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "zstd", "lzma"))
_UNPROMISED = ("PPM", "TGA", "ICO", "PCX", "PSD", "SGI", "DDS", "QOI", "ICNS", "DIB", "SUN")
"""Formats without a reliable signature. Pillow has more, but some of their headers take it minutes."""
_UNPROMISED_BYTES = 1 << 16
"""Bytes of a file in which such a header is looked for."""
_JPEG, _WEBP = 7, 50_001
"""Compressions of a TIFF; Pillow decodes the first with 8 bits alone, and the second not at all."""
_WHITE_IS_ZERO = 0
_RLE = (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"])
_MOST_RLE_PIXELS = 16_000_000
"""Pillow unpacks run lengths in Python: 60 kB of them could hold 200 million pixels and take half a minute."""

logging.getLogger("PIL").setLevel(logging.CRITICAL)  # its errors would go to standard error, without a file's name
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # decode() has its own limit, with a reason that the report can print


def inspect_other(data: bytes, promised: str | None) -> Inspection:
    """Read the header and the metadata; `promised` is the format that the first bytes say, None if they say none."""
    if promised == "TIFF":
        return _inspect_tiff(data)
    if promised in ("AVIF", "HEIC", "JPEG2000"):
        return _inspect_boxes(data, promised)
    if promised is None:
        result = _open(data[:_UNPROMISED_BYTES], _UNPROMISED) or Unreadable("not_an_image", "no known image format")
        is_boxes = data[4:8] == b"ftyp"  # such as a video that is named like an image
        return Inspection(result, _blocks_of(Boxes(data)).items if is_boxes else ())
    # A BMP's second header begins with its own size, in four bytes
    if len(data) < 14 + int.from_bytes(data[14:18].ljust(4, b"\xff"), "little"):
        return Inspection(Unreadable.truncated(None, promised))
    return Inspection(_open(data, (promised,)) or Unreadable.bad_header(promised))


def _inspect_tiff(data: bytes) -> Inspection:
    structure = read_tiff(data)
    opened = _open(data, ("TIFF",))
    header = opened if isinstance(opened, Header) else None
    result = opened or _unopened("TIFF", structure.size)
    if structure.ends_early:
        result = Unreadable.truncated(header, "TIFF")
    elif header is not None and structure.is_ambiguous:
        result = Unreadable("damaged", "the TIFF gives its width or height twice", header)
    return Inspection(result, (Block("exif", tags=structure.exif.texts),) if structure.exif else ())


def _inspect_boxes(data: bytes, name: str) -> Inspection:
    boxes = Boxes(data)
    blocks = _blocks_of(boxes)
    if boxes.are_too_many():
        result: Header | Unreadable = Unreadable.bad_header(name)
    elif name == "HEIC":
        result = _heic_header(data, blocks)
    elif name == "AVIF":
        result = _open(data, (name,), blocks, is_deep_avif(data)) or Unreadable.bad_header(name)
    else:
        width, height, bits = boxes.jpeg2000_size()
        result = _open(data, (name,), blocks, bits > 8) or _unopened(name, (width, height))
        if isinstance(result, Header) and (width, height) != (result.width, result.height):
            # OpenJPEG would decode the codestream, of whatever size
            result = Unreadable("damaged", "the JPEG 2000 data contradicts its header", result)
    if boxes.end_early(name) and result != _NO_HEIF and not boxes.are_too_many():
        result = Unreadable.truncated(result if isinstance(result, Header) else result.header, name)
    return Inspection(result, blocks.items)


def _blocks_of(boxes: Boxes) -> Blocks:
    blocks = Blocks()
    if boxes.have_manifest():
        blocks.add("c2pa")
    return blocks


def after_failure(data: bytes, header: Header, complaint: str = "") -> Unreadable:
    """Return why an image with a good header could not be decoded, as far as its bytes and the decoder's words tell."""
    name = header.format
    is_cut = (
        ("truncated" in complaint and name != "GIF")  # which is decoded from a part of the file
        or (name == "GIF" and not data.rstrip(b"\0").endswith(b";"))
        or (name == "BMP" and len(data) < int.from_bytes(data[2:6], "little"))
        or (name == "JPEG2000" and not data.rstrip(b"\0").endswith(b"\xff\xd9"))
        or (name == "AVIF" and b"mdat" not in data)
    )
    if is_cut:
        return Unreadable.truncated(header, name)
    if "unknown raw mode" in complaint:
        return _unsupported(f"{format_name(name)} files of this kind", header)
    return Unreadable("damaged", f"the {format_name(name)} data is damaged", header)


def stored_colours(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode an image with Pillow, as the named format, to the colours as stored, H x W x 3; raises what Pillow does.

    Alpha is neither multiplied in nor divided out, and of more than 8 bits the upper 8 are taken.
    """
    with Image.open(io.BytesIO(data), formats=(name,)) as image:
        if isinstance(image, TiffImageFile):  # from colours that alpha was multiplied into, Pillow would divide it out
            image.tile = [tile._replace(args=_without_division(tile.args)) for tile in image.tile]
        image.load()
        if image.mode.startswith("I;16"):
            return _deep_grey(image)
        colours = image.getchannel(0) if image.mode == "La" else image
        return np.asarray(colours if colours.mode == "RGB" else colours.convert("RGB"), np.uint8)


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


def _unopened(name: str, size: tuple[int, int]) -> Unreadable:
    """Return why there is no header: a kind of file that Pillow does not know is not damaged."""
    if all(size):
        return _unsupported(f"{format_name(name)} files of this kind", make_header(name, size, {}))
    return Unreadable.bad_header(name)


def _open(
    data: bytes, formats: tuple[str, ...], blocks: Blocks | None = None, is_deep: bool = False
) -> Header | Unreadable | None:
    """Read a header, and the metadata if `blocks` are given; None where Pillow cannot open the file."""
    try:
        # Not every format, so that a file cannot be one thing to Pillow and another one to the decoder
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if blocks is not None:
                _take_metadata(blocks, image.info)
            header = _header(image, data, is_deep)
            return _refusal(image, header) or header
    except Exception as error:  # Pillow's parsers raise whatever a hostile header leads them into
        is_known = str(error).startswith("Unsupported BMP")
        return _unsupported("BMP files of this kind", None) if is_known else None


def _take_metadata(blocks: Blocks, info: Mapping[Any, Any]) -> None:
    if info.get("exif"):
        blocks.add("exif", info["exif"])
    if info.get("xmp"):
        blocks.add("xmp", info["xmp"])


def _refusal(image: Image.Image, header: Header) -> Unreadable | None:
    """Return why an image is not decoded although Pillow can open it; None where it is."""
    if header.format == "BMP" and image.info["compression"] in _RLE and image.width * image.height > _MOST_RLE_PIXELS:
        limit = f"{_MOST_RLE_PIXELS // 1_000_000} megapixels"
        return _unsupported(f"run-length encoded BMP files of more than {limit}", header)
    if not isinstance(image, TiffImageFile):
        return None
    bits, compression = image.tag_v2.get(BITSPERSAMPLE, (1,))[0], image.tag_v2.get(COMPRESSION)
    if image.mode in ("I", "F"):
        kind = f"{bits} bits per channel" if bits > 16 else "signed numbers"
        return _unsupported(f"TIFF files with {kind}", header)
    if compression == _JPEG and bits != 8:
        return _unsupported(f"TIFF files with JPEG data of {bits} bits per channel", header)
    return _unsupported("TIFF files with WebP data", header) if compression == _WEBP else None


def _header(image: Image.Image, data: bytes, is_deep: bool) -> Header:
    changes = {
        "alpha_dropped": image.mode in _ALPHA or "transparency" in image.info or _has_spare_bytes(image, data),
        "converted_from_cmyk": image.mode == "CMYK",
        "first_frame_only": bool(getattr(image, "is_animated", False)),
        "palette": image.mode in ("1", "P", "PA"),
        "reduced_to_8_bit": is_deep or image.mode.startswith(("I", "F")) or _has_deep_tiles(image),
    }
    header = make_header(str(image.format), image.size, changes, _orientation(image), _profile(image))
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


def _has_deep_tiles(image: Image.Image) -> bool:
    """Tell whether Pillow's decoder is told of 16 bits; with some formats its parameters are other numbers."""
    if image.format in ("AVIF", "BMP", "JPEG2000"):
        return False
    return any(depth in str(tile[3]) for tile in getattr(image, "tile", []) for depth in (";16", "65535"))


def _orientation(image: Image.Image) -> int:
    try:
        return valid_orientation(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1


def _profile(image: Any) -> bytes:
    return image.info.get("icc_profile") or b""


_NO_HEIF = Unreadable("unsupported", f"HEIC files need pillow-heif, which is not installed; run: {pip_line('heif')}")


def open_heic(data: bytes) -> Any:
    """Return pillow-heif's lazy file object; its pixels are 8-bit, and turned upright by libheif."""
    import pillow_heif

    return pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)


def _heic_header(data: bytes, blocks: Blocks) -> Header | Unreadable:
    try:
        file = open_heic(data)
        image = file[file.primary_index]
        _take_metadata(blocks, image.info)
        changes = {
            "alpha_dropped": image.mode in _ALPHA,
            "first_frame_only": len(file) > 1,
            "reduced_to_8_bit": int(image.info["bit_depth"]) > 8,
        }
        # 3 stands for any turn; the pixels come upright from libheif, so that none is left to undo
        turn = 3 if is_turned(data) else 1
        return replace(make_header("HEIC", image.size, changes, turn, _profile(image)), orientation=1)
    except ModuleNotFoundError:
        return _NO_HEIF
    except Exception:  # libheif's errors come as several types
        return Unreadable.bad_header("HEIC")
