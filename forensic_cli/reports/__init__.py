"""Report formats. A new one is one new file with a Report in it, and one line in REPORTS.

A report is a stream: it turns the header, each row and the summary into text (or bytes) the moment that they are known,
so that a scan of any size needs no more memory than one row and an interrupted scan leaves what was done.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol, runtime_checkable

from forensic_cli.errors import UsageError
from forensic_cli.record import FileResult, RunHeader, Summary


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
    "table": "forensic_cli.reports.text:TableReport",
    "jsonl": "forensic_cli.reports.json_formats:JsonLinesReport",
    "json": "forensic_cli.reports.json_formats:JsonReport",
    "csv": "forensic_cli.reports.columns:CsvReport",
    "markdown": "forensic_cli.reports.text:MarkdownReport",
    "sarif": "forensic_cli.reports.json_formats:SarifReport",
    "parquet": "forensic_cli.reports.columns:ParquetReport",
    "html": "forensic_cli.reports.html:HtmlReport",
}
"""Every format by its name on the command line; imported when it is used."""

ROW_BY_ROW = ("table", "jsonl", "csv", "markdown")
"""Formats whose rows are of use before the report ends, or without its end."""
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".sarif.json": "sarif",
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".html": "html",
    ".sarif": "sarif",
    ".parquet": "parquet",
}
"""The format that the end of a file's name asks for; the first one that fits."""


def choose_format(output: Path | None, option: str | None, setting: str | None) -> str:
    """Return the format to write: `option` of the command line, else by the file's name, else a `setting`, else table.

    Raises UsageError where the command line contradicts itself.
    """
    wanted = _format_by_name(output)
    if option and wanted and option != wanted:
        raise UsageError(
            f"--output {output} asks for {wanted} by its name, and --format for {option}; "
            "leave --format out, or give the file another suffix"
        )
    return option or wanted or setting or "table"


def _format_by_name(output: Path | None) -> str | None:
    name = output.name.lower() if output else ""
    return next((wanted for suffix, wanted in _SUFFIXES.items() if name.endswith(suffix)), None)


def worth_unfinished(name: str) -> str:
    """Say what a report is worth that was begun and could not be ended."""
    if name in ROW_BY_ROW:
        return "the rows that were written are whole"
    return f"the {name} report is unfinished and cannot be used; --format jsonl keeps the rows of a scan that stops"


def make_report(name: str, colour: bool = False, quiet: bool = False) -> Report:
    """Return a fresh report of a format in REPORTS."""
    module, _, attribute = REPORTS[name].partition(":")
    report: Report = getattr(import_module(module), attribute)(colour, quiet)
    return report
