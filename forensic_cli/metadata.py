"""What a file says of its own origin, beside what its pixels say. Anybody can write, forge or remove such metadata.

Sources: Exif 3.0 (tags), IPTC NewsCodes "Digital Source Type", IPTC IIM 4.2, and what each tool writes into its images.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from forensic_cli.card import REAL
from forensic_cli.containers import Block, blocks
from forensic_cli.ensemble import GENERATED

CLAIMS = {
    "generated": "the file says that an AI made it",
    "composite": "the file says that an AI made a part of it",
    "camera": "the file says that a camera took it, or that it was digitised",
    "software": "the file names a program, which may be an editor",
    "unread": "the file has a manifest that was not read",
}
"""Every claim, and what it means. None of them is proven by being there."""
CONFLICT = "metadata_conflict"
"""Name of the warning where a claim and the headline disagree."""
MOST_VALUE = 200
"""Characters of a value that are kept."""
_MOST_CLAIMS = 16
"""Claims that are kept of one file."""

_SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "generated",
    "compositeWithTrainedAlgorithmicMedia": "composite",
    "compositeSynthetic": "composite",
    "digitalCapture": "camera",
    "computationalCapture": "camera",
    "negativeFilm": "camera",
    "positiveFilm": "camera",
    "print": "camera",
}
"""Terms of the IPTC vocabulary that say what made the image; others say how it was changed."""
_TOOLS = re.compile(
    r"midjourney|dall[-·. ]?e\b|openai|gpt-4o|firefly|novelai|comfyui|invokeai|stable[ -]?diffusion|automatic1111|"
    r"fooocus|dreamstudio|made with google ai|\bimagen\b|ideogram|leonardo\.ai|draw things|swarmui|easy diffusion",
    re.IGNORECASE,
)
"""Names of programs that make images."""
_STEPS = re.compile(r"\bSteps: ?\d")
"""How Stable Diffusion web UIs write down what they did; "Sampler" follows."""
_MIDJOURNEY = re.compile(r"\bJob ID: ?[0-9a-f]{8}-[0-9a-f]{4}-")
_PNG_KEYS = {
    "invokeai_metadata": "InvokeAI",
    "invokeai_graph": "InvokeAI",
    "sd-metadata": "InvokeAI",
    "Dream": "InvokeAI",
    "fooocus_scheme": "Fooocus",
    "sui_image_params": "SwarmUI",
}
"""Keywords that only one tool writes."""
_MAKE, _MODEL, _SOFTWARE, _DESCRIPTION, _EXIF_IFD, _USER_COMMENT = 0x010F, 0x0110, 0x0131, 0x010E, 0x8769, 0x9286
_XMP = 0x02BC  # where a TIFF keeps its packet
_TEXTS = frozenset((_MAKE, _MODEL, _SOFTWARE, _DESCRIPTION, _USER_COMMENT, _XMP))
_MOST_TAGS = 128
_LONGEST_TAG = 1 << 13
"""Bytes of one EXIF text that are looked at."""
_SOURCE_TYPE = re.compile(rb"digitalsourcetype/([A-Za-z]{1,64})")
_CREATOR_TOOL = re.compile(rb"CreatorTool(?:=[\"']|>)([^\"'<]{1,200})")
_CREDIT = re.compile(rb"photoshop:Credit(?:=[\"']|>)([^\"'<]{1,200})")
_AI_SYSTEM = re.compile(rb"AISystemUsed(?:=[\"']|>)([^\"'<]{1,200})")


@dataclass(frozen=True)
class Claim:
    """One thing that a file says of its origin."""

    source: str
    """Where it stands: exif, xmp, iptc, png, comment or c2pa."""
    claim: str
    """A name from CLAIMS."""
    value: str
    """What stands there, at most MOST_VALUE characters on one line."""

    def record(self) -> dict[str, str]:
        """Return a JSON-ready dict."""
        return asdict(self)


def read_metadata(data: bytes) -> tuple[Claim, ...]:
    """Return what an encoded image says of its origin, without decoding it. Never raises, whatever the bytes."""
    found: dict[Claim, None] = {}
    for block in blocks(data):
        for source, claim, value in _claims(block, data):
            found[Claim(source, claim, _bounded(value))] = None
        if len(found) >= _MOST_CLAIMS:
            break
    return tuple(found)[:_MOST_CLAIMS]


def disagrees(said: Sequence[Claim], headline: str) -> bool:
    """Tell whether a headline and a file's own claim exclude each other; a composite and `undecided` never do."""
    claims = {one.claim for one in said}
    if headline == REAL:
        return "generated" in claims
    return headline == GENERATED and "camera" in claims and not claims & {"generated", "composite"}


def source_type(term: str) -> str:
    """Return what a term of the IPTC vocabulary claims."""
    return _SOURCE_TYPES.get(term, "software")


