"""JSON Lines: the run header, one evidence record a line, then the seal. For pipelines, and for scans of any size."""

import json
from collections.abc import Iterable

from forensic_cli.results import FileResult, RunHeader, Summary
from forensic_cli.seal import Sealer, seal_line


class JsonLinesReport:
    """One JSON object a line; the first one is {"genforensic": run header}, the last one {"seal": ...}."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._sealer = Sealer("")

    def begin(self, header: RunHeader) -> str:
        """Return the header line."""
        text = json.dumps({"genforensic": header.record()}, ensure_ascii=False)
        self._sealer = Sealer(text)
        return text + "\n"

    def go_on(self, lines: Iterable[bytes]) -> None:
        """Take the header and the rows of an earlier scan, each without its newline, as if they had been returned."""
        kept = iter(lines)
        self._sealer = Sealer(next(kept))
        for line in kept:
            self._sealer.add(line)

    def row(self, result: FileResult) -> str:
        """Return one line."""
        text = json.dumps(result.record(), ensure_ascii=False)
        self._sealer.add(text)
        return text + "\n"

    def end(self, summary: Summary) -> str:
        """Return the seal, and no totals: the lines say it all."""
        del summary
        return seal_line(self._sealer.close()) + "\n"
