"""JSON Lines: the run header, then one evidence record a line. For pipelines, and for scans of any size."""

import json

from forensic_cli.results import FileResult, RunHeader, Summary


class JsonLinesReport:
    """One JSON object a line; the first one is {"genforensic": run header}."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet

    def begin(self, header: RunHeader) -> str:
        """Return the header line."""
        return json.dumps({"genforensic": header.record()}, ensure_ascii=False) + "\n"

    def row(self, result: FileResult) -> str:
        """Return one line."""
        return json.dumps(result.record(), ensure_ascii=False) + "\n"

    def end(self, summary: Summary) -> str:
        """Return nothing: the lines say it all, and a summary line would not be a row."""
        del summary
        return ""
