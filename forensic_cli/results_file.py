"""Reads the results of an earlier scan back, from JSON Lines or JSON: a header and rows that have the right shape."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.reports.table import visible

Row: TypeAlias = Mapping[str, Any]
"""One evidence record, as FileResult.record() writes it; fields that are not known here come along unread."""

_WANTED = "give the .jsonl or .json file of `genforensic scan`"


@dataclass(frozen=True)
class Results:
    """What a scan wrote, whose rows are read while they are asked for."""

    run: Mapping[str, Any]
    """The run header, as RunHeader.record() writes it."""
    rows: Iterator[Row]
    """In the scan's order, once. Raises UsageError where a row has not the shape of one."""
    left_out: int | None
    """Entries of the folders that are not images; None where the file does not say."""
    sha256: str
    """Of the results file, hexadecimal."""


def read_results(path: Path) -> Results:
    """Open the results of a scan. Raises UsageError for a file that holds none.

    A last line that was cut, as a scan that was stopped may leave it, is left out with a note.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {_WANTED}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not text; {_WANTED}") from error
    digest = hashlib.sha256(data).hexdigest()
    if text.startswith('{"genforensic"'):
        *lines, last = text.split("\n")
        if not lines:
            raise UsageError(f"{path}: the header is cut; {_WANTED}")
        if last:
            note(f"{path}: the last line is cut and was left out", "yellow")
        run = _parse(path, 1, lines[0])["genforensic"]
        found = ((number, _parse(path, number, line)) for number, line in enumerate(lines[1:], 2))
        return Results(_checked(path, "the header", run, _RUN), _rows(path, "line", found), None, digest)
    document = _parse(path, 1, text)
    if not (isinstance(document, dict) and isinstance(document.get("files"), list) and "run" in document):
        raise UsageError(f"{path}: no results of a scan; {_WANTED}")
    summary = document.get("summary")
    left_out = summary.get("left_out") if isinstance(summary, dict) and _count(summary.get("left_out")) else None
    rows = _rows(path, "file", enumerate(document["files"], 1))
    return Results(_checked(path, "the header", document["run"], _RUN), rows, left_out, digest)


def _rows(path: Path, unit: str, found: Iterator[tuple[int, Any]]) -> Iterator[Row]:
    for number, row in found:
        yield _checked(path, f"{unit} {number}", row, _ROW)


def _parse(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: line {line} is no JSON; {_WANTED}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


Shape: TypeAlias = Callable[[Any], bool]


def _checked(path: Path, where: str, value: Any, shape: Mapping[str, Shape]) -> Row:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {where} is no record; {_WANTED}")
    wrong = next((name for name, fits in shape.items() if not fits(value.get(name))), None)
    if wrong is not None:
        shown = visible(json.dumps(value.get(wrong), ensure_ascii=False)[:60])
        raise UsageError(f"{path}: {where} has no usable {wrong} ({shown}); {_WANTED}")
    return value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _maybe(fits: Shape) -> Shape:
    return lambda value: value is None or fits(value)


def _each(fits: Shape) -> Shape:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


def _record(shape: Mapping[str, Shape]) -> Shape:
    return lambda value: isinstance(value, dict) and all(fits(value.get(name)) for name, fits in shape.items())


_PREDICTION = {
    "label": _text,
    "confidence": _number,
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
}
_RUN: Mapping[str, Shape] = {
    "version": _text,
    "models": lambda value: isinstance(value, list) and bool(value) and all(map(_record(_MODEL), value)),
    "providers": _texts,
    "onnxruntime": _text,
    "ensemble": _maybe(_text),
    "threshold": _number,
    "coverage": _maybe(_number),
    "started": _text,
    "reencodings": _maybe(_texts),
    "max_pixels": _maybe(_count),
}
