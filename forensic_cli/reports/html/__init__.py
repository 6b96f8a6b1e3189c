"""One self-contained HTML page for people: it opens offline, holds every row, and shows what each answer rests on.

rows.py shortens and groups the rows, and pictures.py looks at the files again. Here both go into template.html with
style.css and the scripts, under a strict content policy.
"""

import base64
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path, PurePath
from typing import Any

from markupsafe import Markup

from forensic_cli.card import INCONCLUSIVE, REAL, ModelCard
from forensic_cli.console import track
from forensic_cli.images.decode import MAX_PIXELS
from forensic_cli.images.header import OTHER_COMPRESSION, UNJUDGED, UNLIKE_TRAINING, WARNINGS
from forensic_cli.model import CUDA, Model
from forensic_cli.pipeline import default_workers, ordered_map
from forensic_cli.provenance import CLAIMS, CONFLICT
from forensic_cli.queries import sample
from forensic_cli.record import FileResult, RunHeader, Summary, printable
from forensic_cli.reports import Report
from forensic_cli.reports.html.pictures import NOT_JUDGED, NOTES, OVER_LIMIT, Picture, evidence_maps, picture_of
from forensic_cli.reports.html.rows import ShortRecords, answer_of, as_base64, as_json, findings, in_turn, interest
from forensic_cli.reports.text import NO_PROOF, P_MEANING, visible
from forensic_cli.results_file import open_results
from forensic_cli.seal import file_sha256
from forensic_cli.tables import RATIO_MEANING, Table, card_tables
from forensic_cli.verdict import known_labels

_FOLDER = Path(__file__).parent
_SCRIPTS = ("dom.js", "groups.js", "gallery.js", "image.js", "start.js")
_CHUNK = 200
"""Pictures in one script element; the page parses one when it scrolls into view."""


class HtmlReport(Report):
    """Keeps the rows of a scan as they come; the page is made at the end, from the files and with the same models."""

    def begin(self, header: RunHeader) -> str:
        """Return nothing: the summary stands before the rows."""
        self._header = header
        self._rows: list[FileResult] = []
        return ""

    def row(self, result: FileResult) -> str:
        """Return nothing, and keep the row."""
        self._rows.append(result)
        return ""

    def end(self, summary: Summary) -> str:
        """Return the whole page."""
        settings = PageSettings(quiet=self.quiet)
        return build_page(Shown(self._header, self._rows, summary), self._header.exports, settings)


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


@dataclass(frozen=True)
class Source:
    """The results file that a page is made from."""

    name: str
    """Its name, printable."""
    sha256: str
    """Its SHA-256, hexadecimal."""
    seal: str
    """A sentence that says whether its seal holds."""
    holds: bool
    """Whether it does."""


@dataclass(frozen=True)
class Shown:
    """What a page shows of a scan."""

    header: RunHeader
    """What judged the files."""
    rows: Sequence[FileResult]
    """All rows, or a sample of them, in the scan's order."""
    summary: Summary
    """Totals of all rows."""


def choose_rows(results: Path, most: int | None) -> Shown:
    """Read results; of more than `most` rows a sample (queries.sample). Raises UsageError for anything else."""
    opened = open_results(results)
    chosen = None if most is None else sample(results, most)
    summary, kept = Summary(), []
    for number, row in enumerate(opened.rows()):
        summary.add(row)
        if chosen is None or number in chosen:
            kept.append(row)
    summary.left_out = opened.left_out or 0
    return Shown(opened.header, kept, summary)


def build_page(shown: Shown, exports: Sequence[Path], settings: PageSettings, source: Source | None = None) -> str:
    """Return the page. `exports`: where the scan's models may be; `source`: None if a scan makes the page itself.

    The same results, files and exports give the same bytes.
    """
    header, rows, summary = shown.header, shown.rows, shown.summary
    models, records, groups = _load(header, exports), ShortRecords(header, rows), findings(rows)
    thumbnails, evidence = _gather(header, rows, records, models, settings)
    several = [members for members in groups if len(members) > 1]
    return _render(
        run=header,
        case=source.name if source else _folder_name([row.path for row in rows]),
        source=source,
        summary=summary,
        shown=len(rows),
        shown_judged=sum(row.verdict is not None for row in rows),
        named=[item for item in summary.record()["verdicts"].items() if item[0] not in (REAL, INCONCLUSIVE)],
        disagreeing=sum(row.verdict.agreement < 1 for row in rows if row.verdict),
        conflicting=sum(CONFLICT in row.warnings for row in rows),
        several=several,
        judged_findings=sum(any(rows[number].verdict for number in members) for members in groups),
        mixed=sum(len({answer_of(rows[number]) for number in members}) > 1 for members in several),
        absent=[used.name for used in header.models if used.sha256 not in {model.sha256 for model in models}],
        cards=_card_tables(models),
        limits=dict.fromkeys(limit for model in models for limit in model.card.limits),
        generators=[label for label in known_labels(tuple(records.labels)) if label != REAL],
        meanings={"p": P_MEANING, "ratio": RATIO_MEANING, "proof": NO_PROOF},
        about=Markup(as_json(_about(header, rows, records, several, evidence))),
        rows=Markup("[" + ",\n".join(as_json(records.record(row)) for row in rows) + "]"),
        chunks=[Markup(as_json(thumbnails[i : i + _CHUNK])) for i in range(0, len(thumbnails), _CHUNK)],
        evidence=dict(sorted(evidence.items())),
        pictured=sum(not text.startswith("!") for text in thumbnails),
    )


