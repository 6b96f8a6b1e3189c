"""Report formats, and which rows a report shows. A new format is a subclass of Report, named in REPORTS.

A report is a stream: it turns the header, each row and the summary into text (or bytes) as soon as they are known, so a
scan of any size needs no more memory than one row, and an interrupted scan leaves what was done.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from forensic_cli.card import GENERATED, INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN
from forensic_cli.errors import UsageError
from forensic_cli.record import FileResult, RunHeader, Summary


class Report(ABC):
    """One format. Each method returns what to append to the output: text, or the bytes of a binary format."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        """`colour`: use terminal colours. `quiet`: show no progress bar of its own."""
        self.colour, self.quiet = colour, quiet

    @abstractmethod
    def begin(self, header: RunHeader) -> str | bytes:
        """Return what comes before the rows."""

    @abstractmethod
    def row(self, result: FileResult) -> str | bytes:
        """Return one row, ending in a newline if rows are lines."""

    def end(self, summary: Summary) -> str | bytes:
        """Return what comes after the rows."""
        del summary
        return ""


REPORTS = {
    "table": "forensic_cli.reports.text:TableReport",
    "jsonl": "forensic_cli.reports.json_formats:JsonLinesReport",
    "json": "forensic_cli.reports.json_formats:JsonReport",
    "csv": "forensic_cli.reports.columns:CsvReport",
    "sarif": "forensic_cli.reports.json_formats:SarifReport",
    "parquet": "forensic_cli.reports.columns:ParquetReport",
    "html": "forensic_cli.reports.html:HtmlReport",
}
"""Every format by its name on the command line; imported when it is used."""

ROW_BY_ROW = ("table", "jsonl", "csv")
"""Formats whose rows are useful before the report ends, or without its end."""
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".sarif.json": "sarif",
    ".json": "json",
    ".csv": "csv",
    ".html": "html",
    ".sarif": "sarif",
    ".parquet": "parquet",
}
"""The format that the end of a file's name asks for; the first one that fits."""


def choose_format(output: Path | None, option: str | None, setting: str | None) -> str:
    """Return the format to write: `option` of the command line, else by the file's name, else a `setting`, else table.

    Raises UsageError if the command line contradicts itself.
    """
    name = output.name.lower() if output else ""
    wanted = next((wanted for suffix, wanted in _SUFFIXES.items() if name.endswith(suffix)), None)
    if option and wanted and option != wanted:
        raise UsageError(
            f"--output {output} asks for {wanted} by its name, and --format for {option}; "
            "leave --format out, or give the file another suffix"
        )
    return option or wanted or setting or "table"


def worth_unfinished(name: str) -> str:
    """Say what an unfinished report is worth."""
    if name in ROW_BY_ROW:
        return "the rows that were written are whole"
    return f"the {name} report is unfinished and cannot be used; --format jsonl keeps the rows of a scan that stops"


def make_report(name: str, colour: bool = False, quiet: bool = False) -> Report:
    """Return a fresh report of a format in REPORTS."""
    module, _, attribute = REPORTS[name].partition(":")
    report: Report = getattr(import_module(module), attribute)(colour, quiet)
    return report


def _disagreement(row: FileResult) -> tuple[float, float]:
    """Order by the share of techniques that agree, then by how far apart their probabilities of the label are."""
    if row.verdict is None:
        return 2.0, 0.0
    scores = [prediction.scores.get(row.verdict.label, 0.0) for prediction in row.verdict.techniques.values()]
    return row.verdict.agreement, min(scores, default=0.0) - max(scores, default=0.0)


SORTS: Mapping[str, Callable[[FileResult], Any]] = {
    "confidence": lambda row: -row.verdict.confidence if row.verdict else 1.0,
    "path": lambda row: row.path,
    "disagreement": _disagreement,
}
"""Every order by its name: surest first; by path; techniques that disagree first. Unreadable files come last."""


@dataclass(frozen=True)
class Selection:
    """What a report shows of a scan."""

    sort: str | None = None
    """Name from SORTS; None: as found, each row written when it is known."""
    only: tuple[str, ...] = ()
    """Verdicts and headlines whose rows are shown; none: all. A file that could not be read is always shown."""
    min_confidence: float = 0.0
    """Rows with less are not shown."""

    @property
    def is_all(self) -> bool:
        """Tell whether every row is shown, in the order in which it was found."""
        return self.sort is None and not self.only and not self.min_confidence

    def shows(self, row: FileResult) -> bool:
        """Tell whether a row is shown."""
        if row.verdict is None:
            return True
        shown = not self.only or row.verdict.verdict in self.only or row.verdict.headline in self.only
        return shown and row.verdict.confidence >= self.min_confidence

    def apply(self, rows: Iterable[FileResult]) -> Iterator[FileResult]:
        """Yield the rows that are shown, in their order. Sorted ones are all held, and come even if a scan stops."""
        shown = (row for row in rows if self.shows(row))
        if self.sort is None:
            yield from shown
            return
        held: list[FileResult] = []
        try:
            held.extend(shown)
        finally:
            yield from sorted(held, key=SORTS[self.sort])


def check_verdicts(option: str, names: Sequence[str], labels: Sequence[str]) -> None:
    """Raise UsageError for a name that is not a verdict or headline of a scan with these labels."""
    allowed = list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *labels, INCONCLUSIVE, UNKNOWN]))
    for name in names:
        if name not in allowed:
            raise UsageError(f"{option} {name!r} is not an answer of this scan; allowed: {', '.join(allowed)}")
