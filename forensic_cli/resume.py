"""Goes on where a stopped scan left its JSON Lines: keeps the rows that still hold, returns the files left to judge."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from forensic_cli.console import note
from forensic_cli.errors import OutputError, UsageError
from forensic_cli.images.header import Unreadable
from forensic_cli.judge import Seen
from forensic_cli.objects import Location
from forensic_cli.parts import RowStub, check_same_settings, other_files
from forensic_cli.pipeline import read_file
from forensic_cli.record import FileResult, RunHeader, Summary, printable, read_row
from forensic_cli.results_file import JSONL_RUN, LONGEST_LINE, json_object
from forensic_cli.seal import refuse_broken_seal

_HEADER = f'{{"{JSONL_RUN}": {{'.encode()
"""How a report begins."""
_FOREIGN = "not a JSON Lines report of genforensic; choose another --output"


@dataclass(frozen=True)
class Kept:
    """What stays of an earlier report."""

    length: int
    """Bytes of the report that stay: its header and whole rows; 0 starts over."""
    files: Iterator[Location]
    """Files left to judge, in order."""
    rows: int
    """Rows that stay."""
    seen: Seen
    """What these rows tell about the files left to judge."""


def keep_rows(path: Path, header: RunHeader, files: Iterator[Location], summary: Summary) -> Kept:
    """Compare a report with the files, row by row, and count the rows that stay.

    A row stays if the same path still has the same bytes. The first one that does not ends them, at the batch before
    it: a batch is judged as a whole, so the report comes out byte for byte as if nobody had stopped the scan. Memory
    does not grow with the report. Raises UsageError for a report of other models, settings or files, for one whose
    seal is broken, and for a file that is not such a report; OutputError for one that cannot be read.
    """
    nothing = Kept(0, files, 0, Seen(header.dedupe))
    try:
        with path.open("rb") as stream:
            first = stream.readline(LONGEST_LINE)
            if not first.endswith(b"\n"):
                if not _HEADER.startswith(first[: len(_HEADER)]):
                    raise UsageError(f"{path}: {_FOREIGN}")
                return nothing
            _check_header(path, first, header)
            kept = _keep(path, _rows(stream, len(first)), replace(nothing, length=len(first)), header, summary)
            refuse_broken_seal(path)
            return kept
    except FileNotFoundError:
        return nothing
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error


def kept_lines(path: Path, length: int) -> Iterator[bytes]:
    """Yield the lines in the first `length` bytes of a report."""
    with path.open("rb") as stream:
        while stream.tell() < length:
            yield stream.readline()


def _check_header(path: Path, line: bytes, header: RunHeader) -> None:
    before = json_object(line).get(JSONL_RUN)
    if not isinstance(before, dict):
        raise UsageError(f"{path}: {_FOREIGN}")
    check_same_settings(path, before, header)


def _rows(stream: BinaryIO, offset: int) -> Iterator[tuple[FileResult, int]]:
    """Yield whole rows and where each ends in the file; the first line that is not one ends them."""
    while (line := stream.readline(LONGEST_LINE)).endswith(b"\n"):
        offset += len(line)
        try:
            row = read_row(json_object(line))
        except msgspec.ValidationError:
            return
        yield row, offset


def _keep(path: Path, rows: Iterator[tuple[FileResult, int]], start: Kept, header: RunHeader, summary: Summary) -> Kept:
    files, end, kept = start.files, start.length, 0
    batch: list[tuple[Location, FileResult]] = []
    for row, offset in rows:
        file = next(files, None)
        if file is None or not holds(row, file):
            again = [earlier for earlier, _ in batch] + ([] if file is None else [file])
            if not kept and not batch and (file is None or row.path != printable(file)):
                raise other_files(path, row.path)
            dropped = len(batch) + 1 + sum(1 for _ in rows)
            note(f"{path}: {dropped} rows are judged again, from the first file that changed", "yellow")
            return Kept(end, chain(again, files), kept, start.seen)
        batch.append((file, row))
        if len(batch) == header.batch_size:
            kept, end = kept + _stay(batch, summary, start.seen), offset
            batch = []
    following = next(files, None)
    if following is None:  # the report is whole, its last batch too
        return Kept(offset if batch else end, files, kept + _stay(batch, summary, start.seen), start.seen)
    return Kept(end, chain([file for file, _ in batch], [following], files), kept, start.seen)


def _stay(batch: list[tuple[Location, FileResult]], summary: Summary, seen: Seen) -> int:
    """Count and remember the rows of a whole batch; returns how many they are."""
    for _, row in batch:
        summary.add(seen.mark(row))
    return len(batch)


def holds(row: FileResult | RowStub, file: Location) -> bool:
    """Tell whether a file is still what its row was made of. The verdict in the row is taken as it stands."""
    if row.path != printable(file):
        return False
    data = read_file(file)
    if isinstance(data, Unreadable):
        return (row.sha256, row.status, row.reason) == (None, data.status, data.reason)
    return row.sha256 == hashlib.sha256(data).hexdigest()
