"""Reads a results file back: the run header, the rows, the summary and the seal of JSON Lines or a JSON document."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.record import FileResult, RunHeader, read_row

RUN, FILES, SUMMARY, SEAL = "run", "files", "summary", "seal"
"""Keys of a JSON document, in their order."""
JSONL_RUN = "genforensic"
"""Key of the run header in JSON Lines."""
WANTED = "what `genforensic scan --output FILE.jsonl` wrote"
"""What a command that reads results asks for."""
LONGEST_LINE = 1 << 24
"""Bytes; a longer line is not a row."""
_LARGEST_DOCUMENT = 1 << 31
"""Bytes of a JSON document, which is read whole; JSON Lines have no limit."""


@dataclass(frozen=True)
class Results:
    """A results file in memory."""

    header: RunHeader
    """What judged the files."""
    rows: tuple[FileResult, ...]
    """In the scan's order."""
    left_out: int | None
    """Entries of the folders that are not images; None in JSON Lines, which have no summary."""


def load_results(path: Path) -> Results:
    """Read a results file whole. Raises UsageError for a file that is not one, or has a line that is not a row.

    A last line that was cut off, as a scan that was stopped may leave it, is left out with a note.
    """
    parts = read_parts(path)
    header = _header(path, next(parts)[1])
    rows: list[FileResult] = []
    left_out = None
    for kind, value in parts:
        if kind == "row":
            rows.append(_row(path, len(rows) + 1, value))
        elif kind == SUMMARY:
            left_out = value.get("left_out")
        elif kind == "cut":
            note(f"{path}: the last line is cut off and was left out", "yellow")
    return Results(header, tuple(rows), left_out if isinstance(left_out, int) else None)


def read_parts(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (kind, JSON value): `header`, each `row`, and `summary`, `seal` or `cut`; JSON Lines one at a time.

    A row is any line between header and seal, and None if it is not a JSON object. Raises UsageError for a file that
    does not begin like results or cannot be read.
    """
    try:
        if not path.is_file():
            raise UsageError(f"{path}: {'not a file' if path.exists() else 'no such file'}; give {WANTED}")
        with path.open("rb") as stream:
            header = json_object(stream.readline(LONGEST_LINE)).get(JSONL_RUN)
            if isinstance(header, dict):
                yield "header", header
                yield from _lines(stream)
            else:
                stream.seek(0)
                yield from _document(path, stream.read(_LARGEST_DOCUMENT))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error


def _lines(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    while line := stream.readline(LONGEST_LINE):
        value = json_object(line)
        if set(value) == {SEAL}:
            yield SEAL, value[SEAL]
        elif not line.endswith(b"\n") and len(line) < LONGEST_LINE:
            yield "cut", None
        else:
            yield "row", value or None


def _document(path: Path, data: bytes) -> Iterator[tuple[str, Any]]:
    document = json_object(data)
    run, files = document.get(RUN), document.get(FILES)
    if not isinstance(run, dict) or not isinstance(files, list):
        begun = data.lstrip().startswith((b'{"run": ', b'{"genforensic": '))
        problem = "ends too early, as a scan that was stopped leaves it" if begun else "not the results of a scan"
        raise UsageError(f"{path}: {problem}; give {WANTED}")
    yield "header", run
    yield from (("row", row) for row in files)
    yield from ((kind, document[kind]) for kind in (SUMMARY, SEAL) if isinstance(document.get(kind), dict))


def json_object(text: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one for any other bytes."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _row(path: Path, number: int, value: Any) -> FileResult:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: row {number} is not a record; give {WANTED}, and see `genforensic verify`")
    try:
        return read_row(value)
    except msgspec.ValidationError as error:
        raise _unusable(path, f"row {number}", error) from error


def _header(path: Path, value: Any) -> RunHeader:
    try:
        header = msgspec.convert(value, RunHeader)
    except msgspec.ValidationError as error:
        raise _unusable(path, "the run header", error) from error
    if not header.models or not all(model.labels for model in header.models):
        raise UsageError(f"{path}: the run header names no models; give {WANTED}")
    return header


def _unusable(path: Path, where: str, error: msgspec.ValidationError) -> UsageError:
    return UsageError(f"{path}: {where} cannot be read ({error}); give {WANTED}, and see `genforensic verify`")
