"""Tables that are made once and shown in a terminal, in Markdown or on a page; the tables of a model card."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from forensic_cli.card import NEVER, Counts, LikelihoodRatio, ModelCard

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_BAR = re.compile(r"(?<!\\)\|")
MISSING = "–"
"""Stands in a cell for a figure that there is none of."""


@dataclass(frozen=True)
class Table:
    """Rows under a title. Cells are shown as `str` gives them. Raises ValueError for ragged rows."""

    title: str
    """A few words, without a full stop."""
    columns: Sequence[str]
    """The first one names the rows."""
    rows: Sequence[Sequence[object]]
    """As many cells in each row as there are columns."""
    note: str = ""
    """A paragraph that explains the table; not shown in a terminal."""
    styles: Mapping[int, str] = field(default_factory=dict)
    """{row: rich style}, such as "bold"; in Markdown the names of these rows are bold."""
    left: Collection[int] = (0,)
    """Columns that are aligned left: words. Figures are aligned right."""
    unbroken: Collection[int] = (0,)
    """Columns whose cells a terminal never breaks."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.title}: a row does not have one cell for each of {list(self.columns)}")

    def rich(self) -> "RichTable":
        """Return the table for a terminal."""
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for place, name in enumerate(self.columns):
            table.add_column(name, justify="left" if place in self.left else "right", no_wrap=place in self.unbroken)
        for place, row in enumerate(self.rows):
            table.add_row(*map(str, row), style=self.styles.get(place))
        return table

    def markdown(self, level: int = 0) -> str:
        """Return the table in Markdown, below its title as a heading of a level and its note; 0: the table alone."""
        rule = ["---" if place in self.left else "---:" for place in range(len(self.columns))]
        rows = [
            [f"**{name}**" if place in self.styles else name, *cells] for place, (name, *cells) in enumerate(self.rows)
        ]
        above = [f"{'#' * level} {self.title}", self.note] if level else []
        return "\n\n".join([*filter(None, above), "\n".join(map(_markdown_row, [self.columns, rule, *rows]))])


def _markdown_row(cells: Iterable[object]) -> str:
    """Return one line of a table; a bar in a cell is escaped unless it is already, because it would end the cell."""
    return "| " + " | ".join(_BAR.sub(r"\|", str(cell)) for cell in cells) + " |"


RATIO_MEANING = (
    "Support is a likelihood ratio: how many times more probable the measurement is if the answer is true than if it "
    "is false. It is weak from 2, moderate from 10, moderately strong from 100, strong from 1,000, very strong from "
    "10,000 and extremely strong from 1,000,000. It is not the probability that the answer is true."
)
"""What a likelihood ratio and the words of `strength` mean: the only explanation, for every report and card."""
_SETS = {
    "test": "held out from the training of every technique",
    "unseen": "all unseen images, including those that `finetune` adapts to",
    "left-out": "each judged by a model of the same kind that was trained without it; an export that was trained on "
    "all images is not that model",
}
"""What the image sets of `evaluate` are."""
_STATES = (
    "The state of an image is read from its file: lossless, WebP, or the quality of a JPEG. Each state has its own "
    "weights and thresholds; images in any other state stay `undecided`. The sources of these images were used neither "
    "to train the model that judged them nor to choose the thresholds; 95 % intervals are over sources. `as found` are "
    "images as they were published; `all forms` adds compressed, resized and re-saved copies. Shares are at even odds: "
    "sources weigh the same within a label, labels within generated, and generated as much as real. An answer of "
    "which fewer than nine in ten were right is not given. Expect somewhat worse on sources of another kind, because "
    "the recipe was chosen on the same folds."
)
_RATIOS = (
    f"{RATIO_MEANING} Two pairs of statements are compared: the image is generated, or it is real; and one generator "
    "made it, or another known generator did. The table gives log10 LR, so +2 means 100 times more probable. Values "
    "stop at the limits that the validation images support (ELUB). Cllr is the cost in bits: 0 is perfect, 1 is "
    "worthless. Cllr_min is what remains under perfect calibration, Cllr_cal what imperfect calibration adds. A "
    "statement whose cost is not clearly below 1 (97.5 % quantile over resampled sources) has no ratio."
)


def card_tables(card: ModelCard) -> list[Table]:
    """Return what was measured of a model and how it decides; a table that would be empty is left out."""
    measured = {state: decision.measured for state, decision in card.decisions.items()}
    silent = [state for state, decision in card.decisions.items() if decision.is_silent]
    tables = [
        state_table("Answers by state", measured, silent, _STATES),
        _thresholds(card),
        _likelihood_ratios(card),
        *(metrics_table(f"Measured on {name}", name, metrics) for name, metrics in card.metrics.items()),
        _robustness(card.robustness),
    ]
    return [table for table in tables if table.rows]


