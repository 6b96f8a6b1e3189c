"""Markdown for case files and tickets: a table of the images, then totals and the files that could not be read."""

import re

from forensic_cli.ensemble import known_labels, shown_name
from forensic_cli.reports.table import chance, counted, has_strength, meanings, totals, visible
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
        self._has_strength = False
        self._unreadable: list[str] = []

    def begin(self, header: RunHeader) -> str:
        """Return the title, what judged the files, and the head of the table."""
        self._labels = known_labels(tuple(header.models[0]["labels"]))
        self._has_strength = has_strength(header)
        about = [
            f"genforensic {header.version}, started {header.started}",
            *(f"model {model['name']}, sha256 `{model['sha256']}`" for model in header.models),
            f"{', '.join(sorted(set(header.providers)))} of ONNX Runtime {header.onnxruntime}",
        ]
        if header.ensemble:
            about.append(f"fused by {header.ensemble}")
        lines = ["# genforensic report", "", *(f"- {line}" for line in about), ""]
        lines += [
            "| answer | generator | support | p | state | file | sha256 | remarks |",
            "|---|---|---|---|---|---|---|---|",
        ]
        return "\n".join(lines) + "\n"

    def row(self, result: FileResult) -> str:
        """Return one row of the table."""
        verdict = result.verdict
        if verdict is None:
            if len(self._unreadable) < _LISTED:
                self._unreadable.append(f"- {escaped(result.path)}: {escaped(result.reason or result.status)}")
            cells = ["not judged", None, None, None, None, result.path, result.sha256, result.status]
        else:
            p = None if verdict.p_generated is None else chance(verdict.p_generated)
            cells = [
                verdict.headline,
                shown_name(verdict.verdict, verdict.candidates),
                verdict.strength,
                p,
                result.state,
            ]
            cells += [result.path, result.sha256, ", ".join(result.warnings)]
        return f"| {' | '.join(escaped(cell or '–') for cell in cells)} |\n"

    def end(self, summary: Summary) -> str:
        """Return the totals, the unreadable files, and what an answer means."""
        lines = ["", f"## {counted(summary.judged, 'image')} judged", ""]
        if summary.judged:
            lines += ["| answer | images | share |", "|---|---:|---:|"]
            for name, count, is_part in totals(summary):
                text = f"{escaped(name)}" if is_part else f"**{escaped(name)}**"
                lines.append(f"| {text} | {count} | {count / summary.judged:.1%} |")
            lines.append("")
        if summary.unreadable:
            lines += [f"## {counted(summary.unreadable, 'file')} could not be read", "", *self._unreadable]
            lines += [f"- and {summary.unreadable - _LISTED} more"] if summary.unreadable > _LISTED else []
            lines.append("")
        if summary.left_out:
            lines += [f"Left out, because not an image: {summary.left_out}.", ""]
        lines.append(" ".join(map(escaped, meanings(self._labels, self._has_strength))))
        return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Return text that a Markdown reader shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", visible(text))
