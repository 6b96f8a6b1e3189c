"""Reads the headers of image files: format, size, what decoding will change, and what is wrong before it begins.

`inspect` answers with a Header or with the reason why there will be no pixels, and never raises for bad input. PNG,
JPEG, GIF and WebP have readers of their own: they see every part of the file, they cost microseconds, and no part of it
can keep them busy for long or take their memory. The rest goes through Pillow.
"""

from forensic_cli.headers.base import Header, Unreadable
from forensic_cli.headers.boxes import iso_format
from forensic_cli.headers.general import inspect_general
from forensic_cli.headers.gif import inspect_gif
from forensic_cli.headers.heic import inspect_heic
from forensic_cli.headers.jpeg import inspect_jpeg
from forensic_cli.headers.png import SIGNATURE, inspect_png
from forensic_cli.headers.webp import inspect_webp

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    SIGNATURE: "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_OWN = {"PNG": inspect_png, "JPEG": inspect_jpeg, "GIF": inspect_gif, "WEBP": inspect_webp, "HEIC": inspect_heic}
_LONGEST_BRANDS = 256
"""Bytes of a first box that are looked at; real ones have ten brands or so."""


def sniff(head: bytes) -> str | None:
    """Return the image format that the first bytes promise, or None; 16 bytes do, more tell AVIF from HEIC better."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return iso_format(head)
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def inspect(data: bytes) -> Header | Unreadable:
    """Return what an encoded image says of itself, or why it cannot give pixels; never raises for bad input."""
    if not data:
        return Unreadable("empty", "the file is empty")
    promised = sniff(data[:_LONGEST_BRANDS])
    own = _OWN.get(promised or "")
    return own(data) if own else inspect_general(data, promised)


def read_header(data: bytes) -> Header | None:
    """Return what the header of an encoded image says, or None where it cannot be read."""
    found = inspect(data)
    return found if isinstance(found, Header) else found.header
