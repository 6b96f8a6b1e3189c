"""Calibration: a temperature for the logits, and the confidence below which a verdict is `inconclusive`."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import Calibration
from forensic_cli.model import Logits, softmax

Targets: TypeAlias = npt.NDArray[np.int64]
"""Index of each image's generator, B."""

WANTED_ACCURACY = 0.9
"""Share of right verdicts that the threshold aims at on the calibration images."""
LEAST_THRESHOLD = 0.5
"""A verdict needs more probability than all other labels together."""
_BINS = 15


def calibrate(logits: Logits, targets: Targets) -> Calibration:
    """Fit the temperature that minimises the cross entropy of image logits B x K (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    if len(logits) == 0:
        return Calibration()
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        probabilities = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(probabilities[rows, targets], 1e-12)).mean())

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


def expected_calibration_error(probabilities: npt.NDArray[np.float64], targets: Targets) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence, 0 to 1."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))
