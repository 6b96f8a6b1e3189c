"""Puts the page together: entries, pictures, evidence and cards into the template, under a strict content policy."""

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from markupsafe import Markup

from forensic_cli.card import REAL, ModelCard
from forensic_cli.console import track
from forensic_cli.images.decode import MAX_PIXELS
from forensic_cli.images.header import OTHER_COMPRESSION, UNJUDGED, UNLIKE_TRAINING, WARNINGS
from forensic_cli.model import CUDA, Model
from forensic_cli.pipeline import default_workers, ordered_map
from forensic_cli.provenance import CLAIMS
from forensic_cli.record import printable
from forensic_cli.reports.html.cards import card_tables, limits
from forensic_cli.reports.html.evidence import EvidenceMap, evidence_map
from forensic_cli.reports.html.rows import Entries, as_json
from forensic_cli.reports.html.thumbnails import (
    NOT_JUDGED,
    NOTES,
    OVER_LIMIT,
    Closer,
    Picture,
    Power,
    picture_of,
    spectrum_png,
)
from forensic_cli.reports.text import NO_PROOF, P_MEANING, RATIO_MEANING, visible
from forensic_cli.seal import file_sha256
from forensic_cli.verdict import known_labels

_FOLDER = Path(__file__).parent
_SCRIPTS = ("dom.js", "groups.js", "gallery.js", "image.js", "start.js")
_CHUNK = 200
"""Pictures in one script element; the page reads one when it comes into sight."""
_DIFFERS = 0.01
"""A probability that was computed again and differs by more is mentioned."""
_LEAST_IMAGES = 2
"""An average spectrum of fewer says no more than the image's own."""


@dataclass(frozen=True)
class PageSettings:
    """How much of the files the page shows."""

    root: Path = Path()
    """Folder that the paths in the rows are relative to."""
    evidence: int = 200
    """Most images with an evidence map and a spectrum."""
    picture_bytes: int = 48_000_000
    """Most bytes of thumbnails, as they stand in the page."""
    quiet: bool = False
    """Show no progress bar."""


@dataclass
class Gathered:
    """What was read from the files again."""

    thumbnails: list[str]
    """Base64 of each row's thumbnail, or a name from pictures.NOTES."""
    evidence: dict[int, dict[str, Any]]
    """{row: record for the page}."""
    spectra: dict[str, list[Power]]
    """{generator, or headline: residual spectra of its images}."""


def build_page(
    run: Mapping[str, Any],
    entries: Entries,
    exports: Sequence[Path],
    settings: PageSettings,
    source: Mapping[str, Any] | None = None,
) -> str:
    """Return the page. `exports`: where the run's models may be; `source`: of the results file, its
    name, its sha256, a sentence on its seal, and whether that holds; None where a scan makes the page itself.

    The same results, files and exports give the same bytes.
    """
    models = _load(run, exports)
    gathered = _gather(run, entries, models, settings)
    cards = [model.card for model in models]
    return _render(
        run={"ensemble": None, "threshold": None, "reencodings": None, "dedupe": None} | dict(run),
        entries=entries,
        source=source,
        case=source["name"] if source else _folder_name([entry.path for entry in entries.all]),
        absent=[model["name"] for model in run["models"] if model["sha256"] not in {one.sha256 for one in models}],
        cards=cards,
        tables=card_tables(cards),
        limits=limits(cards),
        generators=[label for label in known_labels(tuple(entries.labels)) if label != REAL],
        meanings={"p": P_MEANING, "support": RATIO_MEANING, "proof": NO_PROOF},
        spectra=_average_spectra(gathered.spectra),
        **_data(run, entries, gathered),
    )


def _folder_name(paths: Sequence[str]) -> str:
    """Return the name of the innermost folder that holds all files, or of the only file."""
    try:
        common = os.path.commonpath(paths)
    except ValueError:  # no files, on several drives, or relative and absolute
        return f"{len(paths)} files"
    return PurePath(common).name or printable(Path.cwd().name) or f"{len(paths)} files"


def _load(run: Mapping[str, Any], exports: Sequence[Path]) -> list[Model]:
    """Start the models that judged, those whose file is there, on the kind of device that they ran on.

    One a technique, as in a scan, whatever the results say.
    """
    files = {file_sha256(path): path for path in reversed(exports)}
    device = "auto" if CUDA in run["providers"] else "cpu"
    wanted = {model["technique"]: model["sha256"] for model in reversed(run["models"])}
    loaded = {sha256: Model.load_all(files[sha256], device) for sha256 in {*wanted.values()} & {*files}}
    found = {(sha256, model.card.technique): model for sha256, models in loaded.items() for model in models}
    names = ((wanted[model["technique"]], model["technique"]) for model in run["models"])
    return [found[name] for name in dict.fromkeys(names) if name in found]


