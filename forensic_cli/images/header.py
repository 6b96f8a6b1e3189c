"""What is known of an image before it is decoded: header, metadata, compression; and every status and warning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.images.containers import read_exif

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""RGB, H x W x 3."""

TINY = 16
"""Pixels; a shorter side does not even hold two JPEG blocks to measure."""
MOST_BLOCKS = 64
"""Metadata blocks of each kind that are kept of one file."""
MOST_BYTES = 1 << 16
"""Bytes of a metadata block that are kept; EXIF is kept as the few tags that are wanted."""

BlockKind: TypeAlias = Literal["exif", "xmp", "iptc", "text", "comment", "c2pa"]


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
    """EXIF orientation that is still to be undone, 1 to 8; 1 where the decoder undoes it by itself."""
    compression: str = ""
    """`lossless`, `jpeg` or `webp` (both lossy); empty: another codec, or not known."""
    quality: int | None = None
    """Of a JPEG: the libjpeg quality, 1 to 100, whose luma quantisation table is about as coarse; None otherwise."""

    def with_warnings(self, *names: str) -> "Header":
        """Return the same header with these warnings added."""
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

    @classmethod
    def truncated(cls, header: Header | None, name: str) -> "Unreadable":
        """Return the answer for a file that ends too early; `name` is the format that its first bytes promise."""
        if header is None:
            return cls("truncated", f"looks like {format_name(name)}, but the file ends within its header")
        return cls("truncated", "the file ends before the picture does", header)

    @classmethod
    def bad_header(cls, name: str) -> "Unreadable":
        """Return the answer for a file that only starts like an image of a format."""
        return cls("damaged", f"looks like {format_name(name)}, but its header is invalid")


class Block(NamedTuple):
    """One piece of metadata, as stored."""

    kind: BlockKind
    """iptc: Photoshop resources. text: a PNG text. c2pa: only that there is a manifest."""
    data: bytes = b""
    """At most MOST_BYTES; empty for exif and c2pa."""
    key: str = ""
    """Keyword of a PNG text."""
    tags: Mapping[int, bytes] = MappingProxyType({})
    """exif: {tag: its text}, of the tags in containers.EXIF_TEXTS."""


class Blocks:
    """Collects the metadata of one file while its structure is read, with a limit for each kind."""

    def __init__(self) -> None:
        self.items: list[Block] = []
        self.orientation = 1
        """Of the first EXIF block, 1 to 8."""
        self._counts: dict[BlockKind, int] = {}

    def has_room(self, kind: BlockKind) -> bool:
        """Tell whether another block of a kind would be kept; a manifest is read as a whole, so one mark is enough."""
        return self._counts.get(kind, 0) < (1 if kind == "c2pa" else MOST_BLOCKS)

    def add(self, kind: BlockKind, data: bytes = b"", key: str = "") -> None:
        """Keep a block if there is room for it, cut to MOST_BYTES; EXIF is read here and may have any length."""
        if not self.has_room(kind):
            return
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if kind == "exif":
            exif = read_exif(data)
            if self._counts[kind] == 1:
                self.orientation = exif.orientation
            self.items.append(Block(kind, tags=exif.texts))
        else:
            self.items.append(Block(kind, data[:MOST_BYTES], key))


@dataclass(frozen=True)
class Inspection:
    """What one walk through a file's structure gives; decoding and reading claims share it."""

    result: Header | Unreadable
    """The header, or why the file cannot give pixels."""
    blocks: Sequence[Block] = ()
    """The metadata in the file's order, also of a file that cannot be decoded."""
    essential: tuple[tuple[int, int], ...] = ()
    """Start and end of each part of the file that its first image needs; empty: of the whole file."""

    def without_metadata(self, data: bytes) -> bytes:
        """Return the file reduced to its essential parts: without profiles, texts, further frames and stray bytes."""
        return b"".join(data[start:end] for start, end in self.essential) if self.essential else data


STATUSES = {
    "missing": "the file does not exist, or no longer exists",
    "unreadable": "the file's bytes cannot be read, or there is not enough memory for them",
    "changed": "the file changed while it was being read",
    "empty": "the file has no bytes",
    "not_an_image": "the file is not in a known image format",
    "truncated": "the file ends before the picture does",
    "damaged": "the file is invalid or contradicts itself",
    "unsupported": "the file is an image that this installation cannot decode",
    "too_large": "the file has more pixels or bytes than allowed",
}
"""Every status of a row that is not `ok`, and what it means."""

