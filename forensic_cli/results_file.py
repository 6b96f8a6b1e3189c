"""Reads results back: the run header, the rows, the summary and the seal of JSON Lines, a JSON document or Parquet.

A scan in parts leaves a folder: files of rows, and a manifest, itself sealed JSON Lines with a line for each part.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from forensic_cli.console import note
from forensic_cli.errors import UsageError, require
from forensic_cli.record import FileResult, RunHeader, Summary, is_nested, read_row, row_fields

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


MANIFEST = "manifest.jsonl"
"""Name of the list of parts in their folder."""
_PART_NAME = re.compile(r"part-(\d{6,})\.(jsonl|parquet)")
_PARQUET = b"PAR1"
"""How a Parquet file begins."""
_PARQUET_ROWS = 256
"""Rows of a Parquet file that are held at once."""


@dataclass(frozen=True)
class Part:
    """A file with some of the rows of a scan, as the manifest lists it."""

    part: str
    """Name of the file."""
    rows: int
    """How many rows are in it."""
    sha256: str
    """SHA-256 of the file, hexadecimal."""
    answers: Mapping[str, Mapping[str, int]]
    """{headline: {verdict: images}}."""
    statuses: Mapping[str, int]
    """{status other than ok: files}."""
    copies: int
    """Files with the same bytes as an earlier one, in this part or before it."""
    findings: int | None
    """Highest number of a group of near-duplicates; null unless --dedupe is set and something was judged."""

    def summary(self) -> Summary:
        """Return its totals."""
        totals = Summary(statuses=Counter(self.statuses), copies=self.copies, findings=self.findings)
        for headline, verdicts in self.answers.items():
            for verdict, count in verdicts.items():
                totals.headlines[headline] += count
                totals.verdicts[verdict] += count
                totals.answers[headline, verdict] += count
        return totals


@dataclass(frozen=True)
class _LeftOut:
    """The last line of a manifest before its seal."""

    left_out: int


@dataclass(frozen=True)
class Manifest:
    """What a scan that wrote parts says about them."""

    header: RunHeader
    """What judged the files."""
    parts: tuple[Part, ...]
    """In the scan's order."""
    left_out: int
    """Entries of the folders that are not images."""

    def summary(self) -> Summary:
        """Return the totals of all parts."""
        totals = Summary(left_out=self.left_out)
        for part in self.parts:
            totals.merge(part.summary())
        return totals


@dataclass
class Results:
    """The results of a scan, whose rows are read one at a time."""

    path: Path
    """Where they are."""
    header: RunHeader
    """What judged the files."""
    entries: Iterator[tuple[str, Any]]
    """What follows the header; see read_entries()."""
    quiet: bool = False
    """Whether to say nothing about a line that was cut off."""
    left_out: int | None = None
    """Entries of the folders that are not images; known after the last row, and None in JSON Lines."""

    def rows(self) -> Iterator[FileResult]:
        """Yield the rows in the scan's order, once. Raises UsageError for a line that is not a row.

        A last line that was cut off, as a scan that was stopped may leave it, is left out with a note.
        """
        number = 0
        for kind, value in self.entries:
            if kind == "row":
                number += 1
                yield _row(self.path, number, value)
            elif kind == SUMMARY and isinstance(value.get("left_out"), int):
                self.left_out = value["left_out"]
            elif kind == "cut" and not self.quiet:
                note(f"{self.path}: the last line is cut off and was left out", "yellow")


def open_results(path: Path, quiet: bool = False) -> Results:
    """Read the header of results. Raises UsageError for anything else, and for what cannot be read."""
    entries = read_entries(path)
    return Results(path, _header(path, next(entries)[1]), entries, quiet)


def read_entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (kind, JSON value): `header`, each `row`, and `summary`, `seal` or `cut`; a JSON document is read whole.

    A row is any line between header and seal, and None if it is not a JSON object. A folder of parts is read as if it
    were one file. Raises UsageError for what does not begin like results or cannot be read.
    """
    try:
        if path.is_dir():
            yield from _folder(path)
            return
        if not path.is_file():
            raise UsageError(f"{path}: {'not a file' if path.exists() else 'no such file'}; give {WANTED}")
        if is_parquet(path):
            yield from _parquet(path)
            return
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


def is_parquet(path: Path) -> bool:
    """Tell whether a file begins like Parquet. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(len(_PARQUET)) == _PARQUET


def read_manifest(folder: Path) -> Manifest:
    """Read what a scan that wrote parts says about them. Raises UsageError without such a manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        begun = bool(part_files(folder))
        problem = "has parts but no manifest: the scan was stopped; go on with --resume" if begun else "has no results"
        raise UsageError(f"{folder}: {problem}; give {WANTED}, or a folder of parts")
    entries = read_entries(path)
    header = _header(path, next(entries)[1])
    lines = [value for kind, value in entries if kind in ("row", "cut")]
    try:
        parts = [msgspec.convert(line, Part) for line in lines[:-1]]
        (last,) = msgspec.convert(lines[-1:], list[_LeftOut])
    except (msgspec.ValidationError, ValueError) as error:
        raise _unusable(path, "a line", error) from error
    numbers = [match and int(match[1]) for match in (_PART_NAME.fullmatch(part.part) for part in parts)]
    if not parts or numbers != list(range(len(parts))):
        raise UsageError(f"{path}: does not list parts one after another; see `genforensic verify`")
    return Manifest(header, tuple(parts), last.left_out)


def part_files(folder: Path) -> list[Path]:
    """Return the files in a folder that have the name of a part, in order; all others are left alone."""
    return sorted(path for path in folder.glob("part-*") if _PART_NAME.fullmatch(path.name) and path.is_file())


def _folder(folder: Path) -> Iterator[tuple[str, Any]]:
    manifest = read_manifest(folder)
    yield "header", manifest.header.record()
    for part in manifest.parts:
        path = folder / part.part
        if not path.is_file():
            raise UsageError(f"{folder}: its part {part.part} is gone; see `genforensic verify`")
        yield from (entry for entry in read_entries(path) if entry[0] == "row")
    yield SUMMARY, manifest.summary().record()


def _parquet(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the header, the rows and the summary of a Parquet file; nested values are JSON text there."""
    require(("pyarrow", "pyarrow.parquet"), "parquet", str(path))
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            about = file.metadata.metadata or {}
            header = json_object(about.get(JSONL_RUN.encode(), b""))
            if not header:
                raise UsageError(f"{path}: not the results of a scan; give {WANTED}")
            yield "header", header
            kinds = row_fields()
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    yield "row", {name: _from_column(kinds.get(name), value) for name, value in row.items()}
            yield SUMMARY, json_object(about.get(SUMMARY.encode(), b""))
    except (pyarrow.ArrowException, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({str(error).splitlines()[0]}); give {WANTED}") from error


def _from_column(kind: Any, value: Any) -> Any:
    """Return a field of a record from its column; see reports.columns.ParquetReport."""
    if value is not None and kind == Mapping[str, float]:
        return dict(value)
    return msgspec.json.decode(value) if isinstance(value, str) and is_nested(kind) else value


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


def _unusable(path: Path, where: str, error: Exception) -> UsageError:
    return UsageError(f"{path}: {where} cannot be read ({error}); give {WANTED}, and see `genforensic verify`")
