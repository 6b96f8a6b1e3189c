"""Figures from out-of-fold scores: recall of every left-out source or subject, calibration, open-set measures."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from forensic_cli.card import UNKNOWN, ModelCard
from forensic_cli.model import softmax
from forensic_cli.verdict import known_labels
from forensic_train.crossfit.scores import Scores
from forensic_train.decide import Answers, by_generator, by_source, fit_decisions, nested_answers, silenced
from forensic_train.evaluate import Evaluation, calibrated_rows, measure
from forensic_train.metrics import wilson_interval
from forensic_train.openset import auroc, oscr
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.techniques import find_techniques, splits_behind
from forensic_train.thresholds import state_entries

SET_NAME = "left-out"
"""Name of the images in reports and cards."""


@dataclass(frozen=True)
class UnitRecall:
    """Recall of one generator in one left-out unit."""

    technique: str
    """Its name."""
    generator: str
    """True label."""
    unit: str
    """Source or subject."""
    images: int
    """Images of the generator in the unit."""
    recall: float
    """Share of the images with the right raw label, 0 to 1."""
    interval: tuple[float, float]
    """Wilson 95 % interval."""
    mistaken: str
    """The most frequent wrong label; empty if all are right."""


@dataclass(frozen=True)
class OpenSet:
    """How well a score separates a left-out generator from known ones whose sources were left out as well."""

    technique: str
    """Its name."""
    generator: str
    """The one that was left out."""
    score: str
    """Name in SCORES."""
    images: int
    """Images of the left-out generator."""
    known: int
    """Images of known labels."""
    auroc: float
    """0 to 1; .5 is chance."""
    oscr: float
    """Area under the open-set classification rate curve, 0 to 1."""
    rejected: float
    """Share of the generator's images below the score that rejects one known image in ten, 0 to 1."""


def left_out_card(scores: Scores, recipe: Recipe, unit: str) -> ModelCard:
    """Return a card with decisions fitted on out-of-fold scores."""
    card = ModelCard(
        name=f"{recipe.name}-{scores.technique}",
        technique=scores.technique,
        recipe=recipe.name,
        labels=scores.labels,
        preprocessing=recipe.preprocessing,
        states=recipe.encoder().states,
        training={"splits": splits_behind(find_techniques(scores.technique)[0])},
    )
    return calibrate_on(card, scores, unit)


def calibrate_on(card: ModelCard, scores: Scores, unit: str = "source") -> ModelCard:
    """Return the card with decisions fitted on out-of-fold scores, and a sentence about their images."""
    rows, _ = known_part(scores)
    units = len({getattr(row, unit) for row in rows})
    described = (
        f"{len(rows)} images from {units} {unit}s, each judged by a model of the same kind that was trained without "
        f"its {unit}"
    )
    if "adapt" in card.training.get("splits", ()):
        described += f" and whose last layer was adapted to other {unit}s that the training had not seen"
    return replace(card, decisions=fit_decisions(card, scores), validation=f"{described}.")


def known_part(scores: Scores) -> tuple[list[Row], npt.NDArray[np.float32]]:
    """Return the rows with a known generator, and the logits B x K of their images as published."""
    places = [i for i, row in enumerate(scores.rows) if row.generator in scores.labels]
    return [scores.rows[i] for i in places], scores.logits[places, 0]


def evaluate_scores(card: ModelCard, scores: Scores) -> Evaluation:
    """Measure out-of-fold scores of images as published; their answers come from decisions fitted on other sources."""
    rows, logits = known_part(scores)
    places = [i for i, row in enumerate(scores.rows) if row.generator in scores.labels]
    ordered = logits[:, [scores.labels.index(x) for x in card.labels]]
    calibrated = calibrated_rows(card, ordered, scores.states[places, 0].tolist())
    answers = {
        state: _as_found(card, state, nested_answers(card, entries))
        for state, entries in state_entries(card, scores).items()
        if state in card.decisions and entries.as_found.any()
    }
    return Evaluation(
        card.name,
        card.technique,
        SET_NAME,
        card.labels,
        measure(card, rows, calibrated),
        states={state: decision.measured for state, decision in card.decisions.items()},
        by_generator=list(by_generator(answers)),
        by_source=list(by_source(answers)),
    )


