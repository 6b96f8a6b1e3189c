"""Open-set measures: how well scores separate images of unknown generators from those of known ones."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[np.float64]
"""How much an image looks like a known label, such as its highest calibrated probability of one."""


def auroc(
    known: Scores, unknown: Scores, known_weights: Scores | None = None, unknown_weights: Scores | None = None
) -> float:
    """Return the chance that an image of a known label scores above one of an unknown generator; ties count half.

    Images count by their weights; None: equally. Raises ValueError if either has no images.
    """
    _check(known, unknown)
    # Ranks of the scores: each known image is compared with the unknown ones below it and half of its ties
    place = np.unique(np.concatenate([known, unknown]), return_inverse=True)[1]
    count = int(place.max()) + 1
    above = np.bincount(place[: len(known)], known_weights, count).astype(np.float64)
    below = np.bincount(place[len(known) :], unknown_weights, count).astype(np.float64)
    return float((above * (np.cumsum(below) - below / 2)).sum() / (above.sum() * below.sum()))


def oscr_curve(known: Scores, right: npt.NDArray[np.bool_], unknown: Scores) -> tuple[Scores, Scores]:
    """Return the open-set classification rate curve (Dhamija et al. 2018): false positive and right shares.

    Over falling thresholds: the share of unknown images that score at least the threshold, and the share of known
    ones that do and whose top label is `right`. Both start at 0. Raises ValueError if either has no images.
    """
    _check(known, unknown)
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]
    false = _shares_reaching(unknown, thresholds, len(unknown))
    correct = _shares_reaching(known[right], thresholds, len(known))
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], correct])


def oscr(known: Scores, right: npt.NDArray[np.bool_], unknown: Scores) -> float:
    """Return the area under `oscr_curve`, 0 to 1: at most the accuracy on known images, and at most the AUROC."""
    false, correct = oscr_curve(known, right, unknown)
    return float(np.trapezoid(correct, false))


def _shares_reaching(scores: Scores, thresholds: Scores, total: int) -> Scores:
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray((len(scores) - below) / total, np.float64)


def _check(known: Scores, unknown: Scores) -> None:
    if len(known) == 0 or len(unknown) == 0:
        raise ValueError("open-set measures need images of known labels and of unknown generators")
