"""Reads a results file of a scan back, JSON Lines or JSON: run header, rows, summary and seal, as they stand there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from forensic_cli.errors import UsageError

SEAL = "seal"
"""Key of the seal in a results file."""
LONGEST_LINE = 1 << 24
"""Bytes; a longer line is no row."""
_LARGEST_DOCUMENT = 1 << 31
"""Bytes of a JSON document, which is read whole; JSON Lines have no limit."""
_RUN = "genforensic"
"""Key of the run header in JSON Lines."""


@dataclass(frozen=True)
class Entry:
    """One part of a results file, in the file's order."""

    kind: Literal["header", "row", "summary", "seal", "odd", "cut", "foreign"]
    """odd: a line that is no JSON object, or none of the others. cut: a last line without its end. foreign: a key of a
    JSON document that no scan writes; the text is its name."""
    text: bytes
    """What the seal was made of: the line without its newline, or a JSON document's element as a scan writes it."""
    record: Mapping[str, Any]
    """What it says; empty where it is odd."""
    number: int
    """Of a row: the first is 1. Of an odd line: its line."""


@dataclass(frozen=True)
class Results:
    """A whole results file in memory."""

    path: Path
    """The file."""
    header: Mapping[str, Any]
    """The run header; see results.RunHeader."""
    rows: tuple[Mapping[str, Any], ...]
    """Evidence records; see results.FileResult."""
    summary: Mapping[str, Any] | None
    """The totals, which JSON has and JSON Lines have not."""
    seal: Mapping[str, Any] | None
    """None: the scan was stopped, or is older than seals."""


def load_results(path: Path) -> Results:
    """Read a results file whole; odd lines are left out. Raises UsageError for a file that is none."""
    header: Mapping[str, Any] = {}
    parts: dict[str, Mapping[str, Any]] = {}
    rows = []
    for entry in read_entries(path):
        if entry.kind == "header":
            header = entry.record
        elif entry.kind == "row":
            rows.append(entry.record)
        else:
            parts[entry.kind] = entry.record
    return Results(path, header, tuple(rows), parts.get("summary"), parts.get("seal"))


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the parts of a results file, JSON Lines without holding them all.

    The first one is the header. Raises UsageError for a file that is no results file or cannot be read.
    """
    try:
        if not path.is_file():
            raise UsageError(f"{path}: {'is no file' if path.exists() else 'no such file'}; give {WANTED}")
        with path.open("rb") as stream:
            first = stream.readline(LONGEST_LINE)
            header = _object(first).get(_RUN)
            stream.seek(0)
            yield from _lines(stream) if isinstance(header, dict) else _document(path, stream)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


WANTED = "what `genforensic scan --output FILE.jsonl` wrote"
"""What a command that reads results asks for."""


def is_row(record: Any) -> bool:
    """Tell whether a JSON value is an evidence record, by the fields that every reader relies on."""
    return (
        isinstance(record, dict)
        and all(isinstance(record.get(name), str) for name in ("path", "status"))
        and all(
            isinstance(record.get(name), str | None) for name in ("reason", "sha256", "headline", "verdict", "label")
        )
        and all(isinstance(record.get(name), int | float | None) for name in ("p_generated", "confidence", "agreement"))
        and all(isinstance(record.get(name), list | None) for name in ("warnings", "candidates"))
        and _are_scores(record.get("scores"))
        and _are_predictions(record.get("techniques"))
    )


def _are_scores(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(isinstance(one, int | float) for one in value.values()))


def _are_predictions(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and all(
            isinstance(one, dict)
            and isinstance(one.get("confidence"), int | float | None)
            and _are_scores(one.get("scores"))
            for one in value.values()
        )
    )


def _lines(stream: BinaryIO) -> Iterator[Entry]:
    rows = 0
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        whole = line.endswith(b"\n")
        text = line[:-1] if whole else line
        record = _object(text) if whole else {}
        if number == 1:
            yield Entry("header", text, record[_RUN], number)
        elif not whole and _skip_line(stream):  # other readers may see a row in it, or several
            yield Entry("odd", text, {}, number)
        elif not whole:
            yield Entry("cut", text, {}, number)
        elif set(record) == {SEAL} and isinstance(record[SEAL], dict):
            yield Entry("seal", text, record[SEAL], number)
        elif is_row(record):
            rows += 1
            yield Entry("row", text, record, rows)
        else:
            yield Entry("odd", text, {}, number)


def _skip_line(stream: BinaryIO) -> bool:
    """Read on to the end of a line; tells whether there was more of it."""
    first = chunk = stream.readline(LONGEST_LINE)
    while chunk and not chunk.endswith(b"\n"):
        chunk = stream.readline(LONGEST_LINE)
    return bool(first)


def _document(path: Path, stream: BinaryIO) -> Iterator[Entry]:
    data = stream.read(_LARGEST_DOCUMENT)
    document = _object(data)
    run, files = document.get("run"), document.get("files")
    if not isinstance(run, dict) or not isinstance(files, list):
        begun = data.lstrip().startswith((b'{"run": ', b'{"genforensic": '))
        why = "ends too early, as a scan that was stopped leaves it" if begun else "no results of a scan"
        raise UsageError(f"{path}: {why}; give {WANTED}")
    yield Entry("header", _text(run), run, 0)
    for number, row in enumerate(files, 1):
        yield Entry("row", _text(row), row, number) if is_row(row) else Entry("odd", _text(row), {}, number)
    for name in document:
        if name not in ("run", "files", "summary", SEAL):
            yield Entry("foreign", name.encode("utf-8", "backslashreplace"), {}, 0)
    for kind in ("summary", "seal"):
        if isinstance(part := document.get(kind), dict):
            yield Entry("summary" if kind == "summary" else "seal", _text(part), part, 0)


def _object(text: bytes) -> dict[str, Any]:
    """Return a JSON object, or nothing for any other bytes."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # two readers could see two different rows in it
        raise ValueError("a name stands twice in one object")
    return found


def _text(part: Any) -> bytes:
    return json.dumps(part, ensure_ascii=False).encode("utf-8", "backslashreplace")
