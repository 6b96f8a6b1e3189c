"""What every header reader answers with, and what the names in a row's `status` and `warnings` mean."""

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""RGB, H x W x 3."""

TINY = 16
"""Pixels; below that a side has not even two JPEG blocks to measure."""
_ORIENTATION = 0x0112  # EXIF tag


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
    orientation: int = 1
    """EXIF's, 1 to 8, where it is still to be undone; 1 where the decoder does that by itself."""
    compression: str = ""
    """`lossless`, `jpeg` or `webp` (both lossy); empty: another codec, or not known."""
    quality: int | None = None
    """Of a JPEG: libjpeg's quality, 1 to 100, whose luma quantisation table is about as coarse; None otherwise."""

    def with_warnings(self, *names: str) -> "Header":
        """Return the same header with these warnings, too."""
        return replace(self, warnings=tuple(sorted({*self.warnings, *names})))


@dataclass(frozen=True)
class Unreadable:
    """A file that gives no pixels: a value, not an exception."""

    status: str
    """One of STATUSES."""
    reason: str
    """One line for the report."""
    header: Header | None = None
    """What could be read of the header."""


_LOSSLESS = frozenset(("PNG", "GIF", "BMP", "PPM", "TGA", "ICO", "PCX", "PSD", "SGI", "QOI", "ICNS", "DIB", "SUN"))
"""Formats that keep every pixel; TIFF and WebP may or may not."""

STATUSES = {
    "missing": "there is no such file (any more)",
    "unreadable": "the operating system does not give the file's bytes",
    "changed": "the file changed while it was read",
    "empty": "the file has no bytes",
    "not_an_image": "no known image format",
    "truncated": "the file ends before the picture does",
    "damaged": "the bytes contradict themselves",
    "unsupported": "an image that this installation cannot decode",
    "too_large": "more pixels or bytes than allowed",
}
"""Every status of a row that is not `ok`, and what it means."""

WARNINGS = {
    "alpha_dropped": "transparency was dropped; colours under it were judged as stored",
    "colour_profile_ignored": "an ICC profile other than sRGB was not applied; the numbers were judged as stored",
    "converted_from_cmyk": "CMYK was converted to RGB; no answer is given",
    "damaged_data": "the JPEG decoder met damaged data and guessed what it could not read; no answer is given",
    "damaged_metadata": "something beside the picture is damaged, such as a checksum, a profile or the header's order; "
    "the picture itself is whole",
    "first_frame_only": "the file has several frames or pages; only the first was judged, and no answer is given",
    "heavily_compressed": "a JPEG of quality below 75; little of a fingerprint survives that",
    "metadata_conflict": "what the file says of its origin and the verdict exclude each other; metadata can be forged, "
    "and verdicts can be wrong",
    "orientation_applied": "an EXIF rotation was applied",
    "other_compression": "compressed in a way that the models were not validated on; no answer is given",
    "padded": "smaller than one patch; mirrored at the border, and no answer is given",
    "palette": "at most 256 colours, in which nothing fine survives; no answer is given",
    "reduced_to_8_bit": "more than 8 bits a channel were reduced to 8; no answer is given",
    "scans_missing": "a progressive JPEG without some of its scans; what they would refine was judged coarse",
    "silent_state": "answers for this compression misled on sources left out in validation; none is given, only p",
    "tiny": f"a side below {TINY} pixels; there is hardly anything to measure, and no answer is given",
    "unlike_training": "farther from the images that the models were trained on than they reach; no answer is given",
    "upscaled": "smaller than the view; enlarged",
    "wrong_suffix": "the file's name promises another format than its bytes have",
}
"""Name of each warning in a row, and what it means."""


def make_header(name: str, size: tuple[int, int], changes: dict[str, bool], orientation: int = 1) -> Header:
    """Return a header of a format and a size (width, height) with the warnings whose condition holds."""
    changes |= {"orientation_applied": orientation != 1, "tiny": min(size) < TINY}
    warnings = tuple(sorted(name for name, holds in changes.items() if holds))
    return Header(name, *size, warnings, orientation, "lossless" if name in _LOSSLESS else "")


def truncated(header: Header | None = None, name: str = "") -> Unreadable:
    """Return the answer for a file that ends too early; `name` is the format that its first bytes promise."""
    if header is None:
        return Unreadable("truncated", f"begins like a {name} file, but ends too soon")
    return Unreadable("truncated", "the file ends before the picture does", header)


def bad_header(name: str) -> Unreadable:
    """Return the answer for a file that only begins like an image."""
    return Unreadable("damaged", f"begins like a {name} file, but its header cannot be read")


def exif_orientation(exif: bytes) -> int:
    """Return the orientation that an EXIF block asks for, 1 to 8; 1 where it cannot be read."""
    try:
        found = Image.Exif()
        found.load(exif)
        return valid_orientation(found.get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF does not make a picture unreadable
        return 1


def valid_orientation(value: object) -> int:
    """Return an orientation as it is, or 1 where EXIF does not know it."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_other_profile(icc: bytes) -> bool:
    """Tell whether there is an ICC profile, and one that does not call itself sRGB (in ASCII or in UTF-16)."""
    return bool(icc) and b"sRGB" not in icc and b"s\0R\0G\0B" not in icc


STATES = ("lossless", "webp", "jpeg-93", "jpeg-80", "jpeg-60", "jpeg-low")
"""Every state by its name; of a JPEG it is its quality: from 93 on, 80 to 92, 60 to 79, below."""
OTHER = "other"
"""Codecs that no model is trained on, such as AVIF and JPEG 2000."""
_WRITTEN = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
"""Formats that people write otherwise than headers do."""
_QUALITIES = ((93, "jpeg-93"), (80, "jpeg-80"), (60, "jpeg-60"), (0, "jpeg-low"))

UNJUDGED = frozenset(
    ("converted_from_cmyk", "damaged_data", "first_frame_only", "padded", "palette", "reduced_to_8_bit", "tiny")
)
"""Warnings of pictures that training never had; such a picture stays undecided."""
OTHER_COMPRESSION, SILENT_STATE, UNLIKE_TRAINING = "other_compression", "silent_state", "unlike_training"
"""Warnings of pictures of which models say nothing: for their state, or for how far they lie from training images."""


@dataclass(frozen=True)
class State:
    """What is known of a picture's compression."""

    name: str
    """One of STATES, or `other`."""
    text: str
    """The same in words, such as "JPEG, quality 78"."""


def state_of(header: Header) -> State:
    """Return the state that a header tells of. The quality of a JPEG is read from its tables, never guessed."""
    if header.compression == "jpeg":
        if header.quality is None:
            return State(OTHER, "JPEG, quality not known")
        return State(jpeg_state(header.quality), f"JPEG, quality {header.quality}")
    if header.compression == "webp":
        return State("webp", "WebP, lossy")
    name = _WRITTEN.get(header.format, header.format)
    if header.compression == "lossless":
        return State("lossless", f"{name}, lossless")
    return State(OTHER, name)


def jpeg_state(quality: int) -> str:
    """Return the state of a JPEG of a quality, 1 to 100."""
    return next(name for least, name in _QUALITIES if quality >= least)
