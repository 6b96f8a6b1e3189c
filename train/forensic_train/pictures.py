"""Pictures of calibration and of likelihood ratios, as matplotlib figures from arrays."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from forensic_train.likelihood import Ratios, Sides

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 15
_COLUMNS = 3


def tippett(by_label: Mapping[str, tuple[Ratios, Sides]], title: str) -> "Figure":
    """Draw the share of images whose log10 ratio exceeds each value: of the label itself and of the others.

    `by_label`: log10 ratios of B images, and which of these are of the label. Good ratios keep the curves apart:
    the upper one drops right of 0, the lower one left of it. What is on the wrong side misleads.
    """
    from matplotlib.figure import Figure

    columns = max(1, min(_COLUMNS, len(by_label)))
    lines = max(1, math.ceil(len(by_label) / columns))
    figure = Figure(figsize=(0.5 + 3.4 * columns, 0.6 + 2.8 * lines), layout="constrained")
    figure.suptitle(title)
    for place, (label, (ratios, positive)) in enumerate(by_label.items()):
        axes = figure.add_subplot(lines, columns, place + 1)
        for values, name, style in ((ratios[positive], label, "-"), (ratios[~positive], "another", "--")):
            axes.step(*_exceeding(values), style, where="post", label=f"{name} ({len(values)})")
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("log10 likelihood ratio")
        axes.set_ylabel("share above")
        axes.legend(fontsize="small")
    return figure


def reliability(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], title: str) -> "Figure":
    """Draw accuracy against confidence in 15 equal bins, from calibrated B x K; the area shows a bin's images."""
    from matplotlib.figure import Figure

    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    used = np.unique(bins)
    shares = np.array([(bins == b).mean() for b in used])
    figure = Figure(figsize=(4.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.scatter(
        [confidence[bins == b].mean() for b in used],
        [right[bins == b].mean() for b in used],
        20 + 400 * shares,
        alpha=0.7,
    )
    axes.set_xlim(0, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy")
    axes.set_title(title)
    return figure


def _exceeding(values: Ratios) -> tuple[Ratios, Ratios]:
    """Return places and heights of the falling step curve of the share above a value."""
    places = np.sort(values)
    shares = 1 - np.arange(len(values) + 1) / max(1, len(values))
    start = places[0] - 0.5 if len(places) else 0.0
    return np.concatenate([[start], places]), np.asarray(shares, np.float64)
