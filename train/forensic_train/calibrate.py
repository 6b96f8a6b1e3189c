"""Calibration: temperature, threshold, conformal sets and likelihood ratios, all from held-out images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import Calibration, ConformalSets, ModelCard
from forensic_cli.ensemble import UNKNOWN
from forensic_cli.model import Logits, softmax
from forensic_train.conformal import conformal_sets
from forensic_train.likelihood import likelihood_ratios

Targets: TypeAlias = npt.NDArray[np.int64]
"""Index of each image's generator, B."""

WANTED_ACCURACY = 0.9
"""Share of right verdicts that the threshold aims at on the calibration images."""
LEAST_THRESHOLD = 0.5
"""A verdict needs more probability than all other labels together."""
_BINS = 15


def calibrated(card: ModelCard, logits: Logits, targets: Targets, groups: Sequence[str], described: str) -> ModelCard:
    """Return the card with everything that held-out images say of its scores.

    `logits`: B x K, of images that the weights were not fitted on; without any the card comes back as it is.
    `groups`: B names, the subject or the source of each image. `described`: which images these are, one sentence.

    The generators count the same in the temperature: out-of-fold logits come from folds that leave out one source
    at a time, and how many images a source happens to have would else decide whose confidence is right.
    The sets are taken from the same images at that temperature; one number fitted on all of them cannot move
    their quantiles by much.
    """
    if len(logits) == 0:
        return card
    calibration = calibrate(logits, targets, balanced=True)
    probabilities = softmax(logits, calibration.temperature)
    # An image whose top label is `unknown` is never named, whatever its confidence
    named = np.array([label != UNKNOWN for label in card.labels])[probabilities.argmax(axis=1)]
    threshold = choose_threshold(probabilities[named], targets[named])
    sets = conformal_sets(probabilities, targets, groups, card.labels, note=described)
    return replace(
        card,
        calibration=calibration,
        threshold=threshold,
        sets=replace(sets, default=choose_level(sets, probabilities, targets, card.labels, threshold)),
        likelihood_ratios=likelihood_ratios(probabilities, targets, groups, card.labels),
        validation=described,
    )


def calibrate(logits: Logits, targets: Targets, balanced: bool = False) -> Calibration:
    """Fit the temperature that minimises the cross entropy of image logits B x K (Guo et al. 2017).

    `balanced`: every label that has images counts the same in it. The calibration errors are plain means.
    """
    from scipy.optimize import minimize_scalar

    if len(logits) == 0:
        return Calibration()
    rows = np.arange(len(targets))
    weights = 1 / np.bincount(targets)[targets] if balanced else None

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(np.average(-np.log(np.maximum(probabilities[rows, targets], 1e-12)), weights=weights))

    temperature = float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))
    return Calibration(
        temperature=round(temperature, 6),
        images=len(targets),
        ece_before=round(expected_calibration_error(softmax(logits), targets), 6),
        ece_after=round(expected_calibration_error(softmax(logits, temperature), targets), 6),
    )


def choose_threshold(probabilities: npt.NDArray[np.float64], targets: Targets) -> float:
    """Return the lowest confidence from which on nine in ten verdicts are right, at least one half."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    for candidate in np.sort(np.unique(np.maximum(confidence, LEAST_THRESHOLD))):
        reached = confidence >= candidate
        if reached.any() and right[reached].mean() >= WANTED_ACCURACY:
            # rounded up: a verdict never rests on less confidence than was measured
            return float(np.ceil(candidate * 1000) / 1000)
    return 1.0


def choose_level(
    sets: ConformalSets,
    probabilities: npt.NDArray[np.float64],
    targets: Targets,
    labels: Sequence[str],
    threshold: float,
) -> str:
    """Return the coverage at which most images get a name, of those at which nine in ten names are right.

    Of equals the highest; `sets.default` where no level has any name or none is as good.
    """
    top, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    best, chosen = 0, sets.default
    for level in sorted(sets.quantiles):
        most = np.array([sets.quantiles[level].get(label, -1.0) for label in labels])
        holds = 1 - probabilities <= most
        alone = (holds.sum(axis=1) == 1) & holds[np.arange(len(top)), top] & (confidence >= threshold)
        if alone.any() and alone.sum() >= best and (top == targets)[alone].mean() >= WANTED_ACCURACY:
            best, chosen = int(alone.sum()), level
    return chosen


def expected_calibration_error(probabilities: npt.NDArray[np.float64], targets: Targets) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence, 0 to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))
