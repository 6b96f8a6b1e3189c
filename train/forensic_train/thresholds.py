"""Thresholds: every number by which the logits of images in one state become an answer, fitted on left-out images.

The unit that is left out is the source: each source has the same weight within its label.
"""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import ANY_STATE, NEVER, REAL, UNKNOWN, Decision, LikelihoodRatio, ModelCard
from forensic_cli.verdict import generated_score, probabilities
from forensic_train.crossfit.scores import Scores
from forensic_train.likelihood import fit_ratio
from forensic_train.signals import ORIGINAL
from forensic_train.weights import source_weights, unit_of

Floats: TypeAlias = npt.NDArray[np.float64]
Texts: TypeAlias = npt.NDArray[np.str_]

RIGHT_HEADLINES = 0.95
"""Share of the headlines `generated` and `real` that should be right, at even odds."""
WRONG_PHOTOGRAPHS = 0.03
"""Share of real images that may be called generated."""
RIGHT_NAMES = 0.97
"""Share of the names that should be right."""
LEAST_NAMED = 3
"""Sources of a generator that must be named correctly before it is named at all."""
COVERED = 0.9
"""Share of generated images whose short list should contain their generator."""
LEAST_NAME = 0.5
"""A named generator needs more probability than all other generators together."""
LEAST_SOURCES = 4
"""Sources on each side that a state needs to have a decision; with fewer, none could be left out."""
LEAST_RIGHT = 0.9
"""Share of the headlines of one kind that must be right, at even odds, in every form of the images."""
_FARTHEST = 0.98
"""Share of the images within the greatest distance from training that still gets an answer."""
_LEAST_WEIGHT = 1e-12


@dataclass(frozen=True)
class Entries:
    """M judged images, or forms of images, in one state."""

    logits: npt.NDArray[np.float32]
    """M x K."""
    distances: npt.NDArray[np.float32]
    """M."""
    truth: Texts
    """M labels."""
    sources: Texts
    """M names of the units that are left out."""
    weights: Floats
    """M: see SourceWeigher."""
    forms: Texts
    """M: name of the form that the image is in (signals.FORMS)."""

    @property
    def as_found(self) -> npt.NDArray[np.bool_]:
        """M: whether it is an image as it was published and not another form of it."""
        return np.asarray(self.forms == ORIGINAL)

    def at(self, where: npt.NDArray[Any]) -> "Entries":
        """Return some of the entries."""
        return Entries(*(getattr(self, field.name)[where] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.truth)


def state_entries(card: ModelCard, scores: Scores) -> dict[str, Entries]:
    """Gather scores by state, in the card's label order."""
    order = [scores.labels.index(label) for label in card.labels]
    truth = np.array([row.generator for row in scores.rows])
    sources = np.array([unit_of(row) for row in scores.rows])
    entries = {}
    for state in card.states:
        image, form = np.nonzero(np.ones(scores.states.shape, bool) if state == ANY_STATE else scores.states == state)
        if len(image):
            entries[state] = Entries(
                scores.logits[image, form][:, order],
                scores.distances[image, form],
                truth[image],
                sources[image],
                source_weights(truth[image], sources[image]),
                np.array(scores.forms)[form],
            )
    return entries


def has_enough_sources(card: ModelCard, entries: Entries) -> bool:
    """Tell whether each side has enough sources; a model that cannot say `real` has one side only."""
    real = entries.truth == REAL
    sides = [~real, real] if REAL in card.labels else [~real]
    return min(len(set(entries.sources[side].tolist())) for side in sides) >= LEAST_SOURCES


def fit_decision(card: ModelCard, entries: Entries) -> Decision:
    """Choose every number of a decision except its likelihood ratios."""
    decision = Decision(shortlist=COVERED)
    if REAL in card.labels and (entries.truth == REAL).any():
        slope, intercept = _platt(generated_score(card, entries.logits.astype(np.float64)), entries)
        decision = replace(decision, slope=slope, intercept=intercept)
    known = entries.at(np.isin(entries.truth, [label for label in card.labels if label != REAL]))
    decision = replace(decision, temperature=_temperature(card, known))
    if entries.distances.any():
        farthest = float(
            np.quantile(entries.distances, _FARTHEST, weights=entries.weights, method="inverted_cdf").round(6)
        )
        decision = replace(decision, farthest=farthest)
        # Images that lie farther away get no answer, so they must not influence the answers of the others
        entries = entries.at(entries.distances <= farthest)
    rows = probabilities(card, decision, entries.logits)
    if REAL in card.labels:
        decision = replace(decision, **_headline_limits(1 - rows[:, card.labels.index(REAL)], entries))
    decision = replace(decision, names_from=_names_from(card, decision, rows, entries))
    return replace(decision, shortlist=_shortlist(card, rows, entries))


def _platt(score: Floats, entries: Entries) -> tuple[float, float]:
    """Return slope and intercept of the log odds of "generated" over the score (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100.0).fit(score[:, None], entries.truth != REAL, entries.weights * len(score))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    # With a negative slope, a higher score would speak against what it stands for
    return (round(slope, 6), round(intercept, 6)) if slope > 1e-6 else (1e-6, 0.0)


def _temperature(card: ModelCard, entries: Entries) -> float:
    """Return the temperature with the least cross entropy over the generators (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    if not len(entries):
        return 1.0
    columns = [k for k, label in enumerate(card.labels) if label != REAL]
    logits = entries.logits[:, columns].astype(np.float64)
    target = np.array([[card.labels[k] for k in columns].index(label) for label in entries.truth])

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        costs = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(target)), target]
        return float(np.average(costs, weights=entries.weights))

    return round(float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)), 6)


