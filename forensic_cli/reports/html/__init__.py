"""One self-contained HTML page for people: it opens offline, holds every row, and shows what a row rests on.

entries.py makes the rows short, groups.py finds those that are one finding, pictures.py and evidence.py look at the
files again, cards.py reads the models' cards, page.py puts them together with template.html, style.css and the scripts.
"""

from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.reports.html.page import PageSettings, build_page
from forensic_cli.reports.html.rows import Entries


class HtmlReport:
    """Takes the rows of a scan as they come; the page is made at the end, from the files and with the same models."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour
        self._quiet = quiet
        self._header: RunHeader
        self._entries: Entries

    def begin(self, header: RunHeader) -> str:
        """Return nothing: the summary stands before the rows."""
        self._header = header
        self._entries = Entries(header.record())
        return ""

    def row(self, result: FileResult) -> str:
        """Return nothing, and keep the row."""
        self._entries.add(result.record())
        return ""

    def end(self, summary: Summary) -> str:
        """Return the whole page."""
        self._entries.summary.left_out = summary.left_out
        return build_page(self._header.record(), self._entries, self._header.exports, PageSettings(quiet=self._quiet))
