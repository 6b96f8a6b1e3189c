"""Likelihood ratios: fitting, bounding and measuring them.

A ratio compares the statements "a generator made the image" and "the image is real", or "this generator made it" and
"another known generator made it, all of them equally likely beforehand". Labels and sources have the same weight on
each side, however many images they have.

The costs follow Brümmer and du Preez (2006), the bounds Vergeer et al. (2016); values are tested against those of the
`lir` package of the Netherlands Forensic Institute. It is not a dependency because it requires an optimizer, a database
toolkit and pandas, and only four functions are needed here.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import LEAST_PROBABILITY, LikelihoodRatio
from forensic_train.seeds import generator_for

LEAST_IMAGES = 10
"""Images that a ratio needs on each side; with fewer there is none."""
LEAST_SOURCES = 3
"""Sources that a ratio needs on each side."""
_DRAWN = 300
_MOST_FOLDS = 20
"""With more sources than this, several are left out together."""
STEP = 0.01
"""Spacing of the bounds, log10."""

Ratios: TypeAlias = npt.NDArray[np.float64]
"""log10 likelihood ratios, or weights, of B images."""
Sides: TypeAlias = npt.NDArray[np.bool_]
"""B: whether the first statement is true of an image."""


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
    # Ranks, because only the order matters and almost equal values would break the interpolation
    ranks = np.unique(log10_lrs, return_inverse=True)[1]
    isotonic = IsotonicRegression(y_min=0, y_max=1)
    fitted = isotonic.fit(ranks, positive.astype(float), _balanced(positive, weights)).predict(ranks)
    with np.errstate(divide="ignore"):
        best = np.log10(fitted) - np.log10(1 - fitted)
    return cllr(best, positive, weights)


def elub(log10_lrs: Ratios, positive: Sides, weights: Ratios | None = None) -> tuple[float, float]:
    """Return the least and the greatest log10 ratio that the images support (empirical lower and upper bounds).

    Beyond a bound, decisions based on these ratios could cost more than decisions without any: with one more misleading
    image on each side they would. Weighted images count as Kish's effective number of equally weighted ones.
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


def fit_ratio(share: Ratios, positive: Sides, weights: Ratios, sources: npt.NDArray[np.str_]) -> LikelihoodRatio | None:
    """Fit the ratio of a statement, true of the `positive` ones, to its calibrated probability `share`, B each.

    `weights`: how much each image counts on its side. Costs and bounds come from sources that were left out in turn,
    never from images that the ratio was fitted on. None if a side has too few images or sources, or if the cost is not
    clearly below 1, the cost of saying nothing: its upper 95 % limit over resampled sources must be below 1.
    """
    counts = [int(positive.sum()), int((~positive).sum())]
    units = [len(set(sources[side].tolist())) for side in (positive, ~positive)]
    if min(counts) < LEAST_IMAGES or min(units) < LEAST_SOURCES:
        return None
    log_odds = _log_odds(share)
    free, bounded = np.zeros(len(log_odds)), np.zeros(len(log_odds))
    folds = _source_folds(sources.tolist())
    for fitted, out in folds:
        if not positive[fitted].any() or positive[fitted].all():
            return None
        slope, intercept = _fit(log_odds[fitted], positive[fitted], weights[fitted])
        limits = elub(_log10(log_odds[fitted], slope, intercept), positive[fitted], weights[fitted])
        free[out] = _log10(log_odds[out], slope, intercept)
        bounded[out] = np.clip(free[out], *limits)
    cost, least = cllr(bounded, positive, weights), cllr_min(bounded, positive, weights)
    if (
        round(_upper_cost(bounded, positive, weights, sources), 6) >= 1
    ):  # saying nothing may add up to slightly less than 1
        return None
    slope, intercept = _fit(log_odds, positive, weights)
    lower, upper = elub(free, positive, weights)
    return LikelihoodRatio(
        slope=round(slope, 6),
        intercept=round(intercept, 6),
        lower=lower,
        upper=upper,
        images_for=counts[0],
        images_against=counts[1],
        groups=len(set(sources.tolist())),
        cllr=round(cost, 6),
        cllr_min=round(least, 6),
        cllr_cal=round(cost - least, 6),
    )


def _source_folds(sources: Sequence[str]) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return pairs of (fitted on, left out), the places of images; each source is left out once."""
    from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

    splitter = LeaveOneGroupOut() if len(set(sources)) <= _MOST_FOLDS else GroupKFold(_MOST_FOLDS)
    numbers = np.unique(np.asarray(sources, object).astype(str), return_inverse=True)[1]
    return [(np.asarray(fitted), np.asarray(out)) for fitted, out in splitter.split(numbers, groups=numbers)]


def _upper_cost(ratios: Ratios, positive: Sides, weights: Ratios, sources: npt.NDArray[np.str_]) -> float:
    """Return the 97.5 % quantile of the cost over resampled sources."""
    names, index = np.unique(sources, return_inverse=True)
    nats = ratios * np.log(10)
    costs = np.where(positive, np.logaddexp(0, -nats), np.logaddexp(0, nats)) * weights
    sums = np.zeros((4, len(names)))
    for row, side in ((0, positive), (2, ~positive)):
        np.add.at(sums[row], index[side], costs[side])
        np.add.at(sums[row + 1], index[side], weights[side])
    rng = generator_for("ratio", 0)
    drawn = []
    for _ in range(_DRAWN):
        total = sums[:, rng.integers(len(names), size=len(names))].sum(axis=1)
        if total[1] > 0 and total[3] > 0:
            drawn.append((total[0] / total[1] + total[2] / total[3]) / 2 / np.log(2))
    return float(np.quantile(drawn, 0.975)) if drawn else float("inf")


def _fit(log_odds: Ratios, positive: Sides, weights: Ratios) -> tuple[float, float]:
    """Fit slope and intercept by logistic regression; both sides weigh the same, which removes the prior odds."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(log_odds[:, None], positive, _balanced(positive, weights))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    # With a negative slope, a higher probability would speak against its own label
    return (slope, intercept) if slope > 0 else (0.0, 0.0)


def _balanced(positive: Sides, weights: Ratios) -> Ratios:
    """Scale weights so that both sides have the same total, and the mean weight is 1."""
    totals = np.where(positive, weights[positive].sum(), weights[~positive].sum())
    return np.asarray(weights / totals * len(weights) / 2, np.float64)


def _share_above(values: Ratios, weights: Ratios, thresholds: Ratios) -> Ratios:
    """Return the weighted share of values above each threshold."""
    order = np.argsort(values)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    places = np.searchsorted(values[order], thresholds, side="right")
    return np.asarray(1 - below[places] / below[-1], np.float64)


def _log_odds(probabilities: Ratios) -> Ratios:
    p = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)), np.float64)


def _log10(log_odds: Ratios, slope: float, intercept: float) -> Ratios:
    return np.asarray((slope * log_odds + intercept) / np.log(10), np.float64)
