"""Compares two scans: what changed by image, in the models and in the settings."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from forensic_cli.commands import completing, one_of
from forensic_cli.console import print_json, print_text
from forensic_cli.errors import ExitCode
from forensic_cli.results_file import Results

TOLERANCE = 0.001
"""Probabilities that differ by no more count as the same; another batch size moves the sixth digit."""
_COMPARED = ("status", "headline", "verdict", "label", "candidates", "warnings", "sha256")
"""Fields of a row that must be equal."""
_PROBABILITIES = ("p_generated", "confidence")
"""Fields that may differ by the tolerance."""
_NOT_SETTINGS = ("models", "started", "command")
"""Fields of the run header that are no settings."""


@dataclass(frozen=True)
class Change:
    """One field that differs."""

    name: str
    """Of the field, the setting, or the model."""
    old: Any
    """None where there was none."""
    new: Any
    """None where there is none."""

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {"name": self.name, "old": self.old, "new": self.new}


@dataclass(frozen=True)
class ImageChange:
    """One image that differs."""

    path: str
    """As in the rows."""
    kind: str
    """added, removed or changed."""
    changes: tuple[Change, ...]
    """Which fields; of an added or removed one its headline and verdict, or its status where it has none."""

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {"path": self.path, "kind": self.kind, "changes": [one.record() for one in self.changes]}


@dataclass(frozen=True)
class Comparison:
    """What changed between two scans."""

    models: tuple[Change, ...]
    """By technique: the sha256 of its export."""
    settings: tuple[Change, ...]
    """Of the run header: threshold, batch size, versions, ..."""
    images: tuple[ImageChange, ...]
    """In the new scan's order, then what was removed."""
    unchanged: int
    """Images that are the same in both."""

    @property
    def same(self) -> bool:
        """Tell whether nothing differs."""
        return not (self.models or self.settings or self.images)

    @property
    def totals(self) -> dict[str, int]:
        """Return how many images were added, removed, changed, and how many changes each field saw."""
        kinds = Counter(one.kind for one in self.images)
        names = Counter(change.name for one in self.images if one.kind == "changed" for change in one.changes)
        counted = {name: kinds[name] for name in ("added", "removed", "changed")}
        return {**counted, "unchanged": self.unchanged, **{name: names[name] for name in (*_COMPARED, *_PROBABILITIES)}}

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "same": self.same,
            "totals": self.totals,
            "models": [one.record() for one in self.models],
            "settings": [one.record() for one in self.settings],
            "images": [one.record() for one in self.images],
        }


