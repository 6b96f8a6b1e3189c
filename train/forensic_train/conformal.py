"""Class-conditional conformal sets whose quantiles are the worst over groups of images, such as subjects.

One quantile a label over all images would hold on the average image and fail for the subject that the model reads
worst. Here a label's quantile is the largest that any group asks for (a conservative form of group-conditional
validity), so that the stated coverage holds in every group that had enough images.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import ConformalSets, SetFigures
from forensic_cli.ensemble import UNKNOWN, Probabilities
from forensic_train.folds import Indices, group_folds

LEVELS = ("0.50", "0.60", "0.70", "0.80", "0.90", "0.95", "0.99")
"""Coverage levels that a card stores."""
DEFAULT_LEVEL = "0.90"
LEAST_IMAGES = 10
"""Images of a label that a group needs to have a quantile of its own."""

Scores: TypeAlias = npt.NDArray[np.float64]
Quantiles: TypeAlias = dict[str, dict[str, float]]


def conformal_sets(
    probabilities: Probabilities,
    targets: Indices,
    groups: Sequence[str],
    labels: Sequence[str],
    default: str = DEFAULT_LEVEL,
    note: str = "",
) -> ConformalSets:
    """Take quantiles from calibrated probabilities B x K of held-out images.

    `targets`: B indices of the true label. `groups`: B names, the subject or the source of each image.
    """
    quantiles = _quantiles(probabilities, targets, np.asarray(groups, object), labels)
    known = [k for k, label in enumerate(labels) if label != UNKNOWN]
    return ConformalSets(
        quantiles=quantiles,
        default=default,
        images=int(np.isin(targets, known).sum()),
        note=note,
        measured=_measured(probabilities, targets, groups, labels),
    )


def corrected_quantile(scores: Scores, level: str) -> float:
    """Return the ceil((n + 1) * level)-th smallest of n nonconformities; 1.0 where n is too small for the level.

    The + 1 stands for the image to come: it makes the coverage hold for finite n (Vovk et al. 2005).
    """
    rank = math.ceil((len(scores) + 1) * Fraction(level))  # exact: in floating point 0.7 * 10 may end above 7
    if rank > len(scores):
        return 1.0
    # rounded up: rounding must not take a label out of a set
    return min(1.0, math.ceil(float(np.sort(scores)[rank - 1]) * 1e6) / 1e6)


def _quantiles(
    probabilities: Probabilities, targets: Indices, groups: npt.NDArray[np.object_], labels: Sequence[str]
) -> Quantiles:
    parts = {
        label: _parts(1 - probabilities[targets == k, k], groups[targets == k])
        for k, label in enumerate(labels)
        if label != UNKNOWN
    }
    return {
        level: {label: max(corrected_quantile(part, level) for part in some) for label, some in parts.items()}
        for level in LEVELS
    }


def _parts(scores: Scores, groups: npt.NDArray[np.object_]) -> list[Scores]:
    """Split one label's nonconformities by group; small groups are pooled, with a larger one if need be."""
    by_group = sorted((scores[groups == name] for name in sorted(set(groups))), key=len)
    pooled: Scores = np.zeros(0)
    while by_group and (len(by_group[0]) < LEAST_IMAGES or 0 < len(pooled) < LEAST_IMAGES):
        pooled = np.concatenate([pooled, by_group.pop(0)])
    return [pooled, *by_group] if len(pooled) or not by_group else by_group


def _measured(
    probabilities: Probabilities, targets: Indices, groups: Sequence[str], labels: Sequence[str]
) -> Mapping[str, SetFigures]:
    """Measure sets on groups that were left out when their quantiles were taken; empty with one group."""
    names = np.asarray(groups, object)
    known = [k for k, label in enumerate(labels) if label != UNKNOWN]
    holds = {level: np.zeros((len(targets), len(known)), bool) for level in LEVELS}
    folds = group_folds(groups)
    for kept, out in folds:
        quantiles = _quantiles(probabilities[kept], targets[kept], names[kept], labels)
        for level in LEVELS:
            most = np.array([quantiles[level][labels[k]] for k in known])
            holds[level][out] = 1 - probabilities[out][:, known] <= most
    return {level: _figures(holds[level], targets, names, known) for level in LEVELS} if folds else {}


def _figures(
    holds: npt.NDArray[np.bool_], targets: Indices, groups: npt.NDArray[np.object_], known: Sequence[int]
) -> SetFigures:
    by_label, by_cell = [], []
    for column, k in enumerate(known):
        covered, names = holds[targets == k, column], groups[targets == k]
        if len(covered):
            by_label.append(float(covered.mean()))
        cells = [covered[names == name] for name in sorted(set(names))]
        by_cell += [float(cell.mean()) for cell in cells if len(cell) >= LEAST_IMAGES]
    sizes = holds[np.isin(targets, known)].sum(axis=1)
    return SetFigures(
        coverage=round(float(np.mean(by_label or [1.0])), 6),
        worst_coverage=round(min(by_cell or by_label or [1.0]), 6),
        size=round(float(sizes.mean()) if len(sizes) else float(len(known)), 6),
    )
