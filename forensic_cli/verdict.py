"""From logits to a verdict: is the image generated, by which generator, and how strong is the evidence.

A new way to fuse several techniques is one more function in FUSIONS.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import (
    GENERATED,
    INCONCLUSIVE,
    LEAST_PROBABILITY,
    NEVER,
    REAL,
    UNDECIDED,
    UNKNOWN,
    Decision,
    ModelCard,
)
from forensic_cli.record import Prediction, Stability, Verdict

Probabilities: TypeAlias = npt.NDArray[np.float64]

MOST_CANDIDATES = 3
"""A longer short list helps nobody."""

_STRENGTHS = (
    *((6, "extremely strong support"), (4, "very strong support"), (3, "strong support")),
    *((2, "moderately strong support"), (1, "moderate support"), (math.log10(2), "weak support")),
)
"""(least log10 likelihood ratio, words): the verbal scale of ENFSI's guideline for evaluative reporting (2015)."""


def probabilities(card: ModelCard, decision: Decision, logits: npt.NDArray[np.float32]) -> Probabilities:
    """Return the calibrated probability of every label, B x K, from logits B x K of images in one state.

    Prior odds are even: "generated" is as likely as `real`, and every generator as likely as any other.
    """
    values = np.asarray(logits, np.float64)
    real = np.array([label == REAL for label in card.labels])
    scaled = np.where(real, -np.inf, values) / decision.temperature
    among = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    among /= among.sum(axis=1, keepdims=True)
    if not real.any():
        return np.asarray(among, np.float64)
    generated = p_generated(decision, generated_score(card, values))
    return np.asarray(np.where(real, 1 - generated[:, None], generated[:, None] * among), np.float64)


def generated_score(card: ModelCard, logits: npt.NDArray[np.float64]) -> Probabilities:
    """Return the score of "generated" for logits B x K: logsumexp over the other labels minus the logit of `real`."""
    real = np.array([label == REAL for label in card.labels])
    others = np.logaddexp.reduce(logits[:, ~real], axis=1)
    return np.asarray(others - logits[:, real][:, 0], np.float64)


def p_generated(decision: Decision, score: Probabilities) -> Probabilities:
    """Return the calibrated probability of "generated" at scores B."""
    odds = np.clip(decision.slope * score + decision.intercept, -500, 500)
    return np.asarray(np.clip(1 / (1 + np.exp(-odds)), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY), np.float64)


def fuse_mean(stacked: Probabilities) -> Probabilities:
    """Average M x K calibrated probabilities over the techniques; returns K."""
    return np.asarray(stacked.mean(axis=0), np.float64)


def fuse_vote(stacked: Probabilities) -> Probabilities:
    """Let the majority of the techniques choose a label, and average those that voted for it; M x K to K.

    A tie goes to the label with the higher mean probability. Every averaged technique has its maximum at the winner, so
    the average has its maximum there, too.
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


_SILENT = Decision(shortlist=NEVER)
"""Gives no answer at all, whatever the scores."""


def strictest(decisions: Sequence[Decision | None], name_from: float | None = None) -> Decision:
    """Return a decision with the strictest thresholds of several ones; silent if a technique has no decision.

    `name_from`: the user's own threshold for names, in place of the models'.
    """
    known = [decision for decision in decisions if decision is not None]
    if len(known) < len(decisions) or not known:
        return _SILENT
    named = {label for decision in known for label in decision.names_from} if name_from is None else set()
    return Decision(
        generated_from=max(decision.generated_from for decision in known),
        real_to=min(decision.real_to for decision in known),
        name_from=max(decision.name_from for decision in known) if name_from is None else name_from,
        names_from={label: max(decision.least_of(label) for decision in known) for label in named},
        shortlist=max(decision.shortlist for decision in known),
    )


def headline_of(scores: Mapping[str, float], thresholds: Decision) -> str:
    """Return `generated`, `real` or `undecided` for calibrated probabilities of all labels."""
    if REAL not in scores:
        return UNDECIDED
    generated = 1 - scores[REAL]
    if generated >= thresholds.generated_from:
        return GENERATED
    return REAL if generated <= thresholds.real_to else UNDECIDED


def candidates_of(scores: Mapping[str, float], thresholds: Decision) -> tuple[str, ...]:
    """Return the most probable generators that together reach the short list's share; none if it takes too many."""
    wanted = thresholds.shortlist * sum(p for label, p in scores.items() if label != REAL)
    ranked = sorted((label for label in scores if label not in (REAL, UNKNOWN)), key=lambda label: -scores[label])
    for count in range(1, MOST_CANDIDATES + 1):
        if sum(scores[label] for label in ranked[:count]) >= wanted:
            return tuple(ranked[:count])
    return ()


