"""Goes on where a stopped scan left its JSON Lines: keeps the rows that still hold, gives back the files to judge."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from forensic_cli.console import note
from forensic_cli.copies import Seen
from forensic_cli.errors import OutputError, UsageError
from forensic_cli.images.header import Unreadable
from forensic_cli.pipeline import read_file
from forensic_cli.record import FileResult, RunHeader, Summary, printable, read_row
from forensic_cli.results_file import LONGEST_LINE, is_row

_MAY_DIFFER = ("started", "command")
"""Fields of the run header that may differ between a scan and what goes on with it."""
_HEADER = b'{"genforensic": {'
"""How a report begins."""
_PHASH = re.compile("[0-9a-f]{16}")
_FOREIGN = "not a JSON Lines report of genforensic; choose another --output"


@dataclass(frozen=True)
class Kept:
    """What of an earlier report stays."""

    length: int
    """Bytes of the report that stay: its header and whole rows; 0 starts anew."""
    files: Iterator[Path]
    """Files that are still to be judged, in order."""
    rows: int
    """Rows that stay."""
    seen: Seen
    """What these rows tell of the files that are still to be judged."""


def keep_rows(path: Path, header: RunHeader, files: Iterator[Path], summary: Summary) -> Kept:
    """Compare a report with the files, row by row, and count the rows that stay.

    A row stays where the same path has the same bytes. The first one that differs ends them, at the batch before it: a
    batch is judged as a whole, so that the report is byte for byte what a scan that nobody stopped would have
    written. What is known of copies and findings is that of the rows that stay. Memory does not grow with the report.
    Raises UsageError for a report of other models, settings or files, and for a file that is no such report;
    OutputError for one that cannot be read.
    """
    try:
        with path.open("rb") as stream:
            first = stream.readline(LONGEST_LINE)
            if not first.endswith(b"\n"):
                if first and not _begins_like_a_header(first):
                    raise UsageError(f"{path}: {_FOREIGN}")
                return Kept(0, files, 0, Seen.nothing(header.dedupe))
            _check_header(path, first, header)
            return _keep(path, _rows(stream, len(first)), len(first), header, files, summary)
    except FileNotFoundError:
        return Kept(0, files, 0, Seen.nothing(header.dedupe))
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error


def kept_lines(path: Path, length: int) -> Iterator[bytes]:
    """Yield the lines in the first `length` bytes of a report, without their newlines."""
    with path.open("rb") as stream:
        while stream.tell() < length:
            yield stream.readline().removesuffix(b"\n")


def _begins_like_a_header(line: bytes) -> bool:
    return line.startswith(_HEADER[: len(line)])


def _check_header(path: Path, line: bytes, header: RunHeader) -> None:
    try:
        before = dict(json.loads(line)["genforensic"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path}: {_FOREIGN}") from error
    now = json.loads(json.dumps(header.record()))
    changed = [name for name in now if name not in _MAY_DIFFER and before.get(name) != now[name]]
    if changed:
        raise UsageError(
            f"{path}: was begun with other {', '.join(changed)}; give the same options and models, "
            "choose another --output, or begin again with --force and without --resume"
        )


def _rows(stream: BinaryIO, offset: int) -> Iterator[tuple[FileResult, int]]:
    """Yield whole rows and where each ends in the file; the first line that is none ends them."""
    while (line := stream.readline(LONGEST_LINE)).endswith(b"\n"):
        offset += len(line)
        try:
            record = json.loads(line)
            if not _is_judged(record):
                return
            row = read_row(record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        yield row, offset


def _is_judged(row: Any) -> bool:
    """Tell whether a record has the fields that later files depend on as well."""
    return (
        is_row(row)
        and isinstance(row["duplicate_of"], str | None)
        and isinstance(row["cluster"], int | None)
        and (row["phash"] is None or bool(_PHASH.fullmatch(row["phash"])))
    )


def _keep(
    path: Path,
    rows: Iterator[tuple[FileResult, int]],
    start: int,
    header: RunHeader,
    files: Iterator[Path],
    summary: Summary,
) -> Kept:
    kept, end, seen = 0, start, Seen.nothing(header.dedupe)
    batch: list[tuple[Path, FileResult]] = []
    for row, offset in rows:
        file = next(files, None)
        if file is None or not _holds(row, file):
            again = [one for one, _ in batch] + ([] if file is None else [file])
            if not kept and not batch and (file is None or row.path != printable(file)):
                raise UsageError(
                    f"{path}: holds rows of other files, the first of {row.path}; give the same paths, "
                    "choose another --output, or begin again with --force and without --resume"
                )
            dropped = len(batch) + 1 + sum(1 for _ in rows)
            note(f"{path}: {dropped} rows are made again, from the first file that changed", "yellow")
            return Kept(end, chain(again, files), kept, seen)
        batch.append((file, row))
        if len(batch) == header.batch_size:
            kept, end = kept + _stay(batch, summary, seen), offset
            batch = []
    following = next(files, None)
    if following is None:  # the report is whole, its last batch too
        return Kept(offset if batch else end, files, kept + _stay(batch, summary, seen), seen)
    return Kept(end, chain([one for one, _ in batch], [following], files), kept, seen)


def _stay(batch: list[tuple[Path, FileResult]], summary: Summary, seen: Seen) -> int:
    """Count the rows of a whole batch and remember them; returns how many they are."""
    for _, row in batch:
        summary.add(row)
        seen.replay(row)
    return len(batch)


def _holds(row: FileResult, file: Path) -> bool:
    """Tell whether a file is still what a row was made of. The verdict in the row is taken as it stands."""
    if row.path != printable(file):
        return False
    data = read_file(file)
    if isinstance(data, Unreadable):
        return (row.sha256, row.status, row.reason) == (None, data.status, data.reason)
    return row.sha256 == hashlib.sha256(data).hexdigest()
