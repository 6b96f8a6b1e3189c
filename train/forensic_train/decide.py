"""Decisions: how logits of left-out images become answers, and how good such answers are on sources that chose nothing.

The unit that is left out is the source, everywhere: each source weighs the same within its label, the figures come
from sources that chose none of the numbers they are measured with, and intervals are drawn over sources.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import (
    ANY_STATE,
    GENERATED,
    INCONCLUSIVE,
    NEVER,
    REAL,
    UNDECIDED,
    UNKNOWN,
    Decision,
    LikelihoodRatio,
    ModelCard,
)
from forensic_cli.verdict import answer_of, generated_score, probabilities, top_labels
from forensic_train.crossfit.scores import Scores
from forensic_train.likelihood import fit_ratio
from forensic_train.manifest import source_weights, unit_of
from forensic_train.seeds import generator_for
from forensic_train.signals import ORIGINAL

Floats: TypeAlias = npt.NDArray[np.float64]
Texts: TypeAlias = npt.NDArray[np.str_]

RIGHT_HEADLINES = 0.95
"""Share of right ones that the headlines `generated` and `real` aim at, at even odds."""
WRONG_PHOTOGRAPHS = 0.03
"""Share of what is real that may be called generated."""
RIGHT_NAMES = 0.97
"""Share of right ones that names aim at."""
LEAST_NAMED = 3
"""Sources of a generator that must be named rightly before it is named at all."""
COVERED = 0.9
"""Share of generated images whose short list is to hold their generator."""
LEAST_NAME = 0.5
"""A name needs more probability than all other generators together."""
LEAST_SOURCES = 4
"""Sources on each side that a state needs to be answered for; with fewer nothing could be left out."""
LEAST_RIGHT = 0.9
"""Share of right headlines of a kind, at even odds, below which a state gives none of that kind, where it gave ..."""
LEAST_ANSWERS = 20
"""... this many."""
ALL_FORMS, AS_FOUND = "all forms", "as found"
"""Names of figures: of images in every form that is in a state, and of those that were published in it."""
_ROTATIONS = 5
_DRAWN = 200
"""Resamples of the sources behind an interval."""
_FARTHEST = 0.98
"""Share of the images that lie no farther from training than is answered for."""
_BINS = 10
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
    """M: every label the same within generated, and every source within its label; generated and real the same."""
    forms: Texts
    """M: name of the form that the image is in (signals.FORMS)."""

    @property
    def as_found(self) -> npt.NDArray[np.bool_]:
        """M: whether it is an image as it was published, not one of its other forms."""
        return np.asarray(self.forms == ORIGINAL)

    def at(self, where: npt.NDArray[Any]) -> "Entries":
        """Return some of them."""
        return Entries(*(getattr(self, field.name)[where] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.truth)


def state_entries(card: ModelCard, scores: Scores) -> dict[str, Entries]:
    """Gather scores by state, in the card's label order."""
    order = [scores.labels.index(label) for label in card.labels]
    truth = np.array([row.generator for row in scores.rows])
    sources = np.array([unit_of(row) for row in scores.rows])
    found = {}
    for state in card.states:
        image, form = np.nonzero(np.ones(scores.states.shape, bool) if state == ANY_STATE else scores.states == state)
        if len(image):
            found[state] = Entries(
                scores.logits[image, form][:, order],
                scores.distances[image, form],
                truth[image],
                sources[image],
                source_weights(truth[image], sources[image]),
                np.array(scores.forms)[form],
            )
    return found


def fit_decisions(card: ModelCard, scores: Scores) -> dict[str, Decision]:
    """Return a decision for each state with enough sources, each with its figures on sources that chose nothing."""
    decisions = {}
    for state, entries in state_entries(card, scores).items():
        if not _enough(card, entries):
            continue
        decision = with_ratios(card, fit_decision(card, entries), entries)
        answers = nested_answers(card, entries)
        figures = figures_by_form(card, answers)
        checked = [figures[name] for name in (ALL_FORMS, AS_FOUND) if name in figures]
        if any(_misleads(measured, "generated_found", "real_called_generated") for measured in checked):
            decision = replace(decision, generated_from=NEVER, names_from={})
        if any(_misleads(measured, "real_found", "generated_called_real") for measured in checked):
            decision = replace(decision, real_to=-NEVER)
        if not decision.is_silent:  # of a silent state it is told what its answers would have been worth
            figures = figures_by_form(card, silenced(answers, decision))
        decisions[state] = replace(decision, measured=figures)
    return decisions


