"""The reports for people to read as text: one line for each file in a terminal, and a Markdown document."""

import io
import re
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.text import Text

from forensic_cli.card import GENERATED, REAL, UNDECIDED
from forensic_cli.record import FileResult, RunHeader, Summary, Verdict
from forensic_cli.table import MISSING, Table, markdown_head, markdown_row
from forensic_cli.verdict import known_labels, shown_name

_LISTED = 20
"""Unreadable files that are named below the rows; the rest are counted."""
_NOT_JUDGED = "not judged"
_STRENGTH = len("moderately strong support")
_STATE = len("JPEG, quality 100")
_LEAST_SHOWN = 0.0005
_STYLES = {GENERATED: "magenta", REAL: "green", UNDECIDED: "yellow"}

P_MEANING = "p is the probability that a generator made the image, assuming even odds beforehand."
"""What `p_generated` means."""
RATIO_MEANING = (
    "Support is a likelihood ratio: how many times more probable the measurement is if the answer is true than if it "
    "is false. It is weak from 2, moderate from 10, moderately strong from 100, strong from 1,000, very strong from "
    "10,000 and extremely strong from 1,000,000. It is not the probability that the answer is true."
)
"""What a likelihood ratio and the words of `strength` mean: the only explanation, for every report and card."""
NO_PROOF = "An answer is an investigative lead, not proof."


class TableReport:
    """One line for each file, in cells of fixed width with the file last, so that no path is ever cut."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del quiet
        self._colour = colour
        self._header: RunHeader
        self._labels: tuple[str, ...] = ()
        self._unreadable: list[FileResult] = []

    def begin(self, header: RunHeader) -> str:
        """Return a line that says what judges the files."""
        self._header = header
        self._labels = known_labels(header.labels)
        models = ", ".join(f"{model.name} (sha256 {model.sha256[:12]})" for model in header.models)
        fused = f", fused by {header.ensemble}" if header.ensemble else ""
        about = (
            f"genforensic {header.version}: {models}{fused}, on {', '.join(sorted(set(header.providers)))} "
            f"of ONNX Runtime {header.onnxruntime}, {header.started}"
        )
        if header.reencodings:
            about += f", judged again as {', '.join(header.reencodings)}"
        return self._render(Text(about, style="dim"))

    def row(self, result: FileResult) -> str:
        """Return one line."""
        verdict = result.verdict
        if verdict is None:
            if len(self._unreadable) < _LISTED:
                self._unreadable.append(result)
            line = Text(f"{_NOT_JUDGED}  {self._cells(result, None)}", style="dim").append(_named(result))
            return self._render(line.append(f"  ({result.status})", style="red"))
        line = Text(f"{verdict.headline:<{len(_NOT_JUDGED)}}  ", style=_STYLES.get(verdict.headline, ""))
        return self._render(line.append(self._cells(result, verdict), style="default").append(_named(result)))

    def _cells(self, result: FileResult, verdict: Verdict | None) -> str:
        """Return what stands between the headline and the file: the cells that this scan can fill."""
        name = shown_name(verdict.verdict, verdict.candidates) if verdict else ""
        cells = [f"{name:<{max(map(len, self._labels))}}"]
        if has_strength(self._header):
            cells.append(f"{(verdict and verdict.strength) or '':<{_STRENGTH}}")
        if REAL in self._labels:
            p = None if verdict is None else verdict.p_generated
            cells.append(f"{'' if p is None else f'p {chance(p)}':<8}")
        if (techniques := len(self._header.models)) > 1:
            agreeing = f"{round(verdict.agreement * techniques)} of {techniques} agree" if verdict else ""
            cells.append(f"{agreeing:<{len(f'{techniques} of {techniques} agree')}}")
        cells.append(f"{result.state or '':<{_STATE}}")
        if self._header.dedupe is not None:
            cells.append(f"{'' if result.cluster is None else f'finding {result.cluster}':<12}")
        return "".join(f"{cell}  " for cell in cells)

    def end(self, summary: Summary) -> str:
        """Return the totals by headline and verdict, the unreadable files, and what an answer means."""
        parts: list[RenderableType] = [""]
        if summary.judged:
            parts += [_totals(summary).rich(), ""]
        if summary.unreadable:
            parts.append(Text(f"{counted(summary.unreadable, 'file')} could not be read:", style="red"))
            parts += [Text(f"  {visible(result.path)}: {result.reason}") for result in self._unreadable]
            if summary.unreadable > _LISTED:
                parts.append(Text(f"  and {summary.unreadable - _LISTED} more; --format jsonl lists them all"))
        if summary.copies:
            files = "1 file is an exact copy" if summary.copies == 1 else f"{summary.copies} files are exact copies"
            parts.append(Text(f"{files} of another file."))
        if summary.left_out:
            parts.append(Text(f"Skipped, because not an image: {summary.left_out}."))
        if self._header.reencodings:
            sentence = "Any part of an answer that changes when the image is re-encoded is left open."
            parts.append(Text(sentence, style="dim"))
        if summary.judged:
            for sentence in meanings(self._labels, has_strength(self._header)):
                parts.append(Text(sentence, style="dim"))
        return self._render(*parts)

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


def _named(result: FileResult) -> Text:
    """Return the file, followed by remarks in brackets."""
    name, verdict = Text(visible(result.path)), result.verdict
    remarks = [", ".join(result.warnings)] if result.warnings else []
    if result.duplicate_of is not None:
        remarks.append(f"copy of {visible(result.duplicate_of)}")
    if verdict is not None and verdict.stability is not None and verdict.stability.flips:
        remarks.append(", ".join(f"{label} as {reencoding}" for reencoding, label in verdict.stability.flips.items()))
    for remark in remarks:
        name.append(f"  [{remark}]", style="yellow")
    return name


def has_strength(header: RunHeader) -> bool:
    """Tell whether any model of a scan has a likelihood ratio."""
    decisions = (decision for model in header.models for decision in model.decisions.values())
    return any(decision["log10_lr_bounds"] for decision in decisions)


def meanings(labels: Sequence[str], with_strength: bool) -> Iterator[str]:
    """Yield the sentences that explain the rows of a report, for models of these labels."""
    if REAL in labels:
        yield P_MEANING
    if with_strength:
        yield RATIO_MEANING
    generators = ", ".join(label for label in labels if label != REAL)
    yield f"{NO_PROOF} The only generators that can be named are: {generators}."


def _totals(summary: Summary, cell: Callable[[str], str] = str) -> Table:
    """Return the images of each headline, and indented below it those of each verdict; `cell` escapes a name."""
    rows: list[tuple[str, int, str]] = []
    styles = {}

    def add(name: str, images: int) -> None:
        rows.append((name, images, f"{images / summary.judged:.1%}"))

    for headline in (GENERATED, REAL, UNDECIDED):
        if not (count := summary.headlines.get(headline, 0)):
            continue
        styles[len(rows)] = _STYLES[headline]
        add(headline, count)
        named = {name: n for (which, name), n in summary.answers.items() if which == headline and shown_name(name, ())}
        for name, images in sorted(named.items(), key=lambda item: (-item[1], item[0])):
            add(f"  {cell(shown_name(name, ()))}", images)
        if named and (rest := count - sum(named.values())):
            add("  no generator named", rest)
    judged = counted(summary.judged, "image")
    title = f"{judged} judged" if summary.findings is None else f"{judged} in {counted(summary.findings, 'finding')}"
    return Table(title, ("answer", "images", "share"), rows, styles=styles)


def chance(p: float) -> str:
    """Return a probability with three digits that never looks certain because of rounding."""
    if p < _LEAST_SHOWN:
        return "<0.001"
    return ">0.999" if p > 1 - _LEAST_SHOWN else f"{p:.3f}"


def visible(text: str) -> str:
    """Escape what could move the cursor or break the line: a file name is data, not terminal control."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&$:@]|^[-+=]|(?<=www)\.)", re.IGNORECASE)
