"""Likelihood ratios of one generator against another of the known: how they are fitted, bounded and measured.

The two statements that a ratio compares are "the image is of this label" and "it is of another known label, each of
them equally likely beforehand". Every other label therefore weighs the same here, however many images it has.

The costs follow Brümmer and du Preez (2006), the bounds Vergeer et al. (2016); values are tested against those of the
`lir` package of the Netherlands Forensic Institute. It is no dependency: it brings an optimiser, a database toolkit
and pandas along, for the four functions that are needed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import LEAST_PROBABILITY, LikelihoodRatio, ModelCard
from forensic_cli.ensemble import UNKNOWN, Probabilities
from forensic_train.folds import Indices, two_class_folds

LEAST_IMAGES = 10
"""Images for and against a label that a ratio needs; with fewer the label gets none."""
STEP = 0.01
"""Spacing of the bounds, log10."""

Ratios: TypeAlias = npt.NDArray[np.float64]
"""log10 likelihood ratios, or weights, of B images."""
Sides: TypeAlias = npt.NDArray[np.bool_]
"""True for images of the label, False for the others, B."""


@dataclass(frozen=True)
class RatioCosts:
    """What likelihood ratios of one label cost on a set of images."""

    images_for: int
    """Images of the label."""
    images_against: int
    """Images of the other known labels."""
    cllr: float
    """Log-likelihood-ratio cost in bits; 0 is perfect, 1 is what ratios of 1 would cost."""
    cllr_min: float
    """The part that no calibration could mend."""
    cllr_cal: float
    """The rest."""


def cllr(log10_lrs: Ratios, positive: Sides, weights: Ratios | None = None) -> float:
    """Return the log-likelihood-ratio cost, in bits. Infinite ratios on the right side cost nothing."""
    weights = np.ones(len(log10_lrs)) if weights is None else weights
    nats = np.asarray(log10_lrs, np.float64) * np.log(10)
    cost_for = np.average(np.logaddexp(0, -nats[positive]), weights=weights[positive])
    cost_against = np.average(np.logaddexp(0, nats[~positive]), weights=weights[~positive])
    return float((cost_for + cost_against) / 2 / np.log(2))


def cllr_min(log10_lrs: Ratios, positive: Sides, weights: Ratios | None = None) -> float:
    """Return the cost after the best monotone calibration of these very images (pool adjacent violators)."""
    from sklearn.isotonic import IsotonicRegression

    weights = np.ones(len(log10_lrs)) if weights is None else weights
    # Ranks: only the order matters, and neighbours that are almost equal would break the interpolation
    ranks = np.unique(log10_lrs, return_inverse=True)[1]
    isotonic = IsotonicRegression(y_min=0, y_max=1)
    fitted = isotonic.fit(ranks, positive.astype(float), _balanced(positive, weights)).predict(ranks)
    with np.errstate(divide="ignore"):
        best = np.log10(fitted) - np.log10(1 - fitted)
    return cllr(best, positive, weights)


def elub(log10_lrs: Ratios, positive: Sides, weights: Ratios | None = None) -> tuple[float, float]:
    """Return the least and the greatest log10 ratio that the images support (empirical lower and upper bounds).

    Beyond a bound, decisions by these ratios would cost more than decisions without any, were one more misleading
    image found on each side. Weighted images count as Kish's effective number of equal ones.
    """
    weights = np.ones(len(log10_lrs)) if weights is None else weights
    count_for, count_against = (weights[side].sum() ** 2 / (weights[side] ** 2).sum() for side in (positive, ~positive))
    lowest = max(float(log10_lrs.min()), -np.log10(count_for + 1))
    highest = min(float(log10_lrs.max()), np.log10(count_against + 1))
    steps = np.arange(min(0, int(lowest // STEP)), max(0, int(highest // STEP) + 1) + 1)
    thresholds = np.asarray(steps * STEP, np.float64)
    accepted_for = _share_above(log10_lrs[positive], weights[positive], thresholds)
    accepted_against = _share_above(log10_lrs[~positive], weights[~positive], thresholds)
    missed = ((1 - accepted_for) * count_for + 1) / (count_for + 1)
    mistaken = (accepted_against * count_against + 1) / (count_against + 1)
    odds = 10.0**thresholds
    harmful = missed + odds * mistaken > np.minimum(1, odds)
    lower = max([*(steps[harmful & (steps <= 0)] + 1), steps[0]])
    upper = min([*(steps[harmful & (steps >= 0)] - 1), steps[-1]])
    return round(min(int(lower), 0) * STEP, 2), round(max(int(upper), 0) * STEP, 2)


def likelihood_ratios(
    probabilities: Probabilities, targets: Indices, groups: Sequence[str], labels: Sequence[str]
) -> dict[str, LikelihoodRatio]:
    """Fit a ratio for every known label with enough images, from calibrated probabilities B x K of held-out images.

    `targets`: B indices of the true label; images of the label `unknown` are left aside. `groups`: B names. Costs
    and bounds come from groups that were left out in turn, never from images that a ratio was fitted on.
    """
    known = [k for k, label in enumerate(labels) if label != UNKNOWN]
    chosen = np.isin(targets, known)
    probabilities, targets = probabilities[chosen], targets[chosen]
    names = [name for name, wanted in zip(groups, chosen, strict=True) if wanted]
    counts = {k: int((targets == k).sum()) for k in known}
    return {
        labels[k]: _one_ratio(_log_odds(probabilities[:, k]), targets == k, _weights(targets, k), names)
        for k in known
        if min(counts[k], len(targets) - counts[k]) >= LEAST_IMAGES
    }


def measure_ratios(card: ModelCard, probabilities: Probabilities, targets: Indices) -> dict[str, RatioCosts]:
    """Measure a card's ratios on images that it was not made with: calibrated B x K and B indices of the true label."""
    found = {}
    for label in card.likelihood_ratios:
        ratios, positive, weights = held_ratios(card, label, probabilities, targets)
        if positive.any() and not positive.all():
            cost, least = cllr(ratios, positive, weights), cllr_min(ratios, positive, weights)
            found[label] = RatioCosts(int(positive.sum()), int((~positive).sum()), cost, least, cost - least)
    return found


