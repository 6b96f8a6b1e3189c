"""The report for people: a line a file, then totals and the files that could not be read."""

import io

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from forensic_cli.ensemble import INCONCLUSIVE, UNKNOWN, known_labels
from forensic_cli.results import FileResult, RunHeader, Summary

_LISTED = 20
"""Unreadable files that the summary names; the rest are counted."""
_NOT_GENERATORS = (INCONCLUSIVE, UNKNOWN)

_RATIO = (
    "log10 LR, the likelihood ratio, compares two statements: the image is of the label that is most similar to it, "
    "or of another one of the known labels, each as likely as the next. +2: what was measured is 100 times more "
    "probable under the first one; 0: it says nothing; below 0: it speaks for another one. It is no probability of "
    "either statement, and it says nothing of a generator that is not among the known labels."
)


class TableReport:
    """Columns of fixed width with the file last, so that no path is ever cut."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del quiet
        self._colour = colour
        self._width = 0
        self._labels: tuple[str, ...] = ()
        self._validated: tuple[str, ...] = ()
        self._has_ratios = False
        self._reencodings: tuple[str, ...] = ()
        self._has_findings = False
        self._unreadable: list[FileResult] = []

    def begin(self, header: RunHeader) -> str:
        """Return what judges the files, and the column titles."""
        self._labels = known_labels(tuple(header.models[0]["labels"]))
        self._reencodings = header.reencodings
        self._has_findings = header.dedupe is not None
        self._width = max(len(name) for name in (*self._labels, INCONCLUSIVE))
        with_ratios = [model for model in header.models if model.get("log10_lr_bounds")]
        self._has_ratios = bool(with_ratios)
        described = dict.fromkeys(model["validation"] for model in with_ratios if model["validation"])
        self._validated = tuple(f"Validation: {visible(sentence)}" for sentence in described)
        models = ", ".join(f"{model['name']} (sha256 {model['sha256'][:12]})" for model in header.models)
        fused = f", fused by {header.ensemble}" if header.ensemble else ""
        about = (
            f"genforensic {header.version}: {models}{fused}, on {', '.join(sorted(set(header.providers)))} "
            f"of ONNX Runtime {header.onnxruntime}, {header.started}"
        )
        if self._reencodings:
            about += f", judged again as {', '.join(self._reencodings)}"
        ratio = ("  log10 LR" if self._has_ratios else "") + self._finding("finding")
        title = f"{'verdict':<{self._width}}  confidence{self._range('range')}  agreement{ratio}  file"
        return self._render(Text(about, style="dim"), Text(title, style="bold"))

    def row(self, result: FileResult) -> str:
        """Return one line."""
        name = Text(visible(result.path))
        if result.warnings:
            name.append(f"  [{', '.join(result.warnings)}]", style="yellow")
        if result.duplicate_of is not None:
            name.append(f"  [copy of {visible(result.duplicate_of)}]", style="yellow")
        verdict = result.verdict
        if verdict is not None and verdict.stability is not None and verdict.stability.flips:
            flips = ", ".join(f"{label} as {one}" for one, label in verdict.stability.flips.items())
            name.append(f"  [{flips}]", style="yellow")
        if verdict is None:
            self._unreadable.append(result) if len(self._unreadable) < _LISTED else None
            ratio = self._ratio(None) + self._finding("–")
            blank = f"{'–':<{self._width}}  {'–':>10}{self._range('–')}  {'–':>9}{ratio}  "
            line = Text(blank, style="dim").append(name)
            return self._render(line.append(f"  ({result.status})", style="red"))
        if verdict.verdict == INCONCLUSIVE and verdict.candidates:
            name.append(f"  could be: {self._named(verdict.candidates)}", style="yellow")
        agreeing = f"{round(verdict.agreement * len(verdict.techniques))} of {len(verdict.techniques)}"
        ratio = self._ratio(verdict.log10_lr.get(verdict.label))
        line = Text(f"{verdict.verdict:<{self._width}}", style=_style(verdict.verdict))
        found = verdict.stability
        spread = self._range(f"{found.lowest:.3f}–{found.highest:.3f}" if found else "–")
        finding = self._finding("–" if result.cluster is None else str(result.cluster))
        cells = f"  {verdict.confidence:>10.3f}{spread}  {agreeing:>9}{ratio}{finding}  "
        return self._render(line.append(cells, style="default").append(name))

    def end(self, summary: Summary) -> str:
        """Return the totals by verdict, the unreadable files, and what the verdicts mean."""
        title = f"{counted(summary.judged, 'image')} judged"
        if summary.findings is not None:
            title = f"{counted(summary.judged, 'image')} in {counted(summary.findings, 'finding')}"
        table = Table("verdict", "images", "share", title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for verdict, count in summary.record()["verdicts"].items():
            table.add_row(Text(verdict, style=_style(verdict)), str(count), f"{count / summary.judged:.1%}")
        parts: list[RenderableType] = ["", table] if summary.judged else [""]
        if summary.unreadable:
            parts.append(Text(f"{counted(summary.unreadable, 'file')} could not be read:", style="red"))
            parts += [Text(f"  {visible(one.path)}: {one.reason}") for one in self._unreadable]
            if summary.unreadable > _LISTED:
                parts.append(Text(f"  and {summary.unreadable - _LISTED} more; --format jsonl names them all"))
        if summary.copies:
            files = "1 file is a copy" if summary.copies == 1 else f"{summary.copies} files are copies"
            parts.append(Text(f"{files} of another, byte for byte, and not judged again."))
        if summary.left_out:
            parts.append(Text(f"Left out, because not an image: {summary.left_out}."))
        if self._reencodings:
            parts.append(Text("A label that changes under a re-encoding makes the image inconclusive.", style="dim"))
        known = ", ".join(self._labels)
        parts.append(Text(f"A verdict is the most similar of the known labels ({known}), not a proof.", style="dim"))
        if self._has_ratios:
            parts += [Text(sentence, style="dim") for sentence in (_RATIO, *self._validated)]
        return self._render(*parts)

    def _named(self, candidates: tuple[str, ...]) -> str:
        return "any known label" if candidates == self._labels else ", ".join(candidates)

    def _ratio(self, value: float | None) -> str:
        if not self._has_ratios:
            return ""
        return f"  {'–':>8}" if value is None else f"  {value:>+8.1f}"

    def _finding(self, text: str) -> str:
        """Return the cell of a column that is there only where near-duplicates were asked for."""
        return f"  {text:>7}" if self._has_findings else ""

    def _range(self, text: str) -> str:
        """Return the cell of a column that is there only where stability was asked for."""
        return f"  {text:>11}" if self._reencodings else ""

    def _render(self, *parts: RenderableType) -> str:
        buffer = io.StringIO()
        console = Console(
            file=buffer,
            force_terminal=self._colour,
            no_color=not self._colour,
            width=100,
            highlight=False,
            markup=False,
        )
        for part in parts:
            console.print(part, soft_wrap=True)
        return buffer.getvalue()


def visible(text: str) -> str:
    """Escape what could move the cursor or break the line: a file name is data, not terminal control."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _style(verdict: str) -> str:
    if verdict == "real":
        return "green"
    return "yellow" if verdict in _NOT_GENERATORS else "cyan"