def figures_by_form(card: ModelCard, answers: "Answers") -> dict[str, dict[str, Any]]:
    """Return the figures of all forms together, of images as they were found, and of each other form."""
    figures = {ALL_FORMS: measure(card, answers)}
    forms = answers.entries.forms
    names = dict.fromkeys(forms.tolist())
    if len(names) > 1:
        for form in sorted(names, key=lambda name: name != ORIGINAL):
            figures[AS_FOUND if form == ORIGINAL else form] = measure(card, answers.at(forms == form))
    return figures


def _misleads(measured: Mapping[str, Any], right: str, wrong: str) -> bool:
    """Tell whether too many headlines of a kind were wrong on sources that chose nothing: they are better not given.

    `right`, `wrong`: names of the shares of either side that got the headline.
    """
    if measured[right] is None or measured[wrong] is None:
        return False
    given = measured[right] + measured[wrong]
    return bool(given / 2 * measured["images"] >= LEAST_ANSWERS and measured[right] < LEAST_RIGHT * given)


def silenced(answers: "Answers", decision: Decision) -> "Answers":
    """Return the same answers without the headlines that a decision never gives."""
    never = (answers.headlines == GENERATED) & (decision.generated_from >= NEVER)
    never |= (answers.headlines == REAL) & (decision.real_to <= -NEVER)
    headlines, verdicts = answers.headlines.copy(), answers.verdicts.copy()
    headlines[never], verdicts[never] = UNDECIDED, INCONCLUSIVE
    return replace(answers, headlines=headlines, verdicts=verdicts)


def _enough(card: ModelCard, entries: Entries) -> bool:
    """Whether each side has sources enough; a model that cannot say `real` has one side only."""
    real = entries.truth == REAL
    sides = [~real, real] if REAL in card.labels else [~real]
    return min(len(set(entries.sources[side].tolist())) for side in sides) >= LEAST_SOURCES


def fit_decision(card: ModelCard, entries: Entries) -> Decision:
    """Choose every number of a decision but its likelihood ratios."""
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
        # What lies farther is not answered for, so it must not choose the answers of the others
        entries = entries.at(entries.distances <= farthest)
    rows = probabilities(card, decision, entries.logits)
    if REAL in card.labels:
        decision = replace(decision, **_headline_limits(1 - rows[:, card.labels.index(REAL)], entries))
    decision = replace(decision, names_from=_names_from(card, decision, rows, entries))
    return replace(decision, shortlist=_shortlist(card, rows, entries))


def _platt(score: Floats, entries: Entries) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100.0).fit(score[:, None], entries.truth != REAL, entries.weights * len(score))
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    # A score that spoke against its own statement would be no evidence
    return (round(slope, 6), round(intercept, 6)) if slope > 1e-6 else (1e-6, 0.0)


def _temperature(card: ModelCard, entries: Entries) -> float:
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
    """Return from which probability on a headline says `generated`, and up to which it says `real`."""
    real, weights = entries.truth == REAL, entries.weights
    order = np.argsort(-generated, kind="stable")
    right, wrong = np.cumsum((weights * ~real)[order]), np.cumsum((weights * real)[order])
    good = (right >= RIGHT_HEADLINES * (right + wrong)) & (wrong <= WRONG_PHOTOGRAPHS * weights[real].sum())
    # Nor in any one form: what is easy for whole images must not be paid for by small parts of them
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
    """Return the sums of weights up to each, as shares of their total."""
    return np.asarray(np.cumsum(weights) / max(weights.sum(), _LEAST_WEIGHT), np.float64)


def _ends(ordered: Floats) -> npt.NDArray[np.bool_]:
    """Tell where a threshold may lie: behind the last of equal values, for it cannot tell them apart."""
    return np.append(ordered[1:] != ordered[:-1], True)


def _names_from(card: ModelCard, decision: Decision, rows: Floats, entries: Entries) -> dict[str, float]:
    """Return for each generator the lowest probability among them from which on its name is right often enough.

    A generator of which fewer than LEAST_NAMED sources get as much is never named.
    """
    columns = np.array([k for k, label in enumerate(card.labels) if label != REAL])
    among = rows[:, columns] / rows[:, columns].sum(axis=1, keepdims=True)
    tops, certain = np.array(card.labels)[columns][among.argmax(axis=1)], among.max(axis=1)
    asked = certain >= LEAST_NAME
    if REAL in card.labels:
        asked &= 1 - rows[:, card.labels.index(REAL)] >= decision.generated_from
    return {
        label: _least_certain(entries.at(asked & (tops == label)), certain[asked & (tops == label)], label)
        for label in card.generators
    }