def verdict_of(headline: str, scores: Mapping[str, float], thresholds: Decision) -> str:
    """Return the label that the evidence supports: a generator, `real`, `unknown`, or `inconclusive`.

    A model without `real` among its labels only answers for the generator.
    """
    if headline == REAL:
        return REAL
    if headline == UNDECIDED and REAL in scores:
        return INCONCLUSIVE
    among = {label: p for label, p in scores.items() if label != REAL}
    top = max(among, key=lambda label: among[label])
    return top if among[top] >= thresholds.least_of(top) * sum(among.values()) else INCONCLUSIVE


def top_labels(labels: Sequence[str], rows: Probabilities) -> npt.NDArray[np.int64]:
    """Return the index of the raw label of calibrated probabilities B x K: `real`, or else the likeliest generator.

    "Generated" and `real` have even prior odds, so `real` comes first if it has half of the probability; a single
    generator of many need not exceed it.
    """
    real = np.array([label == REAL for label in labels])
    generator = np.where(real, -1.0, rows).argmax(axis=1)
    if not real.any():
        return np.asarray(generator, np.int64)
    return np.asarray(np.where(rows[:, real][:, 0] >= 0.5, np.flatnonzero(real)[0], generator), np.int64)


def predict(labels: tuple[str, ...], row: Probabilities, decision: Decision | None) -> Prediction:
    """Return what one technique makes of its K calibrated probabilities."""
    exact = dict(zip(labels, row.tolist(), strict=True))
    top = labels[int(top_labels(labels, row[None])[0])]
    return Prediction(
        label=top,
        confidence=round(exact[top], 6),
        scores={label: round(p, 6) for label, p in exact.items()},
        p_generated=round(1 - exact[REAL], 6) if REAL in exact else None,
        candidates=candidates_of(exact, strictest([decision])) if decision else (),
        log10_lr=_ratios(exact, decision) if decision else {},
    )


def _ratios(scores: Mapping[str, float], decision: Decision) -> dict[str, float]:
    """Return log10 ratios: of each generator against the others, and of `real` against "generated"."""
    among = sum(p for label, p in scores.items() if label != REAL)
    ratios = {label: round(ratio.log10(scores[label] / among), 4) for label, ratio in decision.ratios.items()}
    if decision.generated is not None:
        ratios[REAL] = round(-decision.generated.log10(1 - scores[REAL]), 4)
    return ratios