def _gather(run: Mapping[str, Any], entries: Entries, models: Sequence[Model], settings: PageSettings) -> Gathered:
    order = entries.in_turn()
    close = set(order[: settings.evidence])
    wanted = tuple(dict.fromkeys(model.card.preprocessing for model in models))
    gathered = Gathered([NOT_JUDGED] * len(entries.all), {}, {})
    for number in order:
        gathered.thumbnails[number] = OVER_LIMIT
    left = settings.picture_bytes

    def read(number: int) -> Picture | str:
        max_pixels = run.get("max_pixels") or MAX_PIXELS
        return picture_of(entries.all[number], settings.root, max_pixels, wanted if number in close else None)

    workers = default_workers()
    reading = takewhile(lambda number: left > 0 or number in close, order)
    pictures = ordered_map(read, reading, workers, 2 * workers)
    shown = track(zip(order, pictures, strict=False), "pictures", len(order), settings.quiet)
    for number, picture in shown:
        if left <= 0 and number not in close:
            break  # what was read ahead depends on the threads, and the page must not
        if isinstance(picture, str):
            gathered.thumbnails[number] = picture
            continue
        text = _base64(picture.thumbnail)
        left -= len(text)
        if left >= 0:
            gathered.thumbnails[number] = text
        if picture.closer is not None:
            gathered.evidence[number] = _evidence(entries, number, models, picture.closer)
            gathered.spectra.setdefault(entries.all[number].answer, []).append(picture.closer.spectrum)
    return gathered


def _evidence(entries: Entries, number: int, models: Sequence[Model], closer: Closer) -> dict[str, Any]:
    maps = []
    for place, preprocessing in enumerate(dict.fromkeys(model.card.preprocessing for model in models)):
        judging = [model for model in models if model.card.preprocessing == preprocessing]
        maps.append(
            evidence_map(judging, closer.views[place], closer.state, preprocessing, closer.height, closer.width)
        )
    cards = {model.card.technique: model.card for model in models}
    recorded = entries.recorded(number)
    record = {
        "preview": _base64(closer.preview),
        "spectrum": _base64(spectrum_png(closer.spectrum)),
        "height": closer.height,
        "width": closer.width,
        "maps": [_map_record(one, entries, cards) for one in maps],
    }
    differs = max((_difference(one, recorded, entries, cards) for one in maps), default=0.0)
    return record | ({"differs": round(differs, 3)} if differs > _DIFFERS else {})


def _map_record(found: EvidenceMap, entries: Entries, cards: Mapping[str, ModelCard]) -> dict[str, Any]:
    values = {}
    for technique, one in found.values.items():
        by_label = {
            entries.labels.number(label): column for label, column in zip(cards[technique].labels, one.T, strict=True)
        }
        values[entries.techniques.number(technique)] = [
            [round(float(x), 3) for x in by_label[label]] if label in by_label else None
            for label in range(len(entries.labels))
        ]
    places = [[round(side, 4) for side in place] for place in found.places]
    return {"method": found.method, "places": places, "values": values}


def _difference(
    found: EvidenceMap,
    recorded: Mapping[str, Sequence[float | None]],
    entries: Entries,
    cards: Mapping[str, ModelCard],
) -> float:
    """Return by how much a probability of the whole image differs from the one in the row."""
    largest = 0.0
    for technique, whole in found.whole.items():
        before = recorded.get(technique, [])
        for label, now in zip(cards[technique].labels, whole, strict=True):
            number = entries.labels.number(label)
            then = before[number] if number < len(before) else None
            largest = max(largest, abs(float(now) - then) if then is not None else 0.0)
    return largest


def _average_spectra(spectra: Mapping[str, list[Power]]) -> list[dict[str, Any]]:
    return [
        {"answer": answer, "images": len(found), "png": _base64(spectrum_png(np.mean(found, axis=0)))}
        for answer, found in sorted(spectra.items())
        if len(found) >= _LEAST_IMAGES
    ]


def _data(run: Mapping[str, Any], entries: Entries, gathered: Gathered) -> dict[str, Any]:
    """Return what the scripts read: JSON texts for script elements."""
    about = {
        "labels": list(entries.labels),
        "techniques": list(entries.techniques),
        "ensemble": run.get("ensemble"),
        "warnings": WARNINGS,
        "unjudged": sorted({*UNJUDGED, OTHER_COMPRESSION, UNLIKE_TRAINING}),
        "claims": CLAIMS,
        "notes": NOTES,
        "chunk": _CHUNK,
        "groups": entries.groups.several,
        "evidence": sorted(gathered.evidence),
        "interest": sorted(range(len(entries.all)), key=lambda number: entries.all[number].interest),
    }
    thumbnails = gathered.thumbnails
    return {
        "about": Markup(as_json(about)),
        "rows": Markup("[" + ",\n".join(entry.text for entry in entries.all) + "]"),
        "chunks": [Markup(as_json(thumbnails[i : i + _CHUNK])) for i in range(0, len(thumbnails), _CHUNK)],
        "evidence": {number: Markup(as_json(one)) for number, one in sorted(gathered.evidence.items())},
        "pictured": sum(not text.startswith("!") for text in thumbnails),
    }


def _render(**values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    style = (_FOLDER / "style.css").read_text(encoding="utf-8")
    script = "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": lambda value: f"{value * 100:.1f} %", "coded": _coded, "breakable": _breakable}
    return environment.get_template("template.html").render(
        style=Markup(style), script=Markup(script), style_hash=_policy(style), script_hash=_policy(script), **values
    )


def _shown(value: Any) -> Any:
    """Escape control characters in what the template prints; dom.js does so for what the scripts print."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _breakable(name: str) -> Markup:
    """Return a name that a line may break after an underscore, and nowhere else."""
    return Markup("_<wbr>").join(visible(name).split("_"))


def _coded(text: str) -> Markup:
    """Return text whose words between backticks are code."""
    words = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(word) if i % 2 else word for i, word in enumerate(words))


def _policy(text: str) -> str:
    """Return the source expression of a Content-Security-Policy that lets this text alone run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
