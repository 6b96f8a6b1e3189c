"""What an image file claims about its own origin: from the metadata blocks that its reader found. Nothing is believed.

Sources: EXIF 2.32 section 4.6, XMP part 1, IPTC photo metadata (digital source type, AI system used), IPTC-IIM 4.2, and
C2PA 2.2, whose manifests are read by its own library, offline.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

from forensic_cli.card import GENERATED, REAL
from forensic_cli.errors import pip_line
from forensic_cli.images.containers import DESCRIPTION, MAKE, MODEL, SOFTWARE, USER_COMMENT, XMP
from forensic_cli.images.header import Block
from forensic_cli.record import Claim

CLAIMS = {
    "generated": "the file says that AI generated it",
    "composite": "the file says that AI generated part of it",
    "camera": "the file says that a camera took it, or that it was digitised",
    "software": "the file names a program, which may be an editor",
    "unread": "the file has a C2PA manifest that was not read",
}
"""Every claim, and what it means. A claim proves nothing: anyone can write it."""
CONFLICT = "metadata_conflict"
"""Name of the warning that a claim and the headline contradict each other."""
MOST_VALUE = 200
"""Characters of a claim's value that are kept."""
_MOST_CLAIMS = 16
"""Claims of one file that are kept."""

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
"""Terms of the IPTC's digital source types that say what made the image; others say how it was changed."""
_TOOLS = re.compile(
    r"midjourney|dall[-·. ]?e\b|openai|gpt-4o|firefly|novelai|comfyui|invokeai|stable[ -]?diffusion|automatic1111|"
    r"fooocus|dreamstudio|made with google ai|\bimagen\b|ideogram|leonardo\.ai|draw things|swarmui|easy diffusion",
    re.IGNORECASE,
)
"""Names of programs that make images."""
_STEPS = re.compile(r"\bSteps: ?\d")
"""How Stable Diffusion web UIs begin their list of settings; "Sampler" follows."""
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
_SOURCE_TYPE = re.compile(r"digitalsourcetype/([A-Za-z]{1,64})")
# XMP writes a property as an attribute, name="text", or as an element, <name>text
_CREATOR_TOOL, _CREDIT, _AI_SYSTEM = (
    re.compile(name + r"(?:=[\"']|>)([^\"'<]{1,200})") for name in ("CreatorTool", "photoshop:Credit", "AISystemUsed")
)
_PROGRAM, _IPTC_CREDIT = 65, 110
"""Datasets of IPTC-IIM record 2: originating program, and credit."""


def read_metadata(data: bytes, blocks: Iterable[Block]) -> tuple[Claim, ...]:
    """Return what an image file says about its origin: from `blocks`, and from its manifest, which is read in `data`.

    Never raises, whatever the bytes; returns at most 16 claims, of at most MOST_VALUE characters each.
    """
    claims: dict[Claim, None] = {}
    for block in blocks:
        for source, claim, value in _claims(block, data):
            claims[Claim(source, claim, _on_one_line(value))] = None
        if len(claims) >= _MOST_CLAIMS:
            break
    return tuple(claims)[:_MOST_CLAIMS]


def disagrees(claims: Sequence[Claim], headline: str) -> bool:
    """Tell whether a headline contradicts a file's own claims; a composite and `undecided` never do."""
    names = {claim.claim for claim in claims}
    if headline == REAL:
        return "generated" in names
    return headline == GENERATED and "camera" in names and not names & {"generated", "composite"}


