"""Markdown for case files and tickets: a table of the images, then totals and the files that could not be read."""

import re

from forensic_cli.ensemble import known_labels
from forensic_cli.reports.table import counted, visible
from forensic_cli.results import FileResult, RunHeader, Summary

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$:@]|^[-+=]|(?<=www)\.)", re.IGNORECASE)
"""What would be markup, HTML, a link or the end of a cell."""
_LISTED = 20
"""Unreadable files that stand at the end; the table has them all."""


class MarkdownReport:
    """A GitHub-flavoured table; file names are data and never markup."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._labels: tuple[str, ...] = ()
        self._unreadable: list[str] = []

    def begin(self, header: RunHeader) -> str:
        """Return the title, what judged the files, and the head of the table."""
        self._labels = known_labels(tuple(header.models[0]["labels"]))
        about = [
            f"genforensic {header.version}, started {header.started}",
            *(f"model {model['name']}, sha256 `{model['sha256']}`" for model in header.models),
            f"{', '.join(sorted(set(header.providers)))} of ONNX Runtime {header.onnxruntime}",
        ]
        if header.ensemble:
            about.append(f"fused by {header.ensemble}")
        lines = ["# genforensic report", "", *(f"- {line}" for line in about), ""]
        lines += [
            "| verdict | confidence | label | candidates | file | sha256 | remarks |",
            "|---|---|---|---|---|---|---|",
        ]
        return "\n".join(lines) + "\n"

    def row(self, result: FileResult) -> str:
        """Return one row of the table."""
        verdict = result.verdict
        if verdict is None:
            if len(self._unreadable) < _LISTED:
                self._unreadable.append(f"- {escaped(result.path)}: {escaped(result.reason or result.status)}")
            cells = ["–", "–", "–", "–", result.path, result.sha256 or "–", result.status]
        else:
            cells = [verdict.verdict, f"{verdict.confidence:.3f}", verdict.label, ", ".join(verdict.candidates) or "–"]
            cells += [result.path, result.sha256 or "–", ", ".join(result.warnings) or "–"]
        return f"| {' | '.join(map(escaped, cells))} |\n"

    def end(self, summary: Summary) -> str:
        """Return the totals, the unreadable files, and what a verdict is."""
        lines = ["", f"## {counted(summary.judged, 'image')} judged", ""]
        if summary.judged:
            lines += ["| verdict | images | share |", "|---|---:|---:|"]
            for name, count in summary.record()["verdicts"].items():
                lines.append(f"| {escaped(name)} | {count} | {count / summary.judged:.1%} |")
            lines.append("")
        if summary.unreadable:
            lines += [f"## {counted(summary.unreadable, 'file')} could not be read", "", *self._unreadable]
            lines += [f"- and {summary.unreadable - _LISTED} more"] if summary.unreadable > _LISTED else []
            lines.append("")
        if summary.left_out:
            lines += [f"Left out, because not an image: {summary.left_out}.", ""]
        known = ", ".join(map(escaped, self._labels))
        lines.append(f"A verdict is the most similar of the known labels ({known}), not a proof.")
        return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text that a Markdown reader shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", visible(text))
