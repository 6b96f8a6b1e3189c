"""The report for people: a line a file, then totals and the files that could not be read."""

import io
import re
from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from forensic_cli.card import GENERATED, REAL, UNDECIDED
from forensic_cli.record import FileResult, RunHeader, Summary, Verdict
from forensic_cli.verdict import known_labels, shown_name

_LISTED = 20
"""Unreadable files that the summary names; the rest are counted."""
_NOT_JUDGED = "not judged"
_STRENGTH = len("moderately strong support")
_STATE = len("JPEG, quality 100")
_LEAST_SHOWN = 0.0005
_STYLES = {GENERATED: "magenta", REAL: "green", UNDECIDED: "yellow"}

P_MEANING = "p is the probability that a generator made the image, if it was as likely as not before anybody looked."
"""What p_generated means, for people."""
STRENGTH_MEANING = (
    "Support says how many times more probable the measurement is if the answer is true than if it is not: weak from "
    "2 on, moderate from 10, moderately strong from 100, strong from 1,000, very strong from 10,000."
)
"""What the words of ensemble.strength mean, for people."""


class TableReport:
    """A line a file that reads by itself, in cells of fixed width with the file last, so that no path is ever cut."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del quiet
        self._colour = colour
        self._name = 0
        self._labels: tuple[str, ...] = ()
        self._techniques = 0
        self._has_strength = False
        self._reencodings: tuple[str, ...] = ()
        self._has_findings = False
        self._unreadable: list[FileResult] = []

    def begin(self, header: RunHeader) -> str:
        """Return what judges the files."""
        self._labels = known_labels(header.labels)
        self._name = max(len(name) for name in self._labels)
        self._techniques = len(header.models)
        self._has_strength = has_strength(header)
        self._reencodings = header.reencodings
        self._has_findings = header.dedupe is not None
        models = ", ".join(f"{model.name} (sha256 {model.sha256[:12]})" for model in header.models)
        fused = f", fused by {header.ensemble}" if header.ensemble else ""
        about = (
            f"genforensic {header.version}: {models}{fused}, on {', '.join(sorted(set(header.providers)))} "
            f"of ONNX Runtime {header.onnxruntime}, {header.started}"
        )
        if self._reencodings:
            about += f", judged again as {', '.join(self._reencodings)}"
        return self._render(Text(about, style="dim"))

    def row(self, result: FileResult) -> str:
        """Return one line."""
        verdict = result.verdict
        if verdict is None:
            self._unreadable.append(result) if len(self._unreadable) < _LISTED else None
            line = Text(f"{_NOT_JUDGED}  {self._cells(result, None)}", style="dim").append(_named(result))
            return self._render(line.append(f"  ({result.status})", style="red"))
        line = Text(f"{verdict.headline:<{len(_NOT_JUDGED)}}  ", style=_STYLES.get(verdict.headline, ""))
        return self._render(line.append(self._cells(result, verdict), style="default").append(_named(result)))

    def _cells(self, result: FileResult, verdict: Verdict | None) -> str:
        """Return what stands between the headline and the file: only what some row of this scan may have."""
        cells = [f"{shown_name(verdict.verdict, verdict.candidates) if verdict else '':<{self._name}}"]
        if self._has_strength:
            cells.append(f"{(verdict and verdict.strength) or '':<{_STRENGTH}}")
        if REAL in self._labels:
            p = None if verdict is None else verdict.p_generated
            cells.append(f"{'' if p is None else f'p {chance(p)}':<8}")
        if self._techniques > 1:
            agreeing = f"{round(verdict.agreement * self._techniques)} of {self._techniques} agree" if verdict else ""
            cells.append(f"{agreeing:<{len(f'{self._techniques} of {self._techniques} agree')}}")
        cells.append(f"{result.state or '':<{_STATE}}")
        if self._has_findings:
            cells.append(f"{'' if result.cluster is None else f'finding {result.cluster}':<12}")
        return "".join(f"{cell}  " for cell in cells)

    def end(self, summary: Summary) -> str:
        """Return the totals by headline and verdict, the unreadable files, and what an answer means."""
        parts: list[RenderableType] = [""]
        if summary.judged:
            parts += [self._totals(summary), ""]
        if summary.unreadable:
            parts.append(Text(f"{counted(summary.unreadable, 'file')} could not be read:", style="red"))
            parts += [Text(f"  {visible(one.path)}: {one.reason}") for one in self._unreadable]
            if summary.unreadable > _LISTED:
                parts.append(Text(f"  and {summary.unreadable - _LISTED} more; --format jsonl names them all"))
        if summary.copies:
            files = "1 file is a copy" if summary.copies == 1 else f"{summary.copies} files are copies"
            parts.append(Text(f"{files} of another, byte for byte."))
        if summary.left_out:
            parts.append(Text(f"Left out, because not an image: {summary.left_out}."))
        if self._reencodings:
            parts.append(Text("What changes when the image is re-encoded is left open.", style="dim"))
        if summary.judged:
            parts += [Text(sentence, style="dim") for sentence in meanings(self._labels, self._has_strength)]
        return self._render(*parts)

    def _totals(self, summary: Summary) -> RenderableType:
        """Return how many images have each headline, and below it what their rows name."""
        found = counted(summary.judged, "image")
        title = f"{found} judged" if summary.findings is None else f"{found} in {counted(summary.findings, 'finding')}"
        table = Table("answer", "images", "share", title=title, title_justify="left")
        for column in table.columns[1:]:
            column.justify = "right"
        for name, count, is_part in totals(summary):
            text = Text(f"  {name}") if is_part else Text(name, style=_STYLES.get(name, ""))
            table.add_row(text, str(count), f"{count / summary.judged:.1%}")
        return table

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
    """Return the file, and in brackets what is to be known of its row."""
    name, verdict = Text(visible(result.path)), result.verdict
    remarks = [", ".join(result.warnings)] if result.warnings else []
    if result.duplicate_of is not None:
        remarks.append(f"copy of {visible(result.duplicate_of)}")
    if verdict is not None and verdict.stability is not None and verdict.stability.flips:
        remarks.append(", ".join(f"{label} as {one}" for one, label in verdict.stability.flips.items()))
    for remark in remarks:
        name.append(f"  [{remark}]", style="yellow")
    return name


def has_strength(header: RunHeader) -> bool:
    """Tell whether any model of a scan has a likelihood ratio."""
    decisions = (one for model in header.models for one in model.decisions.values())
    return any(decision["log10_lr_bounds"] for decision in decisions)


def meanings(labels: Sequence[str], with_strength: bool) -> Iterator[str]:
    """Yield the sentences that explain a report's rows, for models of these labels."""
    if REAL in labels:
        yield P_MEANING
    if with_strength:
        yield STRENGTH_MEANING
    generators = ", ".join(label for label in labels if label != REAL)
    yield f"An answer is no proof, and no generator can be named but {generators}."


def totals(summary: Summary) -> Iterator[tuple[str, int, bool]]:
    """Yield (answer, images, whether it is a part of the answer before it): headlines, and below each what it names."""
    for headline in (GENERATED, REAL, UNDECIDED):
        if not (count := summary.headlines.get(headline, 0)):
            continue
        yield headline, count, False
        parts = {
            name: images
            for (which, name), images in summary.answers.items()
            if which == headline and shown_name(name, ())
        }
        yield from ((shown_name(name, ()), images, True) for name, images in sorted(parts.items(), key=_largest_first))
        if parts and (rest := count - sum(parts.values())):
            yield "no generator named", rest, True


def _largest_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def chance(p: float) -> str:
    """Return a probability with three digits that never looks certain by rounding."""
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
        self._labels = known_labels(header.labels)
        self._has_strength = has_strength(header)
        about = [
            f"genforensic {header.version}, started {header.started}",
            *(f"model {model.name}, sha256 `{model.sha256}`" for model in header.models),
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
