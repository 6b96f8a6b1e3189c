"""Robustness as people read it: one table of accuracies, one of recalls, and a picture with a curve a technique."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forensic_cli.images.history import ORIGINAL
from forensic_train.robustness import RobustnessPoint, by_model

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class _Panel:
    """One of the small multiples."""

    title: str
    ticks: Mapping[str, str]
    """{re-encoding: its name on the axis}, from left to right."""
    label: str
    """Of the axis."""
    line: bool = True
    """The axis is a scale, along which a line may be drawn; else each entry stands alone."""


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
# Okabe and Ito's palette, which colour-blind readers can tell apart; markers carry the same in grey
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def robustness_tables(points: Sequence[RobustnessPoint]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield (title, header, rows): accuracy with its interval, then macro recall, a column a model."""
    models = by_model(points)
    names = list(dict.fromkeys(one.reencoding for one in points))
    header = ["re-encoding", *models]
    accuracy = [[name, *(_accuracy(found.get(name)) for found in models.values())] for name in names]
    recall = [[name, *(_recall(found.get(name)) for found in models.values())] for name in names]
    yield "Accuracy (95 % Wilson) under re-encoding", header, accuracy
    yield "Macro recall under re-encoding", header, recall


def draw_robustness(points: Sequence[RobustnessPoint], folder: Path) -> Path:
    """Draw the accuracies to FOLDER/robustness.png: panels for JPEG, WebP, resizing and the rest; returns the file.

    Bars are Wilson 95 % intervals. All panels share the axis of the accuracy.
    """
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    models = by_model(points)
    widths = [len(panel.ticks) + (not panel.line) for panel in _PANELS]  # words are wider than figures
    grid = figure.subplots(1, len(_PANELS), sharey=True, width_ratios=widths, squeeze=False)
    for axes, panel in zip(grid[0], _PANELS, strict=True):
        for place, (name, found) in enumerate(models.items()):
            _draw_model(axes, panel, found, place, len(models), name)
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
    axes: "Axes", panel: _Panel, found: Mapping[str, RobustnessPoint], place: int, count: int, name: str
) -> None:
    """Draw one model's points of one panel, set apart from the other models' so that no bar hides another."""
    there = [(x, found[key]) for x, key in enumerate(panel.ticks) if key in found]
    apart = (place - (count - 1) / 2) * min(0.12, 0.6 / count)
    heights = [one.accuracy for _, one in there]
    below = [one.accuracy - one.interval[0] for _, one in there]
    above = [one.interval[1] - one.accuracy for _, one in there]
    axes.errorbar(
        [x + apart for x, _ in there],
        heights,
        # rounding may put a bound of 0 or 1 on the wrong side of the point
        yerr=[[max(0.0, gap) for gap in below], [max(0.0, gap) for gap in above]],
        color=_COLOURS[place % len(_COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        markersize=5,
        linestyle="-" if panel.line else "none",
        linewidth=1.5,
        elinewidth=0.8,
        label=name,
    )


def _accuracy(one: RobustnessPoint | None) -> str:
    if one is None:
        return "–"
    return f"{one.accuracy:.3f} ({one.interval[0]:.2f}–{one.interval[1]:.2f})"


def _recall(one: RobustnessPoint | None) -> str:
    return "–" if one is None else f"{one.macro_recall:.3f}"
