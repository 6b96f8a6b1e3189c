"""Fusion of several techniques' predictions into one verdict. A new fusion is one more function in FUSIONS."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.results import Prediction, Verdict

Probabilities: TypeAlias = npt.NDArray[np.float64]

INCONCLUSIVE = "inconclusive"
"""Verdict where no label reaches the threshold."""
UNKNOWN = "unknown"
"""Verdict for an image that no known label explains."""


def fuse_mean(stacked: Probabilities) -> Probabilities:
    """Average M x K calibrated probabilities over the techniques; returns K."""
    return np.asarray(stacked.mean(axis=0), np.float64)


def fuse_vote(stacked: Probabilities) -> Probabilities:
    """Let the majority of M x K probabilities choose, and average the techniques that voted for the winner.

    A tie goes to the label with the higher mean probability. Every voter has its maximum at the winner,
    so the returned K probabilities have theirs there too.
    """
    votes = stacked.argmax(axis=1)
    counts = np.bincount(votes, minlength=stacked.shape[1])
    winner = max(range(stacked.shape[1]), key=lambda k: (counts[k], stacked[:, k].mean()))
    return np.asarray(stacked[votes == winner].mean(axis=0), np.float64)


FUSIONS: Mapping[str, Callable[[Probabilities], Probabilities]] = {"mean": fuse_mean, "vote": fuse_vote}
"""Every fusion by its name on the command line."""


def predict(labels: tuple[str, ...], probabilities: Probabilities) -> Prediction:
    """Name K probabilities."""
    top = int(probabilities.argmax())
    scores = {label: round(float(p), 6) for label, p in zip(labels, probabilities, strict=True)}
    return Prediction(labels[top], round(float(probabilities[top]), 6), scores)


def decide(
    labels: tuple[str, ...], by_technique: Mapping[str, Probabilities], fusion: str, threshold: float
) -> Verdict:
    """Fuse each technique's K probabilities into one verdict; below `threshold` it is `inconclusive`."""
    fused = predict(labels, FUSIONS[fusion](np.stack(list(by_technique.values()))))
    techniques = {name: predict(labels, probabilities) for name, probabilities in by_technique.items()}
    agreeing = sum(one.label == fused.label for one in techniques.values())
    return Verdict(
        verdict=fused.label if fused.confidence >= threshold else INCONCLUSIVE,
        label=fused.label,
        confidence=fused.confidence,
        scores=fused.scores,
        agreement=round(agreeing / len(techniques), 6),
        techniques=techniques,
    )