def _claims(block: Block, data: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield (source, claim, value)."""
    if block.kind == "c2pa":
        from forensic_cli.manifests import manifest_claims  # only the few files that have one pay for it

        yield from (("c2pa", claim, value) for claim, value in manifest_claims(data))
    elif block.kind == "xmp":
        yield from _xmp(block.data)
    elif block.kind == "exif":
        yield from _exif(block.data)
    elif block.kind == "iptc":
        yield from _iptc(block.data)
    elif block.kind == "comment":
        yield from _generated("comment", _text(block.data))
    else:
        yield from _png(block.key, _text(block.data))


def _xmp(packet: bytes) -> Iterator[tuple[str, str, str]]:
    for hit in _SOURCE_TYPE.findall(packet)[:4]:
        yield "xmp", source_type(hit.decode()), f"digital source type {hit.decode()}"
    if hit := _AI_SYSTEM.search(packet):
        yield "xmp", "generated", f"AI system used {_text(hit[1])}"
    if hit := _CREATOR_TOOL.search(packet):
        yield "xmp", _program(_text(hit[1])), _text(hit[1])
    if hit := _CREDIT.search(packet):
        yield from _generated("xmp", _text(hit[1]))


def _png(key: str, text: str) -> Iterator[tuple[str, str, str]]:
    comfy = (key == "prompt" and '"class_type"' in text) or (key == "workflow" and '"nodes"' in text)
    if tool := "ComfyUI" if comfy else _PNG_KEYS.get(key):
        yield "png", "generated", f"{key} of {tool}: {text[:MOST_VALUE]}"
    elif key == "Software":
        yield "png", _program(text), text
    else:
        yield from ((source, claim, f"{key}: {value}") for source, claim, value in _generated("png", text))


def _generated(source: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield a claim where free text is the note of a generator; other text says nothing of the origin."""
    short = text[:MOST_VALUE]
    steps = _STEPS.search(text)
    has_settings = steps is not None and "Sampler" in text[steps.end() :]
    if has_settings or _MIDJOURNEY.search(text) or _TOOLS.search(short):
        yield source, "generated", short


def _program(name: str) -> str:
    return "generated" if _TOOLS.search(name[:MOST_VALUE]) else "software"


def _exif(data: bytes) -> Iterator[tuple[str, str, str]]:
    tags = _tags(data)
    made = [tags[tag] for tag in (_MAKE, _MODEL) if tags.get(tag)]
    # ComfyUI keeps its graphs in these two where a file has no text chunks
    graphs = [one for one in made if one.startswith(("prompt:", "workflow:"))]
    if graphs:
        yield "exif", "generated", f"ComfyUI {graphs[0]}"
    elif made:
        yield "exif", "camera", " ".join(made)
    if software := tags.get(_SOFTWARE):
        yield "exif", _program(software), software
    for tag in (_DESCRIPTION, _USER_COMMENT):
        yield from _generated("exif", tags.get(tag, ""))
    if packet := tags.get(_XMP):
        yield from _xmp(packet.encode())


def _tags(data: bytes) -> dict[int, str]:
    """Return the texts of the tags that are looked for, in the first directory and the one of EXIF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return {}
    found = dict(_directory(data, order, data[4:8]))
    inner = found.pop(_EXIF_IFD, b"")
    found.update(one for one in _directory(data, order, inner) if one[0] == _USER_COMMENT)
    texts = {tag: _text(value) for tag, value in found.items()}
    return {tag: text for tag, text in texts.items() if text}


def _directory(data: bytes, order: str, pointer: bytes) -> Iterator[tuple[int, bytes]]:
    if len(pointer) != 4:
        return
    (start,) = struct.unpack(f"{order}I", pointer)
    (count,) = struct.unpack(f"{order}H", data[start : start + 2].ljust(2, b"\0"))
    for place in range(start + 2, start + 2 + 12 * min(count, _MOST_TAGS), 12):
        if len(data) < place + 12:
            return
        tag, kind, length = struct.unpack(f"{order}HHI", data[place : place + 8])
        if tag == _EXIF_IFD:
            yield tag, data[place + 8 : place + 12]
        elif tag in _TEXTS and kind in (1, 2, 7):
            (offset,) = struct.unpack(f"{order}I", data[place + 8 : place + 12])
            offset = place + 8 if length <= 4 else offset
            yield tag, data[offset : offset + min(length, _LONGEST_TAG)]


def _iptc(data: bytes) -> Iterator[tuple[str, str, str]]:
    for number, is_program in ((65, True), (110, False)):  # originating program, credit
        place = data.find(bytes((0x1C, 2, number)))
        if place < 0:
            continue
        length = int.from_bytes(data[place + 3 : place + 5], "big")
        text = _text(data[place + 5 : place + 5 + length])
        if is_program and text:
            yield "iptc", _program(text), text
        else:
            yield from _generated("iptc", text)


def _text(data: bytes) -> str:
    """Decode the bytes of a text; EXIF's user comment names its own encoding first."""
    if data.startswith(b"UNICODE\0"):
        wide = data[8:]
        # Tools differ in whether they follow the byte order of the file; most text has its zeros in the high bytes
        order = "be" if wide[::2].count(0) >= wide[1::2].count(0) else "le"
        return wide.decode(f"utf-16-{order}", "replace").strip("\0 ")
    return data.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0 \r\n\t")


def _bounded(value: str) -> str:
    """Return a value on one line, without control characters, cut."""
    line = " ".join("".join(c if c.isprintable() else " " for c in value[: 2 * MOST_VALUE]).split())
    return line if len(line) <= MOST_VALUE else f"{line[: MOST_VALUE - 1]}…"