def merge_ratios(labels: tuple[str, ...], ratios: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return per label the log10 ratio closest to 0, and 0 if two differ in sign.

    The techniques saw the same image: their ratios are not independent, so they must not be added.
    """
    merged = {}
    for label in labels:
        values = [own[label] for own in ratios if label in own]
        if values:
            agreed = min(values) > 0 or max(values) < 0
            merged[label] = min(values, key=abs) if agreed else 0.0
    return merged


def decide(
    labels: tuple[str, ...],
    by_technique: Mapping[str, Probabilities],
    decisions: Mapping[str, Decision | None],
    fusion: str = "mean",
    name_from: float | None = None,
) -> Verdict:
    """Fuse each technique's K calibrated probabilities into one answer.

    `decisions`: each technique's for the image's state; None if it does not answer for images like this one, and then
    the headline is `undecided`, whatever the scores. `name_from`: the user's threshold in place of the models'.
    """
    thresholds = strictest(list(decisions.values()), name_from)
    fused = FUSIONS[fusion](np.stack(list(by_technique.values())))
    techniques = {name: predict(labels, row, decisions[name]) for name, row in by_technique.items()}
    whole, exact = predict(labels, fused, None), dict(zip(labels, fused.tolist(), strict=True))
    headline = headline_of(exact, thresholds)
    verdict = verdict_of(headline, exact, thresholds)
    ratios = merge_ratios(labels, [prediction.log10_lr for prediction in techniques.values()])
    agreeing = sum(prediction.label == whole.label for prediction in techniques.values())
    return Verdict(
        headline=headline,
        p_generated=None if None in decisions.values() else whole.p_generated,
        generated_log10_lr=0.0 - ratios[REAL] if REAL in ratios else None,
        verdict=verdict,
        label=whole.label,
        confidence=whole.confidence,
        scores=whole.scores,
        agreement=round(agreeing / len(techniques), 6),
        techniques=techniques,
        strength=strength_of(headline, verdict, ratios),
        candidates=candidates_of(exact, thresholds) if headline == GENERATED or REAL not in exact else (),
        log10_lr=ratios,
    )


def strength_of(headline: str, verdict: str, ratios: Mapping[str, float]) -> str | None:
    """Return in words how strongly the evidence supports what a row states, given the log10 ratio of each label.

    A row with the headline `generated` and a name states two things, and is as strong as the weaker of those that were
    validated. None: the row states nothing, or nothing that was validated.
    """
    stated = [ratios[verdict]] if verdict in ratios else []
    if headline == GENERATED and REAL in ratios:
        stated.append(0.0 - ratios[REAL])
    if not stated:
        return None
    return next((words for least, words in _STRENGTHS if min(stated) >= least), "no support")


def shown_name(verdict: str, candidates: Sequence[str]) -> str:
    """Return the generator, or the short list of them, that an answer names, in words; empty if it names none."""
    if verdict not in (REAL, INCONCLUSIVE):
        return f"{UNKNOWN} generator" if verdict == UNKNOWN else verdict
    if len(candidates) == 1:
        return f"perhaps {candidates[0]}"
    return " or ".join(filter(None, [", ".join(candidates[:-1]), *candidates[-1:]]))


def with_stability(verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    """Compare a verdict with those of the image's re-encodings ({name: verdict}).

    The raw label, its confidence and its scores stay. If any re-encoding has another raw label, the verdict becomes
    `inconclusive`; if `real` and the generators change sides, the headline becomes `undecided`. A lower confidence
    alone only widens the range.
    """
    confidences = [verdict.confidence, *(other.scores[verdict.label] for other in others.values())]
    flips = {name: other.label for name, other in others.items() if other.label != verdict.label}
    turned = {name: _side(other) for name, other in others.items() if _side(other) != _side(verdict)}
    flips |= {name: side for name, side in turned.items() if name not in flips}
    stability = Stability(min(confidences), max(confidences), flips, tuple(others))
    if not flips:
        return replace(verdict, stability=stability)
    headline = UNDECIDED if turned else verdict.headline
    survives = headline == verdict.headline and {*flips.values()} <= {*verdict.candidates}
    return replace(
        verdict,
        headline=headline,
        verdict=INCONCLUSIVE,
        strength=strength_of(headline, INCONCLUSIVE, verdict.log10_lr),
        candidates=verdict.candidates if survives else (),
        stability=stability,
    )


def _side(verdict: Verdict) -> str:
    """Return the more probable of `real` and "generated", whatever the thresholds."""
    return REAL if verdict.scores.get(REAL, 0.0) > 0.5 else GENERATED