def _least_certain(entries: Entries, certain: Floats, label: str) -> float:
    """Return from which certainty on enough of the entries, which would all get the name, are of it."""
    order = np.argsort(-certain, kind="stable")
    right, weights = (entries.truth == label)[order], entries.weights[order]
    _, first = np.unique(entries.sources[order][right], return_index=True)
    if len(first) < LEAST_NAMED:
        return NEVER
    enough = np.arange(len(order)) >= np.flatnonzero(right)[np.sort(first)[LEAST_NAMED - 1]]
    good = enough & (np.cumsum(weights * right) >= RIGHT_NAMES * np.cumsum(weights)) & _ends(certain[order])
    return float(certain[order][np.flatnonzero(good)[-1]]) if good.any() else NEVER


def _shortlist(card: ModelCard, rows: Floats, entries: Entries) -> float:
    """Return the share of probability whose short lists hold the generator often enough (Romano et al. 2020)."""
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
    # A list ends where it reaches its share, so the share lies above what comes before the generator
    above = (np.floor(before[order][np.searchsorted(share, COVERED)] * 1e6) + 1) / 1e6
    return float(np.clip(above, LEAST_NAME, 1.0))


def with_ratios(card: ModelCard, decision: Decision, entries: Entries) -> Decision:
    """Add the likelihood ratios that are better than silence on left-out sources; others are left out."""
    ratios: dict[str, LikelihoodRatio] = {}
    generated = None
    rows = probabilities(card, decision, entries.logits)
    real = entries.truth == REAL
    if REAL in card.labels and real.any():
        generated = fit_ratio(1 - rows[:, card.labels.index(REAL)], ~real, entries.weights, entries.sources)
    known = np.isin(entries.truth, card.generators)
    total = rows[known][:, [k for k, label in enumerate(card.labels) if label != REAL]].sum(axis=1)
    for label in card.generators:
        mine = entries.truth[known] == label
        share = rows[known, card.labels.index(label)] / total
        ratio = fit_ratio(share, mine, entries.weights[known], entries.sources[known])
        if ratio is not None:
            ratios[label] = ratio
    return replace(decision, generated=generated, ratios=ratios)


@dataclass(frozen=True)
class Answers:
    """What decisions that never saw the sources of M entries say of them."""

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
        """Return some of them."""
        parts = {name: value[where] for name, value in vars(self).items() if name != "entries"}
        return Answers(entries=self.entries.at(where), **parts)


def nested_answers(card: ModelCard, entries: Entries) -> Answers:
    """Answer for entries with decisions that were chosen on other sources, source by source in rotation."""
    rotation = _rotations(entries)
    headlines, verdicts = np.full(len(entries), UNDECIDED, object), np.full(len(entries), INCONCLUSIVE, object)
    tops, generated = np.full(len(entries), "", object), np.full(len(entries), 0.5)
    for k in range(_ROTATIONS):
        here = np.array([rotation[source] == k for source in entries.sources.tolist()])
        others = entries.at(~here)
        if not here.any() or not _enough(card, others):
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


def _rotations(entries: Entries) -> dict[str, int]:
    """Deal the sources of every label out to the rotations, in an order drawn once."""
    dealt: dict[str, int] = {}
    for label in sorted(set(entries.truth.tolist())):
        sources = sorted(set(entries.sources[entries.truth == label].tolist()) - set(dealt))
        offset = len(dealt)
        for i, k in enumerate(generator_for("rotation", 0, len(label)).permutation(len(sources))):
            dealt[sources[k]] = (i + offset) % _ROTATIONS
    return dealt


def measure(card: ModelCard, answers: Answers) -> dict[str, Any]:
    """Return the figures that a buyer wants, with 95 % intervals over sources.

    Every share is one at even odds: sources weigh the same within their label, labels within generated, and generated
    as much as real, so that no large source and no mixture of labels makes a figure.
    """
    weigher = _Weigher(answers.entries)
    figures = _figures(card, answers, weigher.weights(np.ones(len(weigher.sources))))
    rng = generator_for("interval", 0)
    count = len(weigher.sources)
    drawn = [
        _figures(card, answers, weigher.weights(np.bincount(rng.integers(count, size=count), minlength=count)))
        for _ in range(_DRAWN)
    ]
    intervals = {
        name: [
            round(float(np.quantile([one[name] for one in drawn if one[name] is not None], q)), 4)
            for q in (0.025, 0.975)
        ]
        for name in _WITH_INTERVALS
        if any(one[name] is not None for one in drawn)
    }
    return {"images": len(answers.entries), "sources": count, **figures, "intervals": intervals}