def held_ratios(
    card: ModelCard, label: str, probabilities: Probabilities, targets: Indices
) -> tuple[Ratios, Sides, Ratios]:
    """Return log10 ratios of a label for the images of known labels, which of them are of it, and their weights."""
    k = card.labels.index(label)
    known = np.array([name != UNKNOWN for name in card.labels])[targets]
    ratios = np.array([card.likelihood_ratios[label].log10(float(p)) for p in probabilities[known, k]])
    return ratios, targets[known] == k, _weights(targets[known], k)


def _one_ratio(log_odds: Ratios, positive: Sides, weights: Ratios, groups: Sequence[str]) -> LikelihoodRatio:
    folds, left_out = two_class_folds(positive, groups)
    free, bounded = np.zeros(len(log_odds)), np.zeros(len(log_odds))
    for kept, out in folds:
        slope, intercept = _fit(log_odds[kept], positive[kept], weights[kept])
        limits = elub(_log10(log_odds[kept], slope, intercept), positive[kept], weights[kept])
        free[out] = _log10(log_odds[out], slope, intercept)
        bounded[out] = np.clip(free[out], *limits)
    slope, intercept = _fit(log_odds, positive, weights)
    lower, upper = elub(free, positive, weights)
    cost, least = cllr(bounded, positive, weights), cllr_min(bounded, positive, weights)
    return LikelihoodRatio(
        slope=round(slope, 6),
        intercept=round(intercept, 6),
        lower=lower,
        upper=upper,
        images_for=int(positive.sum()),
        images_against=int((~positive).sum()),
        groups=left_out,
        cllr=round(cost, 6),
        cllr_min=round(least, 6),
        cllr_cal=round(cost - least, 6),
    )


def _fit(log_odds: Ratios, positive: Sides, weights: Ratios) -> tuple[float, float]:
    """Fit slope and intercept by logistic regression; both sides weigh the same, which removes the prior odds."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(log_odds[:, None], positive, _balanced(positive, weights))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    # A higher probability that spoke against its label would be no evidence of anything
    return (slope, intercept) if slope > 0 else (0.0, 0.0)


def _balanced(positive: Sides, weights: Ratios) -> Ratios:
    totals = np.where(positive, weights[positive].sum(), weights[~positive].sum())
    return np.asarray(weights / totals * len(weights) / 2, np.float64)


def _weights(targets: Indices, k: int) -> Ratios:
    """Weigh images so that each label other than k counts the same in all."""
    counts = np.bincount(targets, minlength=k + 1)
    others = int(np.count_nonzero(counts)) - int(counts[k] > 0)
    against = (len(targets) - counts[k]) / max(1, others)
    return np.where(targets == k, 1.0, against / counts[targets])


def _share_above(values: Ratios, weights: Ratios, thresholds: Ratios) -> Ratios:
    order = np.argsort(values)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    places = np.searchsorted(values[order], thresholds, side="right")
    return np.asarray(1 - below[places] / below[-1], np.float64)


def _log_odds(probabilities: Ratios) -> Ratios:
    p = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)), np.float64)


def _log10(log_odds: Ratios, slope: float, intercept: float) -> Ratios:
    return np.asarray((slope * log_odds + intercept) / np.log(10), np.float64)
