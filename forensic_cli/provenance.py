"""Finds the blocks of metadata in an image file's bytes without decoding it: bounded work on whatever bytes they are.

Sources: ITU-T T.81 Annex B (JPEG), PNG 3rd edition section 5, Google's WebP container, ISO/IEC 14496-12 (AVIF, HEIC),
and C2PA 2.2 section A.3 (where each of them keeps a manifest).
"""

import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from itertools import islice
from typing import Any, Literal, NamedTuple

from forensic_cli.card import GENERATED, REAL
from forensic_cli.errors import pip_line
from forensic_cli.images.webp import webp_chunks
from forensic_cli.record import Claim

MOST_BYTES = 1 << 16
"""Of one block; the rest of a longer one is not looked at."""
_MOST_SEGMENTS = 4096
"""Segments, chunks or boxes that are walked past in one file."""
_MOST_BLOCKS = 64
"""Blocks that are looked into in one file."""
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_EXIF = b"Exif\0\0"
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


class Block(NamedTuple):
    """One piece of metadata, as stored."""

    kind: Literal["exif", "xmp", "iptc", "text", "comment", "c2pa"]
    """exif: a TIFF structure. iptc: Photoshop resources. text: a PNG text. c2pa: only that a manifest is there."""
    data: bytes
    """At most MOST_BYTES, but for a TIFF: that is one block."""
    key: str = ""
    """Keyword of a PNG text."""


