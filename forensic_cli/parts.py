"""Results in parts: writes the files of a folder and its manifest, and finds the parts of a scan that was stopped.

Each part is a whole report of some rows, so it can be read alone. The manifest is sealed JSON Lines: the run header, a
line for each part with its hash and totals, and the number of entries that were left out.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from forensic_cli.console import Output, already_there
from forensic_cli.errors import OutputError, UsageError
from forensic_cli.judge import Marks
from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.reports import make_report
from forensic_cli.reports.json_formats import JsonLinesReport
from forensic_cli.results_file import MANIFEST, Part, open_results, part_files, read_entries
from forensic_cli.seal import check_results, file_sha256, refuse_broken_seal

FORMATS = ("jsonl", "parquet")
"""Formats that parts may have."""
_UNFINISHED = f".{MANIFEST}"
"""The manifest until the scan is done; its lock keeps a second scan out of the folder."""

Key: TypeAlias = tuple[str, str | None, str | None]
"""Of a row: path, sha256 and phash, which tell copies and near-duplicates."""


def part_name(number: int, report_format: str) -> str:
    """Return the name of the n-th part, from 0; names sort like numbers up to a million of them."""
    return f"part-{number:06d}.{report_format}"


def write_part(path: Path, header: RunHeader, rows: Iterable[FileResult]) -> Part:
    """Write rows to a file that appears when it is whole. Raises OutputError."""
    report, summary, count = make_report(path.suffix[1:], quiet=True), Summary(), 0
    temporary = path.with_name(f".{path.name}")
    try:
        with Output(temporary, force=True, unfinished="all parts before it are whole") as out:
            out.write(report.begin(header))
            for row in rows:
                summary.add(row)
                count += 1
                out.write(report.row(row))
            out.write(report.end(summary))
        part = _describe(temporary, path.name, count, summary)
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); all parts before it are whole") from error
    finally:
        temporary.unlink(missing_ok=True)
    return part


def _describe(path: Path, name: str, rows: int, summary: Summary) -> Part:
    answers: dict[str, dict[str, int]] = {}
    for (headline, verdict), count in sorted(summary.answers.items()):
        answers.setdefault(headline, {})[verdict] = count
    statuses = dict(sorted(summary.statuses.items()))
    return Part(name, rows, file_sha256(path) or "", answers, statuses, summary.copies, summary.findings)


class RowStub(NamedTuple):
    """What a row of an earlier scan is compared by."""

    path: str
    status: str
    reason: str | None
    sha256: str | None
    phash: str | None
    duplicate_of: str | None
    cluster: int | None

    @property
    def marks(self) -> Marks:
        """The marks that it has."""
        return self.duplicate_of, self.cluster


def key_of(row: FileResult | RowStub) -> Key:
    """Return what marks of copies depend on."""
    return row.path, row.sha256, row.phash


@dataclass(frozen=True)
class EarlierPart:
    """A part that an earlier scan of the same files left."""

    part: Part
    """Its line of the manifest."""
    rows: Sequence[RowStub]
    """Its rows."""


def read_earlier(path: Path, header: RunHeader, known: Mapping[str, str]) -> EarlierPart | None:
    """Read a part of an earlier scan; None if there is none, or if it is damaged, edited or was made by another scan.

    `known`: the hashes in that scan's manifest. A part that is not there must hold by its own seal.
    """
    try:
        if known.get(path.name) != file_sha256(path) and (path.name in known or check_results(path).faults):
            return None
        before = open_results(path)
        if header.differences(before.header.record()):
            return None
        summary, stubs = Summary(), []
        for row in before.rows():
            summary.add(row)
            stubs.append(RowStub(*(getattr(row, name) for name in RowStub._fields)))
        return EarlierPart(_describe(path, path.name, len(stubs), summary), stubs)
    except UsageError:
        return None


def check_folder(folder: Path, force: bool, resume: bool) -> None:
    """Raise UsageError for a folder that cannot take parts, without changing it.

    With `resume` it may have parts, unless the seal of their manifest does not hold; with `force` anything.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: --engine ray writes a folder of parts, and this is a file")
    if resume and (folder / MANIFEST).is_file():
        refuse_broken_seal(folder)
    elif not resume and not force and (part_files(folder) or (folder / MANIFEST).exists()):
        raise already_there(folder)


def check_same_scan(folder: Path, header: RunHeader, first: str) -> None:
    """Raise UsageError if the parts in a folder are of other models, settings or files than the scan that goes on.

    `first`: path in the first row.
    """
    for path in part_files(folder)[:1]:
        try:
            before = open_results(path, quiet=True)
            row = next(before.rows(), None)
        except UsageError:
            continue  # damaged: it is judged again
        check_same_settings(folder, before.header.record(), header)
        if path.name.startswith(part_name(0, "")) and row is not None and row.path != first:
            raise other_files(folder, row.path)


def check_same_settings(path: Path, before: Mapping[str, Any], header: RunHeader) -> None:
    """Raise UsageError if a record of a run header differs from another in what rows depend on."""
    if changed := header.differences(before):
        raise UsageError(
            f"{path}: was begun with other {', '.join(changed)}; give the same options and models, "
            "choose another --output, or start over with --force and without --resume"
        )


def other_files(path: Path, first: str) -> UsageError:
    """Return the error for results whose first row is not of the scan that goes on."""
    return UsageError(
        f"{path}: holds rows of other files, the first of {first}; give the same paths, "
        "choose another --output, or start over with --force and without --resume"
    )


def remove_parts(folder: Path, keep: Set[str] = frozenset()) -> None:
    """Remove the parts that are not among `keep`."""
    for path in part_files(folder):
        if path.name not in keep:
            path.unlink()


def known_hashes(folder: Path) -> dict[str, str]:
    """Return {part: SHA-256} from the manifest in a folder, finished or not."""
    hashes = {}
    for path in (folder / _UNFINISHED, folder / MANIFEST):
        with suppress(UsageError):
            for kind, line in read_entries(path):
                if kind == "row" and isinstance(line, dict) and "part" in line:
                    hashes[str(line["part"])] = str(line.get("sha256"))
    return hashes


class ManifestWriter:
    """Writes the manifest of a folder, which appears when the scan is done."""

    def __init__(self, folder: Path, header: RunHeader) -> None:
        """Open it, and remove a finished one. Raises OutputError, also if another scan writes into the folder."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
        self._out = Output(folder / _UNFINISHED, force=True, unfinished="all parts before it are whole")
        self._report = JsonLinesReport()
        self._out.write(self._report.begin(header))
        (folder / MANIFEST).unlink(missing_ok=True)

    def add(self, part: Part) -> None:
        """Append a part."""
        self._out.write(self._report.line(asdict(part)))

    def finish(self, summary: Summary) -> None:
        """Append what is not in the parts, and the seal."""
        self._out.write(self._report.line({"left_out": summary.left_out}))
        self._out.write(self._report.end(summary))
        (self._folder / _UNFINISHED).replace(self._folder / MANIFEST)

    def close(self) -> None:
        """Let go of the folder; without finish() the unfinished manifest stays behind."""
        self._out.__exit__()