def _about(
    header: RunHeader,
    rows: Sequence[FileResult],
    records: ShortRecords,
    several: Sequence[Sequence[int]],
    evidence: Iterable[int],
) -> dict[str, Any]:
    """Return what the scripts need to know besides the rows; see dom.js."""
    return {
        "labels": list(records.labels),
        "techniques": list(records.techniques),
        "ensemble": header.ensemble,
        "warnings": WARNINGS,
        "unjudged": sorted({*UNJUDGED, OTHER_COMPRESSION, UNLIKE_TRAINING}),
        "claims": CLAIMS,
        "notes": NOTES,
        "chunk": _CHUNK,
        "groups": several,
        "evidence": sorted(evidence),
        "interest": sorted(range(len(rows)), key=lambda number: interest(rows[number])),
    }


def _folder_name(paths: Sequence[str]) -> str:
    """Return the name of the innermost folder that holds all files, or of the only file."""
    try:
        common = os.path.commonpath(paths)
    except ValueError:  # no files, on several drives, or relative and absolute
        return f"{len(paths)} files"
    return PurePath(common).name or printable(Path.cwd().name) or f"{len(paths)} files"


def _card_tables(models: Sequence[Model]) -> list[tuple[ModelCard, list[Table]]]:
    """Return the card of each model with its tables, and a note that several tables have with the first one only.

    A card whose figures do not have the shape that training gives them has no tables: an export may hold anything.
    """
    cards, notes = [], set[str]()
    for model in models:
        try:
            tables = card_tables(model.card)
        except (KeyError, TypeError, ValueError, AttributeError):
            tables = []
        cards.append((model.card, [replace(table, note="") if table.note in notes else table for table in tables]))
        notes.update(table.note for table in tables)
    return cards


def _load(header: RunHeader, exports: Sequence[Path]) -> list[Model]:
    """Start those models that judged whose files are there, on the kind of device that they ran on.

    There is one for each technique, as in a scan, even if the results name more.
    """
    files = {file_sha256(path): path for path in reversed(exports)}
    device = "auto" if CUDA in header.providers else "cpu"
    wanted = {used.technique: used.sha256 for used in reversed(header.models)}
    loaded = [model for sha256 in {*wanted.values()} & {*files} for model in Model.load_all(files[sha256], device)]
    by_name = {(model.card.technique, model.sha256): model for model in loaded}
    names = dict.fromkeys((used.technique, wanted[used.technique]) for used in header.models)
    return [by_name[name] for name in names if name in by_name]


def _gather(
    header: RunHeader,
    rows: Sequence[FileResult],
    records: ShortRecords,
    models: Sequence[Model],
    settings: PageSettings,
) -> tuple[list[str], dict[int, Markup]]:
    """Read the files again, those with an evidence map first, until there is no room for more thumbnails.

    Returns each row's thumbnail, as Base64 or a name from pictures.NOTES, and {row: its evidence as JSON}.
    """
    order = in_turn(rows)
    close = set(order[: settings.evidence])
    wanted = tuple(dict.fromkeys(model.card.preprocessing for model in models))
    thumbnails, evidence = [OVER_LIMIT if row.verdict else NOT_JUDGED for row in rows], {}
    room = settings.picture_bytes

    def read(number: int) -> Picture | str:
        max_pixels = header.max_pixels or MAX_PIXELS
        return picture_of(rows[number], settings.root, max_pixels, wanted if number in close else None)

    workers = default_workers()
    reading = takewhile(lambda number: room > 0 or number in close, order)
    pictures = ordered_map(read, reading, workers, 2 * workers)
    for number, picture in track(zip(order, pictures, strict=False), "pictures", len(order), settings.quiet):
        if room <= 0 and number not in close:
            break  # what was read ahead depends on the threads, and the page must not
        if isinstance(picture, str):
            thumbnails[number] = picture
            continue
        text = as_base64(picture.thumbnail)
        room -= len(text)
        if room >= 0:
            thumbnails[number] = text
        if picture.closer is not None:
            maps = evidence_maps(models, picture.closer)
            evidence[number] = Markup(as_json(records.evidence(rows[number], picture.closer, maps)))
    return thumbnails, evidence


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
    environment.filters |= {"coded": _coded, "breakable": _breakable}
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
    words = visible(text).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(word) if i % 2 else word for i, word in enumerate(words))


def _policy(text: str) -> str:
    """Return the source expression of a Content-Security-Policy that lets only this text run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