def blocks(data: bytes) -> Iterator[Block]:
    """Yield the metadata of a JPEG, PNG, WebP, TIFF, AVIF or HEIC file; nothing for other bytes. Never raises."""
    walk = None
    if data.startswith(b"\xff\xd8"):
        walk = _jpeg_blocks(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        walk = _png_blocks(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        walk = _webp_blocks(data)
    elif data.startswith((b"II*\0", b"MM\0*")):
        walk = iter([Block("exif", data)])  # EXIF has the structure of a TIFF
    elif data[4:8] == b"ftyp":
        walk = _boxes_blocks(data)
    for _, block in zip(range(_MOST_BLOCKS), walk or (), strict=False):
        yield block


def _jpeg_blocks(data: bytes) -> Iterator[Block]:
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 4 or data[place] != 0xFF:
            return
        marker = data[place + 1]
        if marker == 0xFF:  # fill
            place += 1
            continue
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        if marker in (0xDA, 0xD9) or length < 2:  # the picture begins, or there is none
            return
        payload = place + 4
        end = place + 2 + length
        if marker == 0xE1 and data.startswith(_EXIF, payload):
            yield Block("exif", data[payload + len(_EXIF) : end])
        elif marker == 0xE1 and data.startswith(_XMP_HEADER, payload):
            yield Block("xmp", data[payload + len(_XMP_HEADER) : end])
        elif marker == 0xED and data.startswith(b"Photoshop 3.0\0", payload):
            yield Block("iptc", data[payload:end])
        elif marker == 0xEB and data.startswith(b"JP", payload) and data.find(b"c2pa", payload, payload + 64) > 0:
            yield Block("c2pa", b"")
        elif marker == 0xFE:
            yield Block("comment", data[payload:end])
        place = end


def _png_blocks(data: bytes) -> Iterator[Block]:
    place = 8
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 8:
            return
        length = int.from_bytes(data[place : place + 4], "big")
        name = data[place + 4 : place + 8]
        if name not in (b"IDAT", b"IHDR"):
            chunk = data[place + 8 : place + 8 + min(length, MOST_BYTES)]
            if name in (b"tEXt", b"zTXt", b"iTXt"):
                yield _png_text(name, chunk)
            elif name == b"eXIf":
                yield Block("exif", chunk)
            elif name == b"caBX":
                yield Block("c2pa", b"")
        place += 12 + length


def _png_text(name: bytes, chunk: bytes) -> Block:
    key, _, rest = chunk.partition(b"\0")
    if name == b"zTXt":
        rest = _inflated(rest[1:])
    elif name == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        rest = _inflated(rest) if packed else rest
    if key == b"XML:com.adobe.xmp":
        return Block("xmp", rest)
    return Block("text", rest, key[:79].decode("latin-1"))


def _inflated(packed: bytes) -> bytes:
    """Unpack zlib data, and no more of it than MOST_BYTES: a small chunk may hold gigabytes."""
    try:
        return zlib.decompressobj().decompress(packed, MOST_BYTES)
    except zlib.error:
        return b""


def _webp_blocks(data: bytes) -> Iterator[Block]:
    for name, start, end in islice(webp_chunks(data), _MOST_SEGMENTS):
        body = slice(start, min(end, start + MOST_BYTES))
        if name == b"EXIF":
            yield Block("exif", data[body].removeprefix(_EXIF))
        elif name == b"XMP ":
            yield Block("xmp", data[body])
        elif name == b"C2PA":
            yield Block("c2pa", b"")


def _boxes_blocks(data: bytes) -> Iterator[Block]:
    """Walk the outermost boxes, of which one may be a C2PA manifest. EXIF and XMP lie deeper and are not read."""
    place = 0
    for _ in range(_MOST_SEGMENTS):
        if len(data) < place + 8:
            return
        length = int.from_bytes(data[place : place + 4], "big")
        head = 8
        if length == 1:
            length, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        if data[place + 4 : place + 8] == b"uuid" and data.startswith(_C2PA_BOX, place + head):
            yield Block("c2pa", b"")
        if length < head:  # 0: up to the end of the file
            return
        place += length


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


_MANIFEST_TERM = re.compile(r"digitalsourcetype/([A-Za-z]{1,64})")
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_MOST_MANIFESTS = 8
_LONGEST_JSON = 1 << 22
"""Characters of a manifest store as JSON; a longer one is not looked into."""


def manifest_claims(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (claim, value) for the manifests of a file that has some. Never raises."""
    store, problem = _store(data)
    if store is None:
        yield "unread", problem
        return
    state = str(store.get("validation_state", "unknown")).lower()
    active = store.get("active_manifest")
    manifests = store.get("manifests")
    if not isinstance(manifests, dict) or active not in manifests:
        yield "unread", "a C2PA manifest without an active part"
        return
    # The active manifest speaks of this file, the others of what it was made of
    ordered = [active, *(label for label in manifests if label != active)][:_MOST_MANIFESTS]
    for label in ordered:
        yield from _manifest(manifests[label], "" if label == active else "ingredient, ", state)


def _manifest(manifest: Any, part: str, state: str) -> Iterator[tuple[str, str]]:
    if not isinstance(manifest, Mapping):
        return
    who = _generator(manifest)
    terms = list(dict.fromkeys(_MANIFEST_TERM.findall(json.dumps(manifest.get("assertions", [])))))
    for term in terms[:4]:
        claim = source_type(term)
        if part and claim == "generated":
            claim = "composite"
        yield ("software" if part and claim == "camera" else claim), f"{part}{term}, by {who}, signature {state}"
    if not terms and not part:
        yield "software", f"{who}, signature {state}"


def _generator(manifest: Mapping[str, Any]) -> str:
    named = manifest.get("claim_generator_info")
    if isinstance(named, list) and named and isinstance(named[0], Mapping) and named[0].get("name"):
        return str(named[0]["name"])
    return str(manifest.get("claim_generator") or "an unnamed program")


def _store(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the manifest store, or None and why there is none."""
    try:
        import c2pa
    except ImportError:
        return None, f"a C2PA manifest; to read it: {pip_line('c2pa')}"
    try:
        with c2pa.Reader(None, BytesIO(data), context=_context()) as reader:
            text = reader.json()
        if len(text) > _LONGEST_JSON:
            return None, "a C2PA manifest that is too long to be read"
        store = json.loads(text)
        return (store, "") if isinstance(store, dict) else (None, "a C2PA manifest that is not understood")
    except (c2pa.C2paError, ValueError, RecursionError, OSError) as error:
        return None, f"a C2PA manifest that cannot be read ({str(error)[:80]})"


@cache
def _context() -> Any:
    import c2pa

    return c2pa.Context.from_dict(_OFFLINE)
