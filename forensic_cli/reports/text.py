"""The report for people at a terminal: one line for each file; and the words that all reports share."""

import io
from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from forensic_cli.card import GENERATED, REAL, UNDECIDED
from forensic_cli.record import FileResult, RunHeader, Summary, Verdict
from forensic_cli.reports import Report
from forensic_cli.tables import RATIO_MEANING, Table
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
NO_PROOF = "An answer is an investigative lead, not proof."


class TableReport(Report):
    """One line for each file, in cells of fixed width with the file last, so that no path is ever cut."""

    def begin(self, header: RunHeader) -> str:
        """Return a line that says what judges the files."""
        self._header, self._labels = header, known_labels(header.labels)
        self._unreadable: list[FileResult] = []
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
        if self._has_strength():
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
        sentences = list(self._meanings()) if summary.judged else []
        if self._header.reencodings:
            sentences.insert(0, "Any part of an answer that changes when the image is re-encoded is left open.")
        return self._render(*parts, *(Text(sentence, style="dim") for sentence in sentences))

    def _meanings(self) -> Iterator[str]:
        """Yield the sentences that explain the rows."""
        if REAL in self._labels:
            yield P_MEANING
        if self._has_strength():
            yield RATIO_MEANING
        generators = ", ".join(label for label in self._labels if label != REAL)
        yield f"{NO_PROOF} The only generators that can be named are: {generators}."

    def _has_strength(self) -> bool:
        """Tell whether any model of the scan has a likelihood ratio."""
        decisions = (decision for model in self._header.models for decision in model.decisions.values())
        return any(decision["log10_lr_bounds"] for decision in decisions)

    def _render(self, *parts: RenderableType) -> str:
        buffer = io.StringIO()
        console = Console(
            file=buffer, force_terminal=self.colour, no_color=not self.colour, width=100, highlight=False, markup=False
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


def _totals(summary: Summary) -> Table:
    """Return the images of each headline, and indented below it those of each verdict."""
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
            add(f"  {shown_name(name, ())}", images)
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


def answer_in_words(verdict: Verdict) -> str:
    """Return an answer in words: headline, name, strength and probability, as far as there are any."""
    p = None if verdict.p_generated is None else f"p {chance(verdict.p_generated)}"
    name = shown_name(verdict.verdict, verdict.candidates)
    return ", ".join(filter(None, [verdict.headline, name, verdict.strength, p]))


def visible(text: str) -> str:
    """Escape what could move the cursor or break the line: a file name is data, not terminal control."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
