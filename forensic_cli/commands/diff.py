"""`genforensic diff`: what changed between two scans, by image, in the models and in the settings."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from forensic_cli.console import print_json, print_text
from forensic_cli.errors import ExitCode

if TYPE_CHECKING:
    from forensic_cli.record import FileResult, RunHeader

TOLERANCE = 0.001
"""Probabilities that differ by no more count as the same; another batch size moves the sixth digit."""
_COMPARED = ("status", "headline", "verdict", "label", "candidates", "warnings", "sha256")
"""Fields of a row that must be equal."""
_PROBABILITIES = ("p_generated", "confidence")
"""Fields that may differ by the tolerance."""
_NOT_SETTINGS = ("models", "started", "command")
"""Fields of the run header that are not settings."""
_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_Key: TypeAlias = tuple[str, int]
"""A path, and its turn from 1 if it was scanned several times."""
_Rows: TypeAlias = dict[_Key, dict[str, Any]]
"""Records by path."""
_SHORT = 12
"""Characters of a sha256 that the table shows."""


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="JSON Lines, JSON, Parquet or folder of parts of a scan.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same of another scan.")],
    tolerance: Annotated[
        float, typer.Option(metavar="N", min=0, max=1, help="Probabilities that differ by no more are the same.")
    ] = TOLERANCE,
    report_format: Annotated[Literal["table", "json"], typer.Option("--format", "-f", help="Format.")] = "table",
    images_only: Annotated[bool, typer.Option("--images-only", help="Ignore models, settings and versions.")] = False,
) -> None:
    """Compare two scans: images added, removed or judged differently, other models, other settings.

    Images are matched by path. An image differs if its headline, verdict, label, candidates, status, warnings or
    sha256 differ, or its p_generated or confidence by more than --tolerance.

    Examples:

        genforensic diff monday.jsonl friday.jsonl
        genforensic diff old.json new.json --tolerance 0.05 --format json

    Exit code: 0 the same, 12 different, 2 wrong use.
    """
    comparison = compare(old, new, tolerance)
    if images_only:
        comparison = replace(comparison, models=[], settings=[])
    if report_format == "json":
        print_json(comparison.record())
    else:
        for line in _lines(comparison):
            print_text(line)
    raise typer.Exit(ExitCode.DONE if comparison.same else ExitCode.DIFFERENT)


@dataclass(frozen=True)
class _Change:
    name: str
    """Of the field, the setting or the model."""
    old: Any
    """None if there was none."""
    new: Any
    """None if there is none."""


@dataclass(frozen=True)
class _ImageChange:
    path: str
    kind: str
    """added, removed or changed."""
    changes: list[_Change]
    """Which fields; of an added or removed image its headline and verdict, or its status if it has none."""


@dataclass
class Comparison:
    """What changed between two scans."""

    models: list[_Change]
    """By technique: the sha256 of its export."""
    settings: list[_Change]
    """Of the run header: threshold, batch size, versions, ..."""
    images: Iterator[_ImageChange]
    """In the new scan's order, then what was removed; each is counted as it is taken."""
    rows: int
    """Of the new scan."""
    counts: Counter[str] = field(default_factory=Counter)
    """Images by kind, and changed ones by field, as far as they were taken."""

    def changes(self) -> Iterator[_ImageChange]:
        """Yield the images that differ, and count them."""
        for image in self.images:
            self.counts[image.kind] += 1
            self.counts.update(change.name for change in image.changes if image.kind == "changed")
            yield image

    @property
    def same(self) -> bool:
        """Tell whether nothing differs, once all images were taken."""
        return not (self.models or self.settings or self.counts)

    @property
    def totals(self) -> dict[str, int]:
        """Return how many images were added, removed, changed and not changed, and how many changed in each field."""
        unchanged = self.rows - self.counts["added"] - self.counts["changed"]
        names = (*_COMPARED, *_PROBABILITIES)
        return {kind: self.counts[kind] for kind in _MARKS} | {
            "unchanged": unchanged,
            **{name: self.counts[name] for name in names},
        }

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        images = [asdict(image) for image in self.changes()]
        models, settings = ([asdict(change) for change in changes] for changes in (self.models, self.settings))
        return {"same": self.same, "totals": self.totals, "models": models, "settings": settings, "images": images}


