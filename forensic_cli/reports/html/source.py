"""What a page is made of: the header and rows of an earlier scan's results, once every field has the right shape."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.reports.text import visible
from forensic_cli.results_file import WANTED, read_entries

Row: TypeAlias = Mapping[str, Any]
"""One evidence record, as FileResult.record() writes it; fields that are not known here come along unread."""


@dataclass(frozen=True)
class Results:
    """What a scan wrote, in memory."""

    run: Mapping[str, Any]
    """The run header, as RunHeader.record() writes it."""
    rows: Sequence[Row]
    """In the scan's order."""
    left_out: int | None
    """Entries of the folders that are not images; None where the file does not say."""
    sha256: str
    """Of the results file, hexadecimal."""


def read_results(path: Path) -> Results:
    """Read the results of a scan. Raises UsageError for a file that holds none, and for rows that a page cannot show.

    A last line that was cut, as a scan that was stopped may leave it, is left out with a note.
    """
    header, *entries = read_entries(path)
    rows = [_checked(path, f"row {one.number}", one.record, _ROW) for one in entries if one.kind == "row"]
    for one in entries:
        if one.kind == "odd":
            raise UsageError(f"{path}: line {one.number} is no row that can be read; give {WANTED}")
        if one.kind == "cut":
            note(f"{path}: the last line is cut and was left out", "yellow")
    left_out = next((one.record.get("left_out") for one in entries if one.kind == "summary"), None)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    run = _checked(path, "the header", header.record, _RUN)
    return Results(run, rows, left_out if _count(left_out) else None, digest)


Shape: TypeAlias = Callable[[Any], bool]


def _checked(path: Path, where: str, value: Any, shape: Mapping[str, Shape]) -> Row:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {where} is no record; give {WANTED}")
    wrong = next((name for name, fits in shape.items() if not fits(value.get(name))), None)
    if wrong is not None:
        shown = visible(json.dumps(value.get(wrong), ensure_ascii=False)[:60])
        raise UsageError(f"{path}: {where} has no usable {wrong} ({shown}); give {WANTED}")
    return value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return _list(_text)(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _maybe(fits: Shape) -> Shape:
    return lambda value: value is None or fits(value)


def _each(fits: Shape) -> Shape:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _list(fits: Shape) -> Shape:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _record(shape: Mapping[str, Shape]) -> Shape:
    return lambda value: isinstance(value, dict) and all(fits(value.get(name)) for name, fits in shape.items())


_PREDICTION = {
    "label": _text,
    "confidence": _number,
    "p_generated": _maybe(_number),
    "scores": _numbers,
    "candidates": _maybe(_texts),
    "log10_lr": _maybe(_numbers),
}
_STABILITY = {"lowest": _number, "highest": _number, "flips": _each(_text), "reencodings": _texts}
_MODEL = {
    "name": _text,
    "technique": _text,
    "sha256": _text,
    "labels": _texts,
    "file": _maybe(_text),
    "validation": _maybe(_text),
}
_ROW: Mapping[str, Shape] = {
    "path": _text,
    "status": _text,
    "reason": _maybe(_text),
    "headline": _maybe(_text),
    "p_generated": _maybe(_number),
    "generated_log10_lr": _maybe(_number),
    "strength": _maybe(_text),
    "state": _maybe(_text),
    "verdict": _maybe(_text),
    "label": _maybe(_text),
    "confidence": _maybe(_number),
    "agreement": _maybe(_number),
    "candidates": _maybe(_texts),
    "scores": _maybe(_numbers),
    "log10_lr": _maybe(_numbers),
    "techniques": _maybe(_each(_record(_PREDICTION))),
    "stability": _maybe(_record(_STABILITY)),
    "sha256": _maybe(_text),
    "bytes": _maybe(_count),
    "format": _maybe(_text),
    "width": _maybe(_count),
    "height": _maybe(_count),
    "views": _maybe(_count),
    "warnings": _maybe(_texts),
    "duplicate_of": _maybe(_text),
    "cluster": _maybe(_count),
    "phash": _maybe(_text),
    "metadata": _maybe(_list(_record({"source": _text, "claim": _text, "value": _text}))),
}
_RUN: Mapping[str, Shape] = {
    "version": _text,
    "models": lambda value: isinstance(value, list) and bool(value) and all(map(_record(_MODEL), value)),
    "providers": _texts,
    "onnxruntime": _text,
    "ensemble": _maybe(_text),
    "threshold": _maybe(_number),
    "started": _text,
    "reencodings": _maybe(_texts),
    "max_pixels": _maybe(_count),
    "dedupe": _maybe(_count),
}