_WITH_INTERVALS = (
    *("auroc", "macro_recall", "decided", "decided_right", "real_called_generated"),
    *("generated_found", "named", "named_right"),
)


class _Weigher:
    """Weighs entries by source_weights(), where each source may count several times, or not at all."""

    def __init__(self, entries: Entries) -> None:
        self.sources, source = np.unique(entries.sources, return_inverse=True)
        labels, label = np.unique(entries.truth, return_inverse=True)
        self._is_real = labels == REAL
        cells, self._cell = np.unique(label * len(self.sources) + source, return_inverse=True)
        self._cell_label, self._cell_source = cells // len(self.sources), cells % len(self.sources)
        self._images = np.bincount(self._cell)

    def weights(self, times: npt.NDArray[Any]) -> Floats:
        """Return a weight for each entry; `times`: how often each source counts. Both sides sum to 1 where they can."""
        counted = times[self._cell_source].astype(np.float64)
        total = np.bincount(self._cell_label, counted, minlength=len(self._is_real))
        generated = max(1, int(((total > 0) & ~self._is_real).sum()))
        share = np.where(self._is_real, 1.0, 1 / generated) / np.maximum(total, _LEAST_WEIGHT)
        return np.asarray((counted * share[self._cell_label] / self._images)[self._cell], np.float64)


def _figures(card: ModelCard, answers: Answers, weights: Floats) -> dict[str, Any]:
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
        "auroc": _rounded(_weighted_auroc(generated, ~real, weights) if both else None),
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


def _weighted_auroc(scores: Floats, positive: npt.NDArray[np.bool_], weights: Floats) -> float:
    """Return the probability that a positive scores above a negative, ties by half, each as probable as its weight."""
    _, place = np.unique(scores, return_inverse=True)
    above, below = (np.bincount(place, weights * side) for side in (positive, ~positive))
    return float((above * (np.cumsum(below) - below / 2)).sum() / (above.sum() * below.sum()))


def _calibration_error(generated: Floats, truth: npt.NDArray[np.bool_], weights: Floats) -> float:
    """Return the expected calibration error of a probability over ten equal bins."""
    bins = np.minimum((generated * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights * (truth - generated), minlength=_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _share(flags: npt.NDArray[np.bool_], weights: Floats, among: npt.NDArray[np.bool_]) -> float | None:
    """Return which share of some entries has a flag; None where they weigh nothing."""
    total = weights[among].sum()
    return _rounded(float(weights[among & flags].sum() / total)) if total > 0 else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def by_generator(answers: Mapping[str, Answers]) -> Iterator[list[object]]:
    """Yield a line a state and true label: images, sources, label right, headline right, named, named rightly."""
    for state, one in answers.items():
        for label in sorted(set(one.entries.truth.tolist())):
            yield [state, *_line(one, label, one.entries.truth == label)]


def by_source(answers: Mapping[str, Answers]) -> Iterator[list[object]]:
    """Yield the same for each true label and source, over all states."""
    cells: dict[tuple[str, str], list[tuple[Answers, npt.NDArray[np.bool_]]]] = {}
    for one in answers.values():
        pairs = sorted(set(zip(one.entries.truth.tolist(), one.entries.sources.tolist(), strict=True)))
        for label, source in pairs:
            here = (one.entries.truth == label) & (one.entries.sources == source)
            cells.setdefault((label, source), []).append((one, here))
    for (label, source), parts in sorted(cells.items()):
        figures = [_counts(one, label, here) for one, here in parts]
        total = np.sum(figures, axis=0)
        yield [label, source, int(total[0]), *_shares(total)]


def _line(one: Answers, label: str, here: npt.NDArray[np.bool_]) -> list[object]:
    total = _counts(one, label, here)
    return [label, int(total[0]), len(set(one.entries.sources[here].tolist())), *_shares(total)]


def _counts(one: Answers, label: str, here: npt.NDArray[np.bool_]) -> Floats:
    """Return images, labels right, headlines right, wrong, names right, names wrong."""
    wanted, opposite = (REAL, GENERATED) if label == REAL else (GENERATED, REAL)
    names = ~np.isin(one.verdicts, (INCONCLUSIVE, REAL, UNKNOWN)) & here
    flags = (
        here,
        here & (one.tops == label),
        here & (one.headlines == wanted),
        here & (one.headlines == opposite),
        names & (one.verdicts == label),
        names & (one.verdicts != label),
    )
    return np.array([flag.sum() for flag in flags], np.float64)


def _shares(total: Floats) -> list[str]:
    return [f"{value / total[0]:.2f}" for value in total[1:]]