def _claims(block: Block, data: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield (source, claim, value)."""
    if block.kind == "c2pa":
        yield from (("c2pa", claim, value) for claim, value in _manifest_claims(data))
    elif block.kind == "xmp":
        yield from _xmp(_text(block.data))
    elif block.kind == "exif":
        yield from _exif({tag: _text(text) for tag, text in block.tags.items()})
    elif block.kind == "iptc":
        yield from _iptc(block.data)
    elif block.kind == "comment":
        yield from _generated("comment", _text(block.data))
    else:
        yield from _png(block.key, _text(block.data))


def _xmp(packet: str) -> Iterator[tuple[str, str, str]]:
    for term in _SOURCE_TYPE.findall(packet)[:4]:
        yield "xmp", _SOURCE_TYPES.get(term, "software"), f"digital source type {term}"
    if match := _AI_SYSTEM.search(packet):
        yield "xmp", "generated", f"AI system used {match[1]}"
    if match := _CREATOR_TOOL.search(packet):
        yield "xmp", _program(match[1]), match[1]
    if match := _CREDIT.search(packet):
        yield from _generated("xmp", match[1])


def _png(key: str, text: str) -> Iterator[tuple[str, str, str]]:
    is_comfy = (key == "prompt" and '"class_type"' in text) or (key == "workflow" and '"nodes"' in text)
    if tool := "ComfyUI" if is_comfy else _PNG_KEYS.get(key):
        yield "png", "generated", f"{key} of {tool}: {text[:MOST_VALUE]}"
    elif key == "Software":
        yield "png", _program(text), text
    else:
        yield from ((source, claim, f"{key}: {value}") for source, claim, value in _generated("png", text))


def _generated(source: str, text: str) -> Iterator[tuple[str, str, str]]:
    """Yield a claim if free text is the note of a generator; other text says nothing about the origin."""
    beginning = text[:MOST_VALUE]
    steps = _STEPS.search(text)
    has_settings = steps is not None and "Sampler" in text[steps.end() :]
    if has_settings or _MIDJOURNEY.search(text) or _TOOLS.search(beginning):
        yield source, "generated", beginning


def _program(name: str) -> str:
    return "generated" if _TOOLS.search(name[:MOST_VALUE]) else "software"


def _exif(tags: Mapping[int, str]) -> Iterator[tuple[str, str, str]]:
    camera = [tags[tag] for tag in (MAKE, MODEL) if tags.get(tag)]
    # ComfyUI keeps its graphs in these two tags where a format has no text chunks
    graphs = [text for text in camera if text.startswith(("prompt:", "workflow:"))]
    if graphs:
        yield "exif", "generated", f"ComfyUI {graphs[0]}"
    elif camera:
        yield "exif", "camera", " ".join(camera)
    if software := tags.get(SOFTWARE):
        yield "exif", _program(software), software
    for tag in (DESCRIPTION, USER_COMMENT):
        yield from _generated("exif", tags.get(tag, ""))
    yield from _xmp(tags.get(XMP, ""))


def _iptc(resources: bytes) -> Iterator[tuple[str, str, str]]:
    """Look for two datasets; each is the byte 0x1C, record, number, a length of two bytes, and the text."""
    for number in (_PROGRAM, _IPTC_CREDIT):
        place = resources.find(bytes((0x1C, 2, number)))
        if place < 0:
            continue
        length = int.from_bytes(resources[place + 3 : place + 5], "big")
        text = _text(resources[place + 5 : place + 5 + length])
        if number == _PROGRAM and text:
            yield "iptc", _program(text), text
        else:
            yield from _generated("iptc", text)


def _text(data: bytes) -> str:
    """Decode the bytes of a text; EXIF's user comment begins with the name of its encoding, in eight bytes."""
    if data.startswith(b"UNICODE\0"):
        wide = data[8:]
        # Not every tool follows the byte order of the file; but in most texts the zeros are the high bytes
        order = "be" if wide[::2].count(0) >= wide[1::2].count(0) else "le"
        return wide.decode(f"utf-16-{order}", "replace").strip("\0 ")
    return data.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0 \r\n\t")


def _on_one_line(value: str) -> str:
    """Return a value without control characters and of at most MOST_VALUE characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in value[: 2 * MOST_VALUE])
    line = " ".join(printable.split())
    return line if len(line) <= MOST_VALUE else f"{line[: MOST_VALUE - 1]}…"


_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_MOST_MANIFESTS = 8
_LONGEST_JSON = 1 << 22
"""Characters of a manifest store as JSON; a longer one is not read."""


def _manifest_claims(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield (claim, value) for each manifest of a file that has some. Never raises."""
    store, problem = _manifest_store(data)
    if store is None:
        yield "unread", problem
        return
    state = str(store.get("validation_state", "unknown")).lower()
    active = store.get("active_manifest")
    manifests = store.get("manifests")
    if not isinstance(manifests, dict) or active not in manifests:
        yield "unread", "a C2PA manifest without an active part"
        return
    # The active manifest is about this file, the others are about what it was made from
    ordered = [active, *(label for label in manifests if label != active)][:_MOST_MANIFESTS]
    for label in ordered:
        if isinstance(manifests[label], Mapping):
            yield from _one_manifest(manifests[label], "" if label == active else "ingredient, ", state)


def _one_manifest(manifest: Mapping[str, Any], part: str, state: str) -> Iterator[tuple[str, str]]:
    who = _claim_generator(manifest)
    terms = list(dict.fromkeys(_SOURCE_TYPE.findall(json.dumps(manifest.get("assertions", [])))))
    for term in terms[:4]:
        claim = _SOURCE_TYPES.get(term, "software")
        if part and claim == "generated":
            claim = "composite"
        yield ("software" if part and claim == "camera" else claim), f"{part}{term}, by {who}, signature {state}"
    if not terms and not part:
        yield "software", f"{who}, signature {state}"


def _claim_generator(manifest: Mapping[str, Any]) -> str:
    named = manifest.get("claim_generator_info")
    if isinstance(named, list) and named and isinstance(named[0], Mapping) and named[0].get("name"):
        return str(named[0]["name"])
    return str(manifest.get("claim_generator") or "an unnamed program")


def _manifest_store(data: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the manifest store, or None and why it could not be read."""
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
