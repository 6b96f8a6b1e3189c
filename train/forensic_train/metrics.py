"""The paper's tables: precision, recall, F1 and support for every generator, macro averages, accuracy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_Z95 = 1.959964


@dataclass(frozen=True)
class ClassMetrics:
    """The line of one generator in the table."""

    generator: str
    """Its label."""
    precision: float
    """0 to 1; 0 if no image got the label."""
    recall: float
    """0 to 1."""
    f1: float
    """0 to 1."""
    support: int
    """Number of images by this generator."""


@dataclass(frozen=True)
class Metrics:
    """Figures of one model on one set of images."""

    images: int
    """Number of images."""
    accuracy: float
    """Share of images with the right raw label, 0 to 1."""
    interval: tuple[float, float]
    """Wilson 95 % interval of the accuracy."""
    precision: float
    """Macro average, 0 to 1."""
    recall: float
    """Macro average, 0 to 1."""
    f1: float
    """Macro average, 0 to 1."""
    classes: tuple[ClassMetrics, ...]
    """A line for each generator that has images."""
    confusion: tuple[tuple[int, ...], ...]
    """Number of images, true label x predicted label, in the label order of the model."""
    worst_cell: str
    """Cell (generator / subject) with the lowest accuracy."""
    worst_cell_accuracy: float
    """Its accuracy, 0 to 1."""
    worst_cell_images: int
    """Its number of images."""
    ece: float
    """Expected calibration error of the calibrated scores, 0 to 1."""
    decided: float | None = None
    """Share of images whose headline is `generated` or `real`; None if answers were not evaluated."""
    decided_accuracy: float | None = None
    """Share of those headlines that are right; None if there are none."""
    named: float | None = None
    """Share of images whose verdict names a generator."""
    named_accuracy: float | None = None
    """Share of those names that are right; None if there are none."""


def wilson_interval(right: int, images: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927); (0, 1) without images."""
    if images == 0:
        return 0.0, 1.0
    p, z2 = right / images, _Z95**2
    centre = (p + z2 / (2 * images)) / (1 + z2 / images)
    half = _Z95 * math.sqrt(p * (1 - p) / images + z2 / (4 * images**2)) / (1 + z2 / images)
    return max(0.0, centre - half), min(1.0, centre + half)


def class_table(truth: Sequence[str], predicted: Sequence[str], labels: Sequence[str]) -> tuple[ClassMetrics, ...]:
    """Return precision, recall, F1 and support (scikit-learn) for every label that has images."""
    from sklearn.metrics import precision_recall_fscore_support

    present = [label for label in labels if label in set(truth)]
    columns = precision_recall_fscore_support(truth, predicted, labels=present, zero_division=0)
    return tuple(
        ClassMetrics(label, float(p), float(r), float(f), int(n))
        for label, p, r, f, n in zip(present, *columns, strict=True)
    )


def worst_cell(cells: Sequence[tuple[str, str]], right: Sequence[bool]) -> tuple[str, float, int]:
    """Return name, accuracy and number of images of the cell with the lowest accuracy, the largest one of several."""
    results: dict[tuple[str, str], list[bool]] = {}
    for cell, correct in zip(cells, right, strict=True):
        results.setdefault(cell, []).append(correct)
    name, outcomes = min(results.items(), key=lambda item: (sum(item[1]) / len(item[1]), -len(item[1])))
    return " / ".join(part for part in name if part), sum(outcomes) / len(outcomes), len(outcomes)