def compare(old: Path, new: Path, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two scans, image by image by the path in their rows; of parts, only what differs is in memory."""
    from forensic_cli.queries import changed_pairs, count_rows
    from forensic_cli.results_file import open_results

    if old.is_dir() or new.is_dir():
        headers = open_results(old).header, open_results(new).header
        pairs, rows = changed_pairs(old, new, _COMPARED, _PROBABILITIES, tolerance), count_rows(new)
    else:
        before, after = open_results(old), open_results(new)
        headers = before.header, after.header
        one_side, other_side = _by_path(before.rows()), _by_path(after.rows())
        pairs, rows = _pairs(one_side, other_side), len(other_side)
    images = filter(None, (_compare_rows(key, one, other, tolerance) for key, one, other in pairs))
    models, settings = (_changes(*map(of, headers)) for of in (_models, _settings))
    return Comparison(models, settings, images, rows)


def _pairs(before: _Rows, after: _Rows) -> Iterator[tuple[_Key, dict[str, Any], dict[str, Any]]]:
    """Yield (key, old row, new row), with an empty row where there is none."""
    yield from ((key, before.get(key, {}), row) for key, row in after.items())
    yield from ((key, row, {}) for key, row in before.items() if key not in after)


def _by_path(rows: "Iterable[FileResult]") -> _Rows:
    """Key records by path and turn."""
    turns: Counter[str] = Counter()
    records = {}
    for row in rows:
        turns[row.path] += 1
        records[row.path, turns[row.path]] = row.record()
    return records


def _compare_rows(key: _Key, old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> _ImageChange | None:
    """Return how an image differs; None if it does not."""
    path, turn = key
    path += f" (scanned again, {turn})" if turn > 1 else ""
    if not old or not new:
        return _whole(path, "removed", old) if old else _whole(path, "added", new)
    changes = _row_changes(old, new, tolerance)
    return _ImageChange(path, "changed", changes) if changes else None


def _row_changes(old: Mapping[str, Any], new: Mapping[str, Any], tolerance: float) -> list[_Change]:
    changes = [_Change(name, old[name], new[name]) for name in _COMPARED if old[name] != new[name]]
    for name in _PROBABILITIES:
        before, after = old[name], new[name]
        # Rounded, so that 0.3 - 0.2 is no more than 0.1
        if before != after and (None in (before, after) or round(abs(before - after), 9) > tolerance):
            changes.append(_Change(name, before, after))
    return changes


def _whole(path: str, kind: str, row: Mapping[str, Any]) -> _ImageChange:
    """Return an image that only one of the scans has."""
    names = ("status",) if row["verdict"] is None else ("headline", "verdict")
    sides = [(None, row[name]) if kind == "added" else (row[name], None) for name in names]
    return _ImageChange(path, kind, [_Change(name, *side) for name, side in zip(names, sides, strict=True)])


def _models(header: "RunHeader") -> dict[str, Any]:
    return {f"{model.recipe} {model.technique}": model.sha256 for model in header.models}


def _settings(header: "RunHeader") -> dict[str, Any]:
    """Return the settings, nested ones under names with a dot."""
    settings = {}
    for name, value in header.record().items():
        if isinstance(value, Mapping):
            settings.update({f"{name}.{inner}": setting for inner, setting in value.items()})
        elif name == "providers":
            settings[name] = sorted(set(value))  # one for each model, and the models are compared themselves
        elif name not in _NOT_SETTINGS:
            settings[name] = value
    return settings


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[_Change]:
    pairs = ((name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new]))
    return [_Change(name, before, after) for name, before, after in pairs if before != after]


def _lines(comparison: Comparison) -> Iterator[str]:
    from forensic_cli.reports.text import counted, visible

    for title, changes in (("model", comparison.models), ("setting", comparison.settings)):
        yield from (f"{title} {visible(_arrow(change))}" for change in changes)
    for image in comparison.changes():
        describe = _arrow if image.kind == "changed" else _only_value
        described = ", ".join(map(describe, image.changes))
        yield f"{_MARKS[image.kind]} {visible(image.path)}: {visible(described)}"
    if comparison.same:
        yield f"The scans are the same: {counted(comparison.rows, 'image')}."
        return
    totals = comparison.totals
    yield ", ".join(f"{totals[name]} {name}" for name in (*_MARKS, "unchanged"))
    if fields := [f"{name} {totals[name]}" for name in (*_COMPARED, *_PROBABILITIES) if totals[name]]:
        yield f"changed: {', '.join(fields)}"


def _arrow(change: _Change) -> str:
    return f"{change.name} {_value(change.old)} -> {_value(change.new)}"


def _only_value(change: _Change) -> str:
    return f"{change.name} {_value(change.new if change.old is None else change.old)}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "/".join(map(str, value)) or "none"
    text = "none" if value is None else str(value)
    return text[:_SHORT] if len(text) == 64 else text
