"""Robustness for people: a table of accuracies, a table of recalls, and a chart with a curve for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forensic_cli.images.history import ORIGINAL
from forensic_cli.tables import MISSING, Table
from forensic_train.robustness import RobustnessPoint, by_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Panel:
    """One of the charts beside each other."""

    title: str
    ticks: Mapping[str, str]
    """{re-encoding: its name on the axis}, from left to right."""
    label: str
    """Label of the axis."""
    line: bool = True
    """Whether the ticks are points on a scale, which a line may join."""


_PANELS = (
    _Panel("JPEG", {ORIGINAL: "as is", "jpeg95": "95", "jpeg90": "90", "jpeg75": "75", "jpeg50": "50"}, "quality"),
    _Panel("WebP", {ORIGINAL: "as is", "webp90": "90", "webp75": "75"}, "quality"),
    _Panel(
        "Resize",
        {"resize0.5": "0.5", "resize0.75": "0.75", ORIGINAL: "1", "resize1.5": "1.5"},
        "factor of both sides",
    ),
    _Panel(
        "Other changes",
        {ORIGINAL: "as is", "blur": "blur", "crop": "crop", "screenshot": "screenshot"},
        "",
        line=False,
    ),
)
# The Okabe-Ito palette, which colour-blind readers can tell apart; the markers do the same in greyscale
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def robustness_tables(points: Sequence[RobustnessPoint]) -> list[Table]:
    """Return two tables with a column for each model: accuracy with its interval, and macro recall."""
    models = by_model(points)
    names = list(dict.fromkeys(point.reencoding for point in points))
    columns = ("re-encoding", *models)
    accuracy = [[name, *(_accuracy(measured.get(name)) for measured in models.values())] for name in names]
    recall = [[name, *(_recall(measured.get(name)) for measured in models.values())] for name in names]
    return [
        Table("Accuracy under re-encoding (95 % Wilson interval)", columns, accuracy),
        Table("Macro recall under re-encoding", columns, recall),
    ]


def draw_robustness(points: Sequence[RobustnessPoint], folder: Path) -> Path:
    """Draw the accuracies to FOLDER/robustness.png: panels for JPEG, WebP, resizing and the rest; returns the file.

    Bars are 95 % Wilson intervals. All panels share the accuracy axis.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    models = by_model(points)
    widths = [len(panel.ticks) + (not panel.line) for panel in _PANELS]  # words need more room than figures
    grid = figure.subplots(1, len(_PANELS), sharey=True, width_ratios=widths, squeeze=False)
    for axes, panel in zip(grid[0], _PANELS, strict=True):
        for place, (name, measured) in enumerate(models.items()):
            _draw_model(axes, panel, measured, place, len(models), name)
        axes.set_title(panel.title)
        axes.set_xlabel(panel.label)
        axes.set_xticks(range(len(panel.ticks)), list(panel.ticks.values()))
        axes.set_xlim(-0.5, len(panel.ticks) - 0.5)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0][0].set_ylim(0, 1.02)
    grid[0][0].set_ylabel("accuracy")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(4, len(models)), frameon=False)
    path = folder / "robustness.png"
    figure.savefig(path, dpi=120)
    return path


def _draw_model(
    axes: "Axes", panel: _Panel, measured: Mapping[str, RobustnessPoint], place: int, count: int, name: str
) -> None:
    """Draw the points of a model in a panel, shifted sideways so that its bars hide no other model's."""
    points = [(x, measured[key]) for x, key in enumerate(panel.ticks) if key in measured]
    shift = (place - (count - 1) / 2) * min(0.12, 0.6 / count)
    heights = [point.accuracy for _, point in points]
    below = [point.accuracy - point.interval[0] for _, point in points]
    above = [point.interval[1] - point.accuracy for _, point in points]
    axes.errorbar(
        [x + shift for x, _ in points],
        heights,
        # Rounding can put a bound of 0 or 1 on the wrong side of the point
        yerr=[[max(0.0, gap) for gap in below], [max(0.0, gap) for gap in above]],
        color=_COLOURS[place % len(_COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        markersize=5,
        linestyle="-" if panel.line else "none",
        linewidth=1.5,
        elinewidth=0.8,
        label=name,
    )


def _accuracy(point: RobustnessPoint | None) -> str:
    if point is None:
        return MISSING
    return f"{point.accuracy:.3f} ({point.interval[0]:.2f}–{point.interval[1]:.2f})"


def _recall(point: RobustnessPoint | None) -> str:
    return MISSING if point is None else f"{point.macro_recall:.3f}"
