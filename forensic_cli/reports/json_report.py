"""One JSON document, written row by row: {"run": ..., "files": [...], "summary": ...}."""

import json

from forensic_cli.results import FileResult, RunHeader, Summary


class JsonReport:
    """One document; each row stands on a line of its own."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._separator = "\n"

    def begin(self, header: RunHeader) -> str:
        """Return the run header and the opened list of files."""
        return f'{{"run": {json.dumps(header.record(), ensure_ascii=False)},\n"files": ['

    def row(self, result: FileResult) -> str:
        """Return one element of the list."""
        text = self._separator + json.dumps(result.record(), ensure_ascii=False)
        self._separator = ",\n"
        return text

    def end(self, summary: Summary) -> str:
        """Close the list and add the totals."""
        return f'\n],\n"summary": {json.dumps(summary.record(), ensure_ascii=False)}}}\n'
