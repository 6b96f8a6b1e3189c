"""Report formats. A new one is one new file with a Report in it, and one line in REPORTS.

A report is a stream: it turns the header, each row and the summary into text (or bytes) the moment that they are known,
so that a scan of any size needs no more memory than one row and an interrupted scan leaves what was done.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, runtime_checkable

from forensic_cli.results import FileResult, RunHeader, Summary


class Report(Protocol):
    """One format. Each method returns what to append to the output: text, or the bytes of a binary format.

    `colour` asks for terminal colours, `quiet` for no progress bar of its own.
    """

    def __init__(self, colour: bool = False, quiet: bool = False) -> None: ...

    def begin(self, header: RunHeader) -> str | bytes:
        """Return what comes before the rows."""

    def row(self, result: FileResult) -> str | bytes:
        """Return one row, ending in a newline where rows are lines."""

    def end(self, summary: Summary) -> str | bytes:
        """Return what comes after the rows."""


@runtime_checkable
class Resumable(Protocol):
    """A format that can go on with what an earlier scan wrote."""

    def go_on(self, lines: Iterable[bytes]) -> None:
        """Take the lines that stay, without their newlines, in place of `begin` and `row`."""


REPORTS = {
    "table": "forensic_cli.reports.table:TableReport",
    "jsonl": "forensic_cli.reports.jsonl:JsonLinesReport",
    "json": "forensic_cli.reports.json_report:JsonReport",
    "csv": "forensic_cli.reports.csv_report:CsvReport",
    "markdown": "forensic_cli.reports.markdown:MarkdownReport",
    "sarif": "forensic_cli.reports.sarif:SarifReport",
    "parquet": "forensic_cli.reports.parquet:ParquetReport",
    "html": "forensic_cli.reports.html:HtmlReport",
}
"""Every format by its name on the command line; imported when it is used."""


def make_report(name: str, colour: bool = False, quiet: bool = False) -> Report:
    """Return a fresh report of a format in REPORTS."""
    module, _, attribute = REPORTS[name].partition(":")
    report: Report = getattr(import_module(module), attribute)(colour, quiet)
    return report
