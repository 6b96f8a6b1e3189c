"""JSON Lines: the run header, one evidence record a line, then the seal. For pipelines, and for scans of any size."""

import json
import os
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from forensic_cli.card import GENERATED, INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN
from forensic_cli.record import FileResult, RunHeader, Summary, Verdict, path_bytes
from forensic_cli.reports.text import chance
from forensic_cli.seal import Sealer, seal_line
from forensic_cli.verdict import shown_name


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


SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_UNREADABLE = "unreadable"
"""Rule of files without a verdict."""
_KINDS = {GENERATED: ("fail", "warning"), REAL: ("pass", "none"), UNDECIDED: ("open", "none")}
"""Kind and level of a headline's results, with a generator's name or without."""
_NOT_PROOF = "An answer is no proof."


class SarifReport:
    """One log with one run; each result stands on a line of its own."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._separator = "\n"
        self._rules: list[str] = []

    def begin(self, header: RunHeader) -> str:
        """Return the tool, its rules (one a headline and a generator), and the opened list of results."""
        labels = header.models[0]["labels"]
        self._rules = list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *labels, UNKNOWN, _UNREADABLE]))
        driver = {
            "name": "genforensic",
            "semanticVersion": header.version,
            "rules": [_rule(name) for name in self._rules],
        }
        run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "properties": {"run": header.record()}}
        opened = json.dumps(run, ensure_ascii=False).removesuffix("}")
        return f'{{"$schema": {json.dumps(SCHEMA)}, "version": "2.1.0",\n"runs": [{opened},\n"results": ['

    def row(self, result: FileResult) -> str:
        """Return one result."""
        before, self._separator = self._separator, ",\n"
        return before + json.dumps(self._result(result), ensure_ascii=False)

    def end(self, summary: Summary) -> str:
        """Close the list, and say how the run went."""
        invocation = {"executionSuccessful": True, "properties": {"summary": summary.record()}}
        return f'\n],\n"invocations": [{json.dumps(invocation, ensure_ascii=False)}]}}]}}\n'

    def _result(self, result: FileResult) -> dict[str, Any]:
        verdict = result.verdict
        rule = _rule_of(verdict) if verdict else _UNREADABLE
        kind, level = _KINDS[verdict.headline] if verdict else ("fail", "error")
        text = f"{_answer(verdict)}. {_NOT_PROOF}" if verdict else f"{result.status}: {result.reason}."
        found: dict[str, Any] = {
            "ruleId": rule,
            "ruleIndex": self._rules.index(rule),
            "kind": kind,
            "level": level,
            "message": {"text": text},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri(result.path)}}}],
            "properties": result.record(),
        }
        if result.sha256:
            found["fingerprints"] = {"sha256/v1": result.sha256}
        return found


def uri(path: str) -> str:
    r"""Return a path as a URI reference (RFC 3986), absolute for an absolute path; \xNN stands for its byte again."""
    raw = path_bytes(path)
    quoted = quote(raw if os.sep == "/" else raw.replace(b"\\", b"/"), safe="/")
    return f"file://{quoted}" if quoted.startswith("/") else quoted


def _rule_of(verdict: Verdict) -> str:
    return verdict.headline if verdict.verdict in (REAL, INCONCLUSIVE) else verdict.verdict


def _answer(verdict: Verdict) -> str:
    """Return a row's answer in words."""
    p = None if verdict.p_generated is None else f"p {chance(verdict.p_generated)}"
    name = shown_name(verdict.verdict, verdict.candidates)
    return ", ".join(filter(None, [verdict.headline, name, verdict.strength, p]))


def _rule(name: str) -> dict[str, Any]:
    described = {
        GENERATED: "A generator made the image; which one is not named.",
        REAL: "No generator made the image.",
        UNDECIDED: "The evidence carries no answer.",
        UNKNOWN: "A generator made the image, and none of those that can be named.",
        _UNREADABLE: "The file could not be read as an image.",
    }.get(name, f"The generator {name} made the image.")
    return {"id": name, "shortDescription": {"text": described}, "help": {"text": _NOT_PROOF}}