WARNINGS = {
    "alpha_dropped": "transparency was dropped; the stored colours were judged, even where they are invisible",
    "colour_profile_ignored": "an ICC profile other than sRGB was not applied; the stored values were judged",
    "converted_from_cmyk": "CMYK was converted to RGB; no answer is given",
    "damaged_data": "the JPEG data is damaged, and the decoder guessed what it could not read; no answer is given",
    "damaged_metadata": "something other than the pixels is damaged, such as a checksum, a profile or the order of the "
    "header; the picture itself is complete",
    "first_frame_only": "the file has several frames or pages, and only the first was judged; no answer is given",
    "heavily_compressed": "a JPEG of quality below 75; little of a generator's fingerprint survives that",
    "metadata_conflict": "the file's claim about its origin contradicts the verdict; metadata can be forged, and "
    "verdicts can be wrong",
    "orientation_applied": "the image was rotated or mirrored as its EXIF orientation asks",
    "other_compression": "compressed in a way that the models were not validated on; no answer is given",
    "padded": "smaller than one patch, and mirrored at its borders; no answer is given",
    "palette": "at most 256 colours, too few to keep fine detail; no answer is given",
    "reduced_to_8_bit": "more than 8 bits per channel were reduced to 8; no answer is given",
    "scans_missing": "a progressive JPEG that lacks some of its scans; it was judged without the detail they would add",
    "silent_state": "in validation, answers for this compression were misleading on held-out sources; only the "
    "probability p is given",
    "tiny": f"one side is shorter than {TINY} pixels, so there is hardly anything to measure; no answer is given",
    "unlike_training": "too different from the images that the models were trained on; no answer is given",
    "upscaled": "smaller than the view, and enlarged",
    "wrong_suffix": "the file's name suggests another format than its bytes have",
}
"""Name of each warning in a row, and what it means."""

_LOSSLESS = frozenset(("PNG", "GIF", "BMP", "PPM", "TGA", "ICO", "PCX", "PSD", "SGI", "QOI", "ICNS", "DIB", "SUN"))
"""Formats that keep every pixel; TIFF and WebP may or may not."""
_WRITTEN = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
"""Formats whose name in texts is not the one in headers."""


def format_name(name: str) -> str:
    """Return a header's name of a format as it is written in texts."""
    return _WRITTEN.get(name, name)


def make_header(
    name: str, size: tuple[int, int], changes: Mapping[str, bool], orientation: int = 1, icc: bytes = b""
) -> Header:
    """Return a header of a format and a size (width, height) with the warnings whose condition holds."""
    # An sRGB profile calls itself so, in ASCII or in UTF-16
    is_other_profile = bool(icc) and b"sRGB" not in icc and b"s\0R\0G\0B" not in icc
    changes = {
        **changes,
        "colour_profile_ignored": is_other_profile,
        "orientation_applied": orientation != 1,
        "tiny": min(size) < TINY,
    }
    warnings = tuple(sorted(warning for warning, holds in changes.items() if holds))
    return Header(name, *size, warnings, orientation, "lossless" if name in _LOSSLESS else "")


STATES = ("lossless", "webp", "jpeg-93", "jpeg-80", "jpeg-60", "jpeg-low")
"""Every state by its name; that of a JPEG is its quality: from 93 on, 80 to 92, 60 to 79, below 60."""
OTHER = "other"
"""Codecs that no model is trained on, such as AVIF and JPEG 2000."""
_QUALITIES = ((93, "jpeg-93"), (80, "jpeg-80"), (60, "jpeg-60"), (0, "jpeg-low"))

UNJUDGED = frozenset(
    ("converted_from_cmyk", "damaged_data", "first_frame_only", "padded", "palette", "reduced_to_8_bit", "tiny")
)
"""Warnings of images of a kind that training never had; such an image stays undecided."""
OTHER_COMPRESSION, SILENT_STATE, UNLIKE_TRAINING = "other_compression", "silent_state", "unlike_training"
"""Warnings where models stay silent: because of the state, or of the distance from the training images."""


@dataclass(frozen=True)
class State:
    """What is known of an image's compression."""

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
    name = format_name(header.format)
    if header.compression == "lossless":
        return State("lossless", f"{name}, lossless")
    return State(OTHER, name)


def jpeg_state(quality: int) -> str:
    """Return the state of a JPEG of a quality, 1 to 100."""
    return next(name for least, name in _QUALITIES if quality >= least)