def compare(old: Results, new: Results, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two scans, image by image by the path in their rows."""
    before, after = _by_path(old.rows), _by_path(new.rows)
    images = [one for path, row in after.items() if (one := _image(path, before.get(path), row, tolerance))]
    images += [_only(path, "removed", row) for path, row in before.items() if path not in after]
    shared = sum(path in before for path in after)
    return Comparison(
        models=tuple(_changes(_models(old.header), _models(new.header))),
        settings=tuple(_changes(_settings(old.header), _settings(new.header))),
        images=tuple(images),
        unchanged=shared - sum(one.kind == "changed" for one in images),
    )


def _by_path(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Key rows by their path; a path that was scanned several times by its turn as well."""
    seen: Counter[str] = Counter()
    found = {}
    for row in rows:
        path = row["path"]
        seen[path] += 1
        found[path if seen[path] == 1 else f"{path} (scanned again, {seen[path]})"] = row
    return found


def _image(path: str, old: Mapping[str, Any] | None, new: Mapping[str, Any], tolerance: float) -> ImageChange | None:
    if old is None:
        return _only(path, "added", new)
    changes = [Change(name, old.get(name), new.get(name)) for name in _COMPARED if old.get(name) != new.get(name)]
    for name in _PROBABILITIES:
        a, b = old.get(name), new.get(name)
        if (a is None) != (b is None) or (a is not None and b is not None and round(abs(a - b), 9) > tolerance):
            changes.append(Change(name, a, b))
    return ImageChange(path, "changed", tuple(changes)) if changes else None


def _only(path: str, kind: str, row: Mapping[str, Any]) -> ImageChange:
    names = ("status",) if row.get("verdict") is None else ("headline", "verdict")
    values = ((name, row.get(name)) for name in names)
    return ImageChange(
        path, kind, tuple(Change(name, *((None, one) if kind == "added" else (one, None))) for name, one in values)
    )


def _models(header: Mapping[str, Any]) -> dict[str, Any]:
    models = [one for one in header.get("models") or () if isinstance(one, Mapping)]
    return {f"{one.get('recipe')} {one.get('technique')}": one.get("sha256") for one in models}


def _settings(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, nested ones by names with a dot."""
    found = {}
    for name, value in header.items():
        if isinstance(value, Mapping):
            found.update({f"{name}.{inner}": one for inner, one in value.items()})
        elif name == "providers" and isinstance(value, list):
            found[name] = sorted(set(map(str, value)))  # one a model, and the models are compared themselves
        elif name not in _NOT_SETTINGS:
            found[name] = value
    return found


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield Change(name, old.get(name), new.get(name))


_FORMATS = ("table", "json")
_SHORT = 12
"""Characters of a sha256 that the table shows."""


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="JSON Lines or JSON of a scan.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The same of another scan.")],
    tolerance: Annotated[
        float, typer.Option(metavar="N", min=0, max=1, help="Probabilities that differ by no more are the same.")
    ] = TOLERANCE,
    report_format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            metavar="|".join(_FORMATS),
            callback=one_of(_FORMATS),
            autocompletion=completing(_FORMATS),
            help="Format.",
        ),
    ] = "table",
    images_only: Annotated[
        bool, typer.Option("--images-only", help="Leave models, settings and versions out of account.")
    ] = False,
) -> None:
    """Compare two scans: images added, removed or judged otherwise, other models, other settings.

    Images are matched by their path. An image differs when its headline, verdict, label, candidates, status, warnings
    or sha256 do, or its p_generated or confidence by more than --tolerance.

    Examples:

        genforensic diff monday.jsonl friday.jsonl

        genforensic diff old.json new.json --tolerance 0.05 --format json

    Exit code: 0 the same, 12 different, 2 wrong use.
    """
    from dataclasses import replace

    from forensic_cli.results_file import load_results

    found = compare(load_results(old), load_results(new), tolerance)
    if images_only:
        found = replace(found, models=(), settings=())
    if report_format == "json":
        print_json(found.record())
    else:
        print_text("\n".join(_lines(found)))
    raise typer.Exit(ExitCode.DONE if found.same else ExitCode.DIFFERENT)


def _lines(found: "Comparison") -> Iterator[str]:
    from forensic_cli.reports.text import counted, visible

    if found.same:
        yield f"The scans are the same: {counted(found.unchanged, 'image')}."
        return
    for title, changes in (("model", found.models), ("setting", found.settings)):
        yield from (f"{title} {visible(_arrow(one))}" for one in changes)
    mark = {"added": "+", "removed": "-", "changed": "~"}
    for image in found.images:
        yield f"{mark[image.kind]} {visible(image.path)}: {visible(_said(image))}"
    totals = found.totals
    yield ", ".join(f"{totals[name]} {name}" for name in ("added", "removed", "changed", "unchanged"))
    fields = [f"{name} {count}" for name, count in list(totals.items())[4:] if count]
    if fields:
        yield f"changed: {', '.join(fields)}"


def _said(image: "ImageChange") -> str:
    if image.kind == "changed":
        return ", ".join(_arrow(change) for change in image.changes)
    return ", ".join(f"{one.name} {_value(one.new if one.old is None else one.old)}" for one in image.changes)


def _arrow(change: "Change") -> str:
    return f"{change.name} {_value(change.old)} -> {_value(change.new)}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "/".join(map(str, value)) or "none"
    text = "none" if value is None else str(value)
    return text[:_SHORT] if len(text) == 64 else text
