"""Rows as JSON: JSON Lines for pipelines and scans of any size, one JSON document, and SARIF for code-scanning pages.

Source of SARIF: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", 2020.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from forensic_cli.card import GENERATED, INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN
from forensic_cli.record import FileResult, RunHeader, Summary, path_bytes
from forensic_cli.reports import Report
from forensic_cli.reports.text import answer_in_words
from forensic_cli.results_file import FILES, JSONL_RUN, RUN, SEAL, SUMMARY
from forensic_cli.seal import Sealer, seal_line


class JsonLinesReport(Report):
    """One JSON object a line: {"genforensic": run header}, the evidence records, {"seal": ...}."""

    def begin(self, header: RunHeader) -> str:
        """Return the header line."""
        line = _json({JSONL_RUN: header.record()}) + "\n"
        self._sealer = Sealer(line)
        return line

    def go_on(self, lines: Iterable[bytes]) -> None:
        """Take the header and the rows of an earlier scan as if they had just been returned."""
        kept = iter(lines)
        self._sealer = Sealer(next(kept))
        for line in kept:
            self._sealer.add_row(line)

    def row(self, result: FileResult) -> str:
        """Return one line."""
        return self.line(result.record())

    def line(self, record: Mapping[str, Any]) -> str:
        """Return one line of anything that the seal shall cover."""
        line = _json(record) + "\n"
        self._sealer.add_row(line)
        return line

    def end(self, summary: Summary) -> str:
        """Return the seal, and no totals: anyone can count lines."""
        del summary
        return seal_line(self._sealer.seal())


class JsonReport(Report):
    """One JSON document: {"run": ..., "files": [...], "summary": ..., "seal": ...}, with each row on its own line."""

    def begin(self, header: RunHeader) -> str:
        """Return the run header and the opened list of files."""
        text = f'{{"{RUN}": {_json(header.record())},\n"{FILES}": [\n'
        self._sealer, self._separator = Sealer(text), ""
        return text

    def row(self, result: FileResult) -> str:
        """Return one element of the list. The comma comes first, so that every chunk is a whole line."""
        line = f"{self._separator}{_json(result.record())}\n"
        self._sealer.add_row(line)
        self._separator = ","
        return line

    def end(self, summary: Summary) -> str:
        """Close the list, and add the totals and the seal."""
        text = f'],\n"{SUMMARY}": {_json(summary.record())},\n'
        self._sealer.add_end(text)
        return f'{text}"{SEAL}": {_json(self._sealer.seal())}}}\n'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_UNREADABLE = "unreadable"
"""Rule of files without a verdict."""
_KINDS = {GENERATED: ("fail", "warning"), REAL: ("pass", "none"), UNDECIDED: ("open", "none")}
"""Kind and level of a headline's results, with a generator's name or without."""
_NOT_PROOF = "An answer is no proof."


class SarifReport(Report):
    """SARIF 2.1.0: one log with one run, each result on a line of its own."""

    def begin(self, header: RunHeader) -> str:
        """Return the tool, its rules (one for each headline and generator), and the opened list of results."""
        self._separator = "\n"
        self._rules = list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *header.labels, UNKNOWN, _UNREADABLE]))
        rules = [_rule(name) for name in self._rules]
        driver = {"name": "genforensic", "semanticVersion": header.version, "rules": rules}
        run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "properties": {"run": header.record()}}
        opened = _json(run).removesuffix("}")
        return f'{{"$schema": {json.dumps(SCHEMA)}, "version": "2.1.0",\n"runs": [{opened},\n"results": ['

    def row(self, result: FileResult) -> str:
        """Return one result."""
        before, self._separator = self._separator, ",\n"
        return before + _json(self._result(result))

    def end(self, summary: Summary) -> str:
        """Close the list, and say how the run went."""
        invocation = {"executionSuccessful": True, "properties": {"summary": summary.record()}}
        return f'\n],\n"invocations": [{_json(invocation)}]}}]}}\n'

    def _result(self, result: FileResult) -> dict[str, Any]:
        if verdict := result.verdict:
            rule = verdict.headline if verdict.verdict in (REAL, INCONCLUSIVE) else verdict.verdict
            kind, level = _KINDS[verdict.headline]
            text = f"{answer_in_words(verdict)}. {_NOT_PROOF}"
        else:
            rule, kind, level, text = _UNREADABLE, "fail", "error", f"{result.status}: {result.reason}."
        sarif: dict[str, Any] = {
            "ruleId": rule,
            "ruleIndex": self._rules.index(rule),
            "kind": kind,
            "level": level,
            "message": {"text": text},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(result.path)}}}],
            "properties": result.record(),
        }
        if result.sha256:
            sarif["fingerprints"] = {"sha256/v1": result.sha256}
        return sarif


def uri(path: str) -> str:
    r"""Return a path as a URI reference (RFC 3986), absolute for an absolute path; \xNN stands for its byte again."""
    raw = path_bytes(path)
    quoted = quote(raw if os.sep == "/" else raw.replace(b"\\", b"/"), safe="/")
    return f"file://{quoted}" if quoted.startswith("/") else quoted


def _rule(name: str) -> dict[str, Any]:
    described = {
        GENERATED: "A generator made the image; which one is not named.",
        REAL: "No generator made the image.",
        UNDECIDED: "The evidence does not support an answer.",
        UNKNOWN: "A generator made the image, but none of those that can be named.",
        _UNREADABLE: "The file could not be read as an image.",
    }.get(name, f"The generator {name} made the image.")
    return {"id": name, "shortDescription": {"text": described}, "help": {"text": _NOT_PROOF}}
