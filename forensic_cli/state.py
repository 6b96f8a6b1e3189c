"""State: what a file's header tells of its compression, which decides by which evidence a picture is judged."""

from dataclasses import dataclass

from forensic_cli.headers.base import Header

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
