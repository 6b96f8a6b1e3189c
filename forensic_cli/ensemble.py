"""Fusion of several techniques' predictions into one verdict. A new fusion is one more function in FUSIONS."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import ModelCard
from forensic_cli.results import Prediction, Verdict

Probabilities: TypeAlias = npt.NDArray[np.float64]

INCONCLUSIVE = "inconclusive"
"""Verdict where no label reaches the threshold, or where several labels explain the image."""
UNKNOWN = "unknown"
"""Verdict for an image that no known label explains; also the label of images that are not to be named."""


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


def known_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels that a verdict may name."""
    return tuple(label for label in labels if label != UNKNOWN)


def predict(
    labels: tuple[str, ...], probabilities: Probabilities, card: ModelCard | None = None, level: str | None = None
) -> Prediction:
    """Name K probabilities; with the model's card also its set at a coverage level, and its likelihood ratios."""
    top = int(probabilities.argmax())
    exact = {label: float(p) for label, p in zip(labels, probabilities, strict=True)}
    ratios = card.likelihood_ratios if card else {}
    return Prediction(
        label=labels[top],
        confidence=round(exact[labels[top]], 6),
        scores={label: round(p, 6) for label, p in exact.items()},
        candidates=card.sets.members(exact, level) if card and card.sets and level else (),
        log10_lr={label: round(ratios[label].log10(exact[label]), 4) for label in labels if label in ratios},
    )


def judge(label: str, confidence: float, threshold: float, candidates: tuple[str, ...] | None) -> str:
    """Return the verdict on the top label, given the set of labels that explain the image; None: no sets."""
    if label == UNKNOWN or candidates == ():
        return UNKNOWN
    if confidence >= threshold and candidates in (None, (label,)):
        return label
    return INCONCLUSIVE


def merge_sets(labels: tuple[str, ...], sets: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the labels in at least half of the sets (majority vote, Gasparin and Ramdas 2024), in label order.

    Sets that each miss the truth in a share a of the images give a merged one that misses it in at most 2 a, however
    much they depend on each other: several techniques at 0.90 promise 0.80 together, and mostly do better.
    """
    return tuple(label for label in labels if 2 * sum(label in one for one in sets) >= max(1, len(sets)))


def merge_ratios(labels: tuple[str, ...], ratios: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return per label the log10 ratio closest to 0, and 0 where two differ in sign.

    The techniques saw the same image: their ratios are not independent, so they must not be added up.
    """
    merged = {}
    for label in labels:
        values = [one[label] for one in ratios if label in one]
        if values:
            agreed = min(values) > 0 or max(values) < 0
            merged[label] = min(values, key=abs) if agreed else 0.0
    return merged


def decide(
    labels: tuple[str, ...],
    by_technique: Mapping[str, Probabilities],
    fusion: str,
    threshold: float,
    cards: Mapping[str, ModelCard] | None = None,
    level: str | None = None,
) -> Verdict:
    """Fuse each technique's K probabilities into one verdict.

    `cards` and `level` bring in the sets and ratios of the techniques' models; without sets a confidence below
    `threshold` is `inconclusive` and any other one names the label.
    """
    cards = cards or {}
    fused = predict(labels, FUSIONS[fusion](np.stack(list(by_technique.values()))))
    techniques = {name: predict(labels, row, cards.get(name), level) for name, row in by_technique.items()}
    sets = [techniques[name].candidates for name, card in cards.items() if card.sets and level]
    candidates = merge_sets(labels, sets) if sets else None
    agreeing = sum(one.label == fused.label for one in techniques.values())
    return Verdict(
        verdict=judge(fused.label, fused.confidence, threshold, candidates),
        label=fused.label,
        confidence=fused.confidence,
        scores=fused.scores,
        agreement=round(agreeing / len(techniques), 6),
        techniques=techniques,
        candidates=candidates or (),
        log10_lr=merge_ratios(labels, [one.log10_lr for one in techniques.values()]),
    )
