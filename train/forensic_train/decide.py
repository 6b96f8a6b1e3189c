"""Decisions, and how good their answers are on sources that none of their numbers were chosen on.

Sources are left out in rotation: the answers for a source come from a decision fitted on the other sources. Each source
has the same weight within its label, and intervals are drawn over sources.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from forensic_cli.card import GENERATED, INCONCLUSIVE, NEVER, REAL, UNDECIDED, UNKNOWN, Decision, ModelCard
from forensic_cli.verdict import headline_of, probabilities, strictest, top_labels, verdict_of
from forensic_train.crossfit.scores import Scores
from forensic_train.openset import auroc
from forensic_train.seeds import generator_for
from forensic_train.signals import ORIGINAL
from forensic_train.thresholds import (
    LEAST_RIGHT,
    Entries,
    Floats,
    Texts,
    fit_decision,
    has_enough_sources,
    state_entries,
    with_ratios,
)
from forensic_train.weights import SourceWeigher

LEAST_ANSWERS = 20
"""Headlines of one kind that a state must have given before too many wrong ones silence that kind (LEAST_RIGHT)."""
ALL_FORMS, AS_FOUND = "all forms", "as found"
"""Names of figures: of images in every form that is in a state, and of those that were published in it."""
_ROTATIONS = 5
_DRAWN = 200
"""Bootstrap samples of the sources behind an interval."""
_BINS = 10
_WITH_INTERVALS = (
    *("auroc", "macro_recall", "decided", "decided_right", "real_called_generated"),
    *("generated_found", "named", "named_right"),
)


def fit_decisions(card: ModelCard, scores: Scores) -> dict[str, Decision]:
    """Return a decision for each state with enough sources, with its figures on sources it was not fitted on."""
    decisions = {}
    for state, entries in state_entries(card, scores).items():
        if not has_enough_sources(card, entries):
            continue
        decision = with_ratios(card, fit_decision(card, entries), entries)
        answers = nested_answers(card, entries)
        figures = figures_by_form(card, answers)
        checked = [figures[name] for name in (ALL_FORMS, AS_FOUND) if name in figures]
        if any(_misleads(measured, "generated_found", "real_called_generated") for measured in checked):
            decision = replace(decision, generated_from=NEVER, names_from={})
        if any(_misleads(measured, "real_found", "generated_called_real") for measured in checked):
            decision = replace(decision, real_to=-NEVER)
        given = silenced(answers, decision)
        # For a silent state the figures say what its answers would have been worth
        if not decision.is_silent and (given.headlines != answers.headlines).any():
            figures = figures_by_form(card, given)
        decisions[state] = replace(decision, measured=figures)
    return decisions


@dataclass(frozen=True)
class Answers:
    """Answers for M entries, by decisions that were not fitted on their sources."""

    entries: Entries
    headlines: Texts
    """M: generated, real or undecided."""
    verdicts: Texts
    """M: a label or inconclusive."""
    tops: Texts
    """M: the most probable label of all."""
    generated: Floats
    """M: calibrated probability of "generated"."""

    def at(self, where: npt.NDArray[Any]) -> "Answers":
        """Return some of the answers."""
        parts = {name: value[where] for name, value in vars(self).items() if name != "entries"}
        return Answers(entries=self.entries.at(where), **parts)


def nested_answers(card: ModelCard, entries: Entries) -> Answers:
    """Answer for entries with decisions that were fitted on other sources, leaving sources out in rotation."""
    rotation = _rotations(entries)
    headlines, verdicts = np.full(len(entries), UNDECIDED, object), np.full(len(entries), INCONCLUSIVE, object)
    tops, generated = np.full(len(entries), "", object), np.full(len(entries), 0.5)
    for k in range(_ROTATIONS):
        here = np.array([rotation[source] == k for source in entries.sources.tolist()])
        others = entries.at(~here)
        if not here.any() or not has_enough_sources(card, others):
            continue
        decision = fit_decision(card, others)
        rows = probabilities(card, decision, entries.logits[here])
        for place, row in zip(np.flatnonzero(here), rows, strict=True):
            distance = float(entries.distances[place])
            headlines[place], verdicts[place] = answer_of(card.labels, row, decision, distance)
        tops[here] = np.array(card.labels)[top_labels(card.labels, rows)]
        if REAL in card.labels:
            generated[here] = 1 - rows[:, card.labels.index(REAL)]
    return Answers(entries, headlines.astype(str), verdicts.astype(str), tops.astype(str), generated)


def answer_of(labels: Sequence[str], row: Floats, decision: Decision | None, distance: float) -> tuple[str, str]:
    """Return headline and verdict of one technique alone for K calibrated probabilities and a distance to training."""
    near = decision is not None and decision.reaches(distance)
    thresholds = strictest([decision if near else None])
    scores = dict(zip(labels, row.tolist(), strict=True))
    headline = headline_of(scores, thresholds)
    return headline, verdict_of(headline, scores, thresholds)


def _rotations(entries: Entries) -> dict[str, int]:
    """Distribute the sources of every label over the rotations, in a seeded random order."""
    dealt: dict[str, int] = {}
    for label in sorted(set(entries.truth.tolist())):
        sources = sorted(set(entries.sources[entries.truth == label].tolist()) - set(dealt))
        offset = len(dealt)
        for i, k in enumerate(generator_for("rotation", 0, len(label)).permutation(len(sources))):
            dealt[sources[k]] = (i + offset) % _ROTATIONS
    return dealt


def silenced(answers: "Answers", decision: Decision) -> "Answers":
    """Return the answers without the headlines that a decision never gives."""
    never = (answers.headlines == GENERATED) & (decision.generated_from >= NEVER)
    never |= (answers.headlines == REAL) & (decision.real_to <= -NEVER)
    headlines, verdicts = answers.headlines.copy(), answers.verdicts.copy()
    headlines[never], verdicts[never] = UNDECIDED, INCONCLUSIVE
    return replace(answers, headlines=headlines, verdicts=verdicts)


def _misleads(measured: Mapping[str, Any], right: str, wrong: str) -> bool:
    """Tell whether too many headlines of one kind were wrong, so that it is better not to give them.

    `right`, `wrong`: names of the figures with the shares of either side that got this headline.
    """
    if measured[right] is None or measured[wrong] is None:
        return False
    given = measured[right] + measured[wrong]
    return bool(given / 2 * measured["images"] >= LEAST_ANSWERS and measured[right] < LEAST_RIGHT * given)


def figures_by_form(card: ModelCard, answers: "Answers") -> dict[str, dict[str, Any]]:
    """Return the figures of all forms together, of images as they were published, and of each other form."""
    figures = {ALL_FORMS: measure(card, answers)}
    forms = answers.entries.forms
    names = dict.fromkeys(forms.tolist())
    if len(names) > 1:
        for form in sorted(names, key=lambda name: name != ORIGINAL):
            figures[AS_FOUND if form == ORIGINAL else form] = measure(card, answers.at(forms == form))
    return figures


def measure(card: ModelCard, answers: Answers) -> dict[str, Any]:
    """Return how often answers are right, with 95 % bootstrap intervals over sources.

    Entries are weighed by SourceWeigher, so no figure depends on a large source or on the mixture of labels.
    """
    weigher = SourceWeigher(answers.entries.truth, answers.entries.sources)
    figures = _figures(card, answers, weigher.weights())
    rng = generator_for("interval", 0)
    count = len(weigher.sources)
    drawn = [
        _figures(card, answers, weigher.weights(np.bincount(rng.integers(count, size=count), minlength=count)))
        for _ in range(_DRAWN)
    ]
    intervals = {
        name: [
            round(float(np.quantile([sample[name] for sample in drawn if sample[name] is not None], q)), 4)
            for q in (0.025, 0.975)
        ]
        for name in _WITH_INTERVALS
        if any(sample[name] is not None for sample in drawn)
    }
    return {"images": len(answers.entries), "sources": count, **figures, "intervals": intervals}


def _figures(card: ModelCard, answers: Answers, weights: Floats) -> dict[str, Any]:
    """Return every figure of weighted answers; None where the weights leave nothing to measure."""
    truth, generated = answers.entries.truth, answers.generated
    real = truth == REAL
    decided = answers.headlines != UNDECIDED
    named = ~np.isin(answers.verdicts, (INCONCLUSIVE, REAL, UNKNOWN))
    known = [label for label in card.labels if label != UNKNOWN and weights[truth == label].sum() > 0]
    recalls = [_share(answers.tops == label, weights, truth == label) or 0.0 for label in known]
    both = weights[real].sum() > 0 and weights[~real].sum() > 0
    return {
        "macro_recall": _rounded(float(np.mean(recalls)) if recalls else None),
        "labels": len(known),
        "auroc": _rounded(auroc(generated[~real], generated[real], weights[~real], weights[real]) if both else None),
        "ece": _rounded(_calibration_error(generated, ~real, weights) if both else None),
        "decided": _share(decided, weights, np.ones_like(decided)),
        "decided_right": _share(answers.headlines == np.where(real, REAL, GENERATED), weights, decided),
        "real_called_generated": _share(answers.headlines == GENERATED, weights, real),
        "real_found": _share(answers.headlines == REAL, weights, real),
        "generated_called_real": _share(answers.headlines == REAL, weights, ~real),
        "generated_found": _share(answers.headlines == GENERATED, weights, ~real),
        "named": _share(named, weights, ~real),
        "named_right": _share(answers.verdicts == truth, weights, named),
    }


def _calibration_error(generated: Floats, truth: npt.NDArray[np.bool_], weights: Floats) -> float:
    """Return the expected calibration error of a probability over ten equal bins."""
    bins = np.minimum((generated * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights * (truth - generated), minlength=_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _share(flags: npt.NDArray[np.bool_], weights: Floats, among: npt.NDArray[np.bool_]) -> float | None:
    """Return the weighted share of flagged entries among some; None if those have no weight."""
    total = weights[among].sum()
    return _rounded(float(weights[among & flags].sum() / total)) if total > 0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def by_generator(answers: Mapping[str, Answers]) -> Iterator[list[object]]:
    """Yield a line for each state and true label: state, label, images, sources and the shares of _counts()."""
    for state, given in answers.items():
        for label in sorted(set(given.entries.truth.tolist())):
            here = given.entries.truth == label
            total = _counts(given, label, here)
            yield [state, label, int(total[0]), len(set(given.entries.sources[here].tolist())), *_shares(total)]


def by_source(answers: Mapping[str, Answers]) -> Iterator[list[object]]:
    """Yield a line for each true label and source, over all states: label, source, images, shares of _counts()."""
    cells: dict[tuple[str, str], list[tuple[Answers, npt.NDArray[np.bool_]]]] = {}
    for given in answers.values():
        pairs = sorted(set(zip(given.entries.truth.tolist(), given.entries.sources.tolist(), strict=True)))
        for label, source in pairs:
            here = (given.entries.truth == label) & (given.entries.sources == source)
            cells.setdefault((label, source), []).append((given, here))
    for (label, source), parts in sorted(cells.items()):
        total = np.sum([_counts(given, label, here) for given, here in parts], axis=0)
        yield [label, source, int(total[0]), *_shares(total)]


def _counts(given: Answers, label: str, here: npt.NDArray[np.bool_]) -> Floats:
    """Count entries of a true label: all, labels right, headlines right and wrong, names right and wrong."""
    wanted, opposite = (REAL, GENERATED) if label == REAL else (GENERATED, REAL)
    names = ~np.isin(given.verdicts, (INCONCLUSIVE, REAL, UNKNOWN)) & here
    flags = (
        here,
        here & (given.tops == label),
        here & (given.headlines == wanted),
        here & (given.headlines == opposite),
        names & (given.verdicts == label),
        names & (given.verdicts != label),
    )
    return np.array([flag.sum() for flag in flags], np.float64)


def _shares(total: Floats) -> list[str]:
    return [f"{value / total[0]:.2f}" for value in total[1:]]