def metrics_table(title: str, images: str, metrics: Mapping[str, Any]) -> Table:
    """Return precision, recall and F1 of every generator; `images` names the set, `metrics` is a Metrics as a dict."""
    low, high = metrics["interval"]
    note = (
        f"{metrics['images']} images ({_SETS.get(images, 'labelled images')}): accuracy {metrics['accuracy']:.3f} "
        f"(95 % Wilson interval {low:.3f} to {high:.3f}), expected calibration error {metrics['ece']:.3f}. Worst cell: "
        f"{metrics['worst_cell']}, {metrics['worst_cell_accuracy']:.3f} of {metrics['worst_cell_images']}."
    )
    if metrics.get("decided") is not None:
        note += (
            f" A scan decides between `generated` and `real` for {metrics['decided']:.1%}, of which "
            f"{_share(metrics['decided_accuracy'])} are right; it names a generator for {metrics['named']:.1%}, of "
            f"which {_share(metrics['named_accuracy'])} are right."
        )
    columns = ("generator", "precision", "recall", "F1", "images")  # "support" is the likelihood ratio here
    rows = [[line["generator"], *_class_figures(line), line["support"]] for line in metrics["classes"]]
    rows.append(["macro average", *_class_figures(metrics), metrics["images"]])
    return Table(title, columns, rows, note, styles={len(rows) - 1: "bold"})


def _class_figures(record: Mapping[str, Any]) -> Iterator[str]:
    return (f"{record[name]:.2f}" for name in ("precision", "recall", "f1"))


def state_table(
    title: str, states: Mapping[str, Mapping[str, Any]], silent: Sequence[str] = (), note: str = ""
) -> Table:
    """Return the answers in each state, by what was done to its images: {state: {forms: figures of decide.measure}}.

    In a `silent` state no answer is given; its rows say what answers would have been worth.
    """
    columns = (
        *("state", "images", "sources", "macro recall", "AUROC generated/real", "decided", "of these right"),
        *("real called generated", "generated named", "of the names right", "ECE"),
    )
    shares = ("auroc", "decided", "decided_right", "real_called_generated", "named", "named_right")
    rows = [
        [
            f"{state}, {forms}" + (" (gives no answer)" if state in silent else ""),
            figures["images"],
            figures["sources"],
            f"{_with_interval(figures, 'macro_recall')} of {figures['labels']} labels",
            *(_with_interval(figures, name) for name in shares),
            MISSING if figures["ece"] is None else f"{figures['ece']:.2f}",
        ]
        for state, measured in states.items()
        for forms, figures in measured.items()
    ]
    return Table(title, columns, rows, note)


def _with_interval(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    if value is None:
        return MISSING
    low, high = figures["intervals"].get(name, (value, value))
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _thresholds(card: ModelCard) -> Table:
    columns = ("state", "generated from p", "real up to p", "name from", "short list holds", "farthest")
    rows = [
        [
            state,
            _threshold(decision.generated_from),
            _threshold(decision.real_to),
            decision.names_in_words,
            f"{decision.shortlist:.2f}",
            MISSING if decision.farthest is None else f"{decision.farthest:.2f}",
        ]
        for state, decision in card.decisions.items()
    ]
    note = (
        "`name from` is a probability among the generators, `short list holds` how much of it the candidates have "
        "together; an image farther from the training images than `farthest` stays `undecided`."
    )
    return Table("Thresholds", columns, rows, note, left=(0, 3))


def _threshold(probability: float) -> str:
    return "never" if abs(probability) >= NEVER else f"{probability:.4f}"


def _likelihood_ratios(card: ModelCard) -> Table:
    columns = (
        *("state and statement", "lowest", "highest", "Cllr", "Cllr_min", "Cllr_cal"),
        *("images for", "against", "sources"),
    )
    rows = [
        [f"{state}, {label}", *_ratio_cells(ratio)]
        for state, decision in card.decisions.items()
        for label, ratio in (("generated / real", decision.generated), *decision.ratios.items())
        if ratio is not None
    ]
    return Table("Likelihood ratios", columns, rows, _RATIOS)


def _ratio_cells(ratio: LikelihoodRatio) -> list[object]:
    costs = [MISSING if cost is None else f"{cost:.3f}" for cost in (ratio.cllr, ratio.cllr_min, ratio.cllr_cal)]
    return [f"{ratio.lower:+.2f}", f"{ratio.upper:+.2f}", *costs, ratio.images_for, ratio.images_against, ratio.groups]


def _robustness(measured: Mapping[str, Any]) -> Table:
    from forensic_cli.images.history import ORIGINAL, REENCODINGS

    start = measured.get(ORIGINAL, {}).get("accuracy")
    order = {name: place for place, name in enumerate((ORIGINAL, *REENCODINGS))}  # JSON keeps the card's keys sorted
    rows: list[list[object]] = [
        [
            name,
            figures["images"],
            f"{figures['accuracy']:.3f}",
            MISSING if start is None else f"{figures['accuracy'] - start:+.3f}",
            f"{figures['macro_recall']:.3f}",
        ]
        for name, figures in sorted(measured.items(), key=lambda item: order.get(item[0], len(order)))
    ]
    images = next((figures.get("set", "test") for figures in measured.values()), "test")
    note = f"The images of {images} were changed as platforms and editors change them, and judged again."
    columns = ("re-encoding", "images", "accuracy", "change", "macro recall")
    return Table("Robustness to re-encoding", columns, rows, note)


def counts_table(title: str, counts: Counts, corner: str) -> Table:
    """Return images by row and column with the totals of both; `corner` names the first column."""
    names = sorted({name for row in counts.values() for name in row})
    rows: list[list[object]] = [
        [row, *(cells.get(name, 0) or "·" for name in names), sum(cells.values())] for row, cells in counts.items()
    ]
    sums = [sum(cells.get(name, 0) for cells in counts.values()) for name in names]
    rows.append(["total", *sums, sum(sums)])
    columns = (corner, *(name or MISSING for name in names), "total")
    return Table(title, columns, rows, styles={len(rows) - 1: "bold"})
