"""`genforensic diff`: what changed between two scans, by image, in the models and in the settings."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from forensic_cli.console import print_json, print_text
from forensic_cli.errors import ExitCode

if TYPE_CHECKING:
    from forensic_cli.record import FileResult, RunHeader
    from forensic_cli.results_file import Results

TOLERANCE = 0.001
"""Probabilities that differ by no more count as the same; another batch size moves the sixth digit."""
_COMPARED = ("status", "headline", "verdict", "label", "candidates", "warnings", "sha256")
"""Fields of a row that must be equal."""
_PROBABILITIES = ("p_generated", "confidence")
"""Fields that may differ by the tolerance."""
_NOT_SETTINGS = ("models", "started", "command")
"""Fields of the run header that are not settings."""
_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_SHORT = 12
"""Characters of a sha256 that the table shows."""


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="JSON Lines or JSON of a scan.")],
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
    from forensic_cli.results_file import load_results

    comparison = compare(load_results(old), load_results(new), tolerance)
    if images_only:
        comparison = replace(comparison, models=[], settings=[])
    if report_format == "json":
        print_json(comparison.record())
    else:
        print_text("\n".join(_lines(comparison)))
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


@dataclass(frozen=True)
class Comparison:
    """What changed between two scans."""

    models: list[_Change]
    """By technique: the sha256 of its export."""
    settings: list[_Change]
    """Of the run header: threshold, batch size, versions, ..."""
    images: list[_ImageChange]
    """In the new scan's order, then what was removed."""
    unchanged: int
    """Images that are the same in both."""

    @property
    def same(self) -> bool:
        """Tell whether nothing differs."""
        return not (self.models or self.settings or self.images)

    @property
    def totals(self) -> dict[str, int]:
        """Return how many images were added, removed, changed and not changed, and how many changed in each field."""
        kinds = Counter(image.kind for image in self.images)
        names = Counter(change.name for image in self.images if image.kind == "changed" for change in image.changes)
        by_kind = {kind: kinds[kind] for kind in _MARKS}
        return {**by_kind, "unchanged": self.unchanged} | {name: names[name] for name in (*_COMPARED, *_PROBABILITIES)}

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        changes = asdict(self)
        del changes["unchanged"]  # among the totals
        return {"same": self.same, "totals": self.totals} | changes


def compare(old: "Results", new: "Results", tolerance: float = TOLERANCE) -> Comparison:
    """Compare two scans, image by image by the path in their rows."""
    before, after = _by_path(old.rows), _by_path(new.rows)
    images = []
    for path, row in after.items():
        if path not in before:
            images.append(_whole(path, "added", row))
        elif changes := _row_changes(before[path], row, tolerance):
            images.append(_ImageChange(path, "changed", changes))
    unchanged = len(after) - len(images)
    images += [_whole(path, "removed", row) for path, row in before.items() if path not in after]
    models, settings = (_changes(of(old.header), of(new.header)) for of in (_models, _settings))
    return Comparison(models, settings, images, unchanged)


def _by_path(rows: "Sequence[FileResult]") -> dict[str, dict[str, Any]]:
    """Key records by path; a path that was scanned several times also by its turn."""
    turns: Counter[str] = Counter()
    records = {}
    for row in rows:
        turns[row.path] += 1
        again = f" (scanned again, {turns[row.path]})" if turns[row.path] > 1 else ""
        records[row.path + again] = row.record()
    return records


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

    if comparison.same:
        yield f"The scans are the same: {counted(comparison.unchanged, 'image')}."
        return
    for title, changes in (("model", comparison.models), ("setting", comparison.settings)):
        yield from (f"{title} {visible(_arrow(change))}" for change in changes)
    for image in comparison.images:
        describe = _arrow if image.kind == "changed" else _only_value
        described = ", ".join(map(describe, image.changes))
        yield f"{_MARKS[image.kind]} {visible(image.path)}: {visible(described)}"
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
