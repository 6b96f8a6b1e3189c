"""One self-contained HTML page for people: it opens offline, holds every row, and shows what each answer rests on.

rows.py shortens and groups the rows, pictures.py looks at the files again, page.py puts both into template.html with
style.css and the scripts.
"""

from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.reports.html.page import PageSettings, build_page


class HtmlReport:
    """Keeps the rows of a scan as they come; the page is made at the end, from the files and with the same models."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour
        self._settings = PageSettings(quiet=quiet)
        self._header: RunHeader
        self._rows: list[FileResult] = []

    def begin(self, header: RunHeader) -> str:
        """Return nothing: the summary stands before the rows."""
        self._header = header
        return ""

    def row(self, result: FileResult) -> str:
        """Return nothing, and keep the row."""
        self._rows.append(result)
        return ""

    def end(self, summary: Summary) -> str:
        """Return the whole page."""
        return build_page(self._header, self._rows, summary.left_out, self._header.exports, self._settings)
