"""One JSON document, written row by row: {"run": ..., "files": [...], "summary": ..., "seal": ...}."""

import json

from forensic_cli.results import FileResult, RunHeader, Summary
from forensic_cli.seal import Sealer


class JsonReport:
    """One document; each row stands on a line of its own."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._separator = "\n"
        self._sealer = Sealer("")

    def begin(self, header: RunHeader) -> str:
        """Return the run header and the opened list of files."""
        text = json.dumps(header.record(), ensure_ascii=False)
        self._sealer = Sealer(text)
        return f'{{"run": {text},\n"files": ['

    def row(self, result: FileResult) -> str:
        """Return one element of the list."""
        text = json.dumps(result.record(), ensure_ascii=False)
        self._sealer.add(text)
        before, self._separator = self._separator, ",\n"
        return before + text

    def end(self, summary: Summary) -> str:
        """Close the list, and add the totals and the seal."""
        text = json.dumps(summary.record(), ensure_ascii=False)
        return f'\n],\n"summary": {text},\n"seal": {json.dumps(self._sealer.close(text))}}}\n'