"""What would be markup, HTML, a link or the end of a cell."""


class MarkdownReport:
    """A GitHub-flavoured table; file names are data and never markup."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        self._header: RunHeader
        self._unreadable: list[str] = []

    def begin(self, header: RunHeader) -> str:
        """Return the title, what judged the files, and the head of the table."""
        self._header = header
        about = [
            f"genforensic {header.version}, started {header.started}",
            *(f"model {model.name}, sha256 `{model.sha256}`" for model in header.models),
            f"{', '.join(sorted(set(header.providers)))} of ONNX Runtime {header.onnxruntime}",
        ]
        if header.ensemble:
            about.append(f"fused by {header.ensemble}")
        columns = ("answer", "generator", "support", "p", "state", "file", "sha256", "remarks")
        lines = ["# genforensic report", "", *(f"- {line}" for line in about), ""]
        return "\n".join([*lines, markdown_head(columns, range(len(columns)))]) + "\n"

    def row(self, result: FileResult) -> str:
        """Return one row of the table."""
        verdict = result.verdict
        if verdict is None:
            if len(self._unreadable) < _LISTED:
                self._unreadable.append(f"- {escaped(result.path)}: {escaped(result.reason or result.status)}")
            answer: list[str | None] = [_NOT_JUDGED, None, None, None]
            remarks = result.status
        else:
            p = None if verdict.p_generated is None else chance(verdict.p_generated)
            answer = [verdict.headline, shown_name(verdict.verdict, verdict.candidates), verdict.strength, p]
            remarks = ", ".join(result.warnings)
        cells = [*answer, result.state, result.path, result.sha256, remarks]
        return f"{markdown_row(escaped(cell or MISSING) for cell in cells)}\n"

    def end(self, summary: Summary) -> str:
        """Return the totals, the unreadable files, and what an answer means."""
        parts = [_totals(summary, escaped).markdown(2) if summary.judged else "## 0 images judged"]
        if summary.unreadable:
            more = [f"- and {summary.unreadable - _LISTED} more"] if summary.unreadable > _LISTED else []
            parts.append(f"## {counted(summary.unreadable, 'file')} could not be read")
            parts.append("\n".join(self._unreadable + more))
        if summary.left_out:
            parts.append(f"Skipped, because not an image: {summary.left_out}.")
        labels = known_labels(self._header.labels)
        parts.append(" ".join(map(escaped, meanings(labels, has_strength(self._header)))))
        return "\n" + "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text that a Markdown reader shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", visible(text))