def _headline_limits(generated: Floats, entries: Entries) -> dict[str, Any]:
    """Return the least probability for the headline `generated`, and the greatest one for the headline `real`."""
    real, weights = entries.truth == REAL, entries.weights
    order = np.argsort(-generated, kind="stable")
    right, wrong = np.cumsum((weights * ~real)[order]), np.cumsum((weights * real)[order])
    good = (right >= RIGHT_HEADLINES * (right + wrong)) & (wrong <= WRONG_PHOTOGRAPHS * weights[real].sum())
    # The limits hold in every single form, too: good answers for whole images must not hide bad ones for small crops
    for form in np.unique(entries.forms):
        here = weights[order] * (entries.forms == form)[order]
        right, wrong = (_rising_share(here * side) for side in (~real[order], real[order]))
        good &= (wrong <= WRONG_PHOTOGRAPHS) & (right >= LEAST_RIGHT * wrong / (1 - LEAST_RIGHT))
    good &= _ends(generated[order])
    limits: dict[str, Any] = {"generated_from": NEVER, "real_to": -NEVER}
    if good.any():
        limits["generated_from"] = max(0.5, float(generated[order][np.flatnonzero(good)[-1]]))
    right, wrong = np.cumsum((weights * real)[order[::-1]]), np.cumsum((weights * ~real)[order[::-1]])
    good = (right >= RIGHT_HEADLINES * (right + wrong)) & _ends(generated[order[::-1]])
    if good.any():
        limits["real_to"] = min(0.5, float(generated[order[::-1]][np.flatnonzero(good)[-1]]))
    return limits


def _rising_share(weights: Floats) -> Floats:
    """Return cumulative sums of weights as shares of their total."""
    return np.asarray(np.cumsum(weights) / max(weights.sum(), _LEAST_WEIGHT), np.float64)


def _ends(ordered: Floats) -> npt.NDArray[np.bool_]:
    """Tell where a threshold may lie: only behind the last of equal values, because it cannot separate them."""
    return np.append(ordered[1:] != ordered[:-1], True)


def _names_from(card: ModelCard, decision: Decision, rows: Floats, entries: Entries) -> dict[str, float]:
    """Return for each generator the lowest probability among the generators at which its name is right often enough.

    A generator is never named if fewer than LEAST_NAMED of its sources reach that probability.
    """
    columns = np.array([k for k, label in enumerate(card.labels) if label != REAL])
    among = rows[:, columns] / rows[:, columns].sum(axis=1, keepdims=True)
    tops, certain = np.array(card.labels)[columns][among.argmax(axis=1)], among.max(axis=1)
    nameable = certain >= LEAST_NAME
    if REAL in card.labels:
        nameable &= 1 - rows[:, card.labels.index(REAL)] >= decision.generated_from
    return {
        label: _least_certain(entries.at(nameable & (tops == label)), certain[nameable & (tops == label)], label)
        for label in card.generators
    }


def _least_certain(entries: Entries, certain: Floats, label: str) -> float:
    """Return the lowest certainty at which enough of the entries that would get the name really have that label."""
    order = np.argsort(-certain, kind="stable")
    right, weights = (entries.truth == label)[order], entries.weights[order]
    _, first = np.unique(entries.sources[order][right], return_index=True)
    if len(first) < LEAST_NAMED:
        return NEVER
    enough = np.arange(len(order)) >= np.flatnonzero(right)[np.sort(first)[LEAST_NAMED - 1]]
    good = enough & (np.cumsum(weights * right) >= RIGHT_NAMES * np.cumsum(weights)) & _ends(certain[order])
    return float(certain[order][np.flatnonzero(good)[-1]]) if good.any() else NEVER


def _shortlist(card: ModelCard, rows: Floats, entries: Entries) -> float:
    """Return the cumulative probability at which short lists hold the generator often enough (Romano et al. 2020)."""
    generators = [k for k, label in enumerate(card.labels) if label not in (REAL, UNKNOWN)]
    known = np.isin(entries.truth, [card.labels[k] for k in generators])
    if not known.any():
        return COVERED
    others = [k for k, label in enumerate(card.labels) if label != REAL]
    among = rows[known][:, generators] / rows[known][:, others].sum(axis=1, keepdims=True)
    target = np.array([[card.labels[k] for k in generators].index(label) for label in entries.truth[known]])
    own = among[np.arange(len(target)), target]
    before = np.where(among > own[:, None], among, 0).sum(axis=1)
    order = np.argsort(before)
    share = np.cumsum(entries.weights[known][order]) / entries.weights[known].sum()
    # A list ends as soon as it reaches its share, so the share must exceed what comes before the generator
    above = (np.floor(before[order][np.searchsorted(share, COVERED)] * 1e6) + 1) / 1e6
    return float(np.clip(above, LEAST_NAME, 1.0))


def with_ratios(card: ModelCard, decision: Decision, entries: Entries) -> Decision:
    """Add those likelihood ratios that are more informative than none at all on left-out sources."""
    ratios: dict[str, LikelihoodRatio] = {}
    generated = None
    rows = probabilities(card, decision, entries.logits)
    real = entries.truth == REAL
    if REAL in card.labels and real.any():
        generated = fit_ratio(1 - rows[:, card.labels.index(REAL)], ~real, entries.weights, entries.sources)
    known = np.isin(entries.truth, card.generators)
    total = rows[known][:, [k for k, label in enumerate(card.labels) if label != REAL]].sum(axis=1)
    for label in card.generators:
        is_label = entries.truth[known] == label
        share = rows[known, card.labels.index(label)] / total
        ratio = fit_ratio(share, is_label, entries.weights[known], entries.sources[known])
        if ratio is not None:
            ratios[label] = ratio
    return replace(decision, generated=generated, ratios=ratios)
