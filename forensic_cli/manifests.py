"""Reads a C2PA manifest with the optional package c2pa-python; without it, only says that there is one.

Source: C2PA Technical Specification 2.2. Nothing is fetched: no remote manifest, no revocation list.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from io import BytesIO
from typing import Any

from forensic_cli.extras import pip_line
from forensic_cli.metadata import source_type

_SOURCE_TYPE = re.compile(r"digitalsourcetype/([A-Za-z]{1,64})")
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
    terms = list(dict.fromkeys(_SOURCE_TYPE.findall(json.dumps(manifest.get("assertions", [])))))
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