def _as_found(card: ModelCard, state: str, answers: Answers) -> Answers:
    """Return the answers for images as published, as the final decision would give them."""
    return silenced(answers.at(answers.entries.as_found), card.decisions[state])


def unit_recalls(scores: Scores, unit: str) -> list[UnitRecall]:
    """Return the recall of every generator in every unit, sorted by generator, the worst last."""
    rows, logits = known_part(scores)
    named = [scores.labels[k] for k in logits.argmax(axis=1)]
    cells: dict[tuple[str, str], list[str]] = {}
    for row, label in zip(rows, named, strict=True):
        cells.setdefault((row.generator, getattr(row, unit)), []).append(label)
    recalls = []
    for (generator, name), labels in cells.items():
        right, wrong = labels.count(generator), [label for label in labels if label != generator]
        recalls.append(
            UnitRecall(
                scores.technique,
                generator,
                name,
                len(labels),
                right / len(labels),
                wilson_interval(right, len(labels)),
                max(sorted(set(wrong)), key=wrong.count) if wrong else "",
            )
        )
    return sorted(recalls, key=lambda recall: (recall.generator, -recall.recall, recall.unit))


def open_set(scores: Scores) -> list[OpenSet]:
    """Return the measures of every score for each left-out generator, from scores of `--leave-out generator`."""
    measured = []
    for fold in sorted(set(scores.folds.tolist())):
        places = [i for i, k in enumerate(scores.folds) if k == fold]
        unknown = [i for i in places if not _is_known(scores, i)]
        known = [i for i in places if i not in set(unknown) and scores.rows[i].generator != UNKNOWN]
        if not unknown or not known:
            continue
        right = np.array([scores.logits[i, 0].argmax() == _column(scores, i) for i in known])
        for name in SCORES if UNKNOWN in scores.labels else SCORES[:-1]:
            values = _certainty(name, scores)
            floor = np.quantile(values[known], _REJECTED)
            measured.append(
                OpenSet(
                    scores.technique,
                    scores.rows[unknown[0]].generator,
                    name,
                    len(unknown),
                    len(known),
                    auroc(values[known], values[unknown]),
                    oscr(values[known], right, values[unknown]),
                    float((values[unknown] < floor).mean()),
                )
            )
    return measured


SCORES = ("confidence", "margin", "energy", "known")
"""Highest probability of a known label; its lead over the second highest; log-sum-exp of the known logits; 1 minus the
probability of `unknown`, if the model has that label."""
_REJECTED = 0.1


def _certainty(name: str, scores: Scores) -> npt.NDArray[np.float64]:
    """Return one of SCORES for every image, B."""
    logits = scores.logits[:, 0].astype(np.float64)
    known = [scores.labels.index(label) for label in known_labels(scores.labels)]
    probabilities = softmax(logits)
    ordered = np.sort(probabilities[:, known], axis=1)
    if name == "confidence":
        return np.asarray(ordered[:, -1])
    if name == "margin":
        return np.asarray(ordered[:, -1] - ordered[:, -2])
    if name == "energy":
        return np.asarray(np.logaddexp.reduce(logits[:, known], axis=1))
    return np.asarray(1 - probabilities[:, scores.labels.index(UNKNOWN)])


def _is_known(scores: Scores, i: int) -> bool:
    """Tell whether the generator of an image is a label of the fold's model that judged it."""
    return scores.rows[i].generator in scores.labels and bool(np.isfinite(scores.logits[i, 0, _column(scores, i)]))


def _column(scores: Scores, i: int) -> int:
    return scores.labels.index(scores.rows[i].generator)
