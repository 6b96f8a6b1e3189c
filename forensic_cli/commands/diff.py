"""`genforensic diff`: what changed between two scans."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forensic_cli.commands import completing, one_of
from forensic_cli.compare import TOLERANCE
from forensic_cli.errors import ExitCode
from forensic_cli.output import print_json, print_text

if TYPE_CHECKING:
    from forensic_cli.compare import Change, Comparison, ImageChange

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

    from forensic_cli.compare import compare
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
    from forensic_cli.reports.table import counted, visible

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
