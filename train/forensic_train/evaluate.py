"""Evaluation of exported ONNX files, never of checkpoints, on labelled images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from forensic_cli.card import INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN, Decision, ModelCard
from forensic_cli.console import track
from forensic_cli.errors import DataError
from forensic_cli.model import Evidence, Logits, Model, images_at_once
from forensic_cli.pipeline import Prepared, Reading, work_on
from forensic_cli.verdict import probabilities, top_labels
from forensic_train.crossfit.scores import Scores
from forensic_train.decide import answer_of
from forensic_train.metrics import Metrics, class_table, wilson_interval, worst_cell
from forensic_train.network import Network
from forensic_train.recipes import Recipe
from forensic_train.rows import Row, Rows, as_rows
from forensic_train.run import EXPORTS_FOLDER, draw_folders, read_split
from forensic_train.signals import FORMS, ORIGINAL, Signals, measure_signals

_BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """Figures of one model on one set of images."""

    model: str
    """Its name on the card."""
    technique: str
    """Its technique."""
    images: str
    """Name of the set of images."""
    labels: tuple[str, ...]
    """Order of the confusion matrix."""
    metrics: Metrics
    """Figures of the raw labels."""
    states: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{state: figures of its answers with intervals over sources, see decide.measure}."""
    by_generator: Sequence[Sequence[object]] = ()
    """Lines of decide.by_generator."""
    by_source: Sequence[Sequence[object]] = ()
    """Lines of decide.by_source."""


def evaluate_model(model: Model, rows: Sequence[Row], images: str) -> Evaluation:
    """Measure an export on labelled images, with the same pipeline as a scan.

    Raises DataError for unreadable images and for generators that the export does not know.
    """
    check_labels_known(model, rows)
    card, (logits, distances, states) = model.card, infer(model, rows)
    calibrated = calibrated_rows(card, logits, states)
    return Evaluation(
        card.name, card.technique, images, card.labels, measure(card, rows, calibrated, distances, states)
    )


def calibrated_rows(card: ModelCard, logits: Logits, states: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return calibrated probabilities B x K of images in states B; uncalibrated for states without a decision."""
    calibrated = np.zeros(logits.shape)
    for state in sorted(set(states)):
        here = np.array([name == state for name in states])
        calibrated[here] = probabilities(card, card.decision(state) or Decision(), logits[here])
    return calibrated


def infer(model: Model, rows: Sequence[Row]) -> tuple[Logits, npt.NDArray[np.float32], list[str]]:
    """Return logits B x K, distances B and states B of images, in their order, whatever their labels."""
    batch_size = images_at_once([model])
    reading = Reading((model.card.preprocessing,))
    judged = work_on((row.path for row in rows), reading, partial(_batch, model), batch_size)
    parts = list(track(judged, f"evaluating {model.card.name}", math.ceil(len(rows) / batch_size)))
    if not parts:
        return np.zeros((0, len(model.card.labels)), np.float32), np.zeros(0, np.float32), []
    evidence, states = zip(*parts, strict=True)
    logits, distances = ([getattr(part, name) for part in evidence] for name in ("logits", "distances"))
    return np.concatenate(logits), np.concatenate(distances), [state for batch in states for state in batch]


def score_rows(
    model: Model, network: Network, rows: Sequence[Row], recipe: Recipe, folder: Path, fold: int = 0
) -> Scores:
    """Judge held-out images: in every form if the encoder pools signals (kept in `folder`), otherwise as published.

    The export passed its parity check, so the network and the export give the same logits.
    """
    card, count = model.card, len(rows)
    if network.encoder.pools:
        signals = measure_signals(rows, recipe.encoder(), recipe.preprocessing, folder)
        logits, distances = _judge_signals(network, signals)
        forms, states = FORMS, signals.states
    else:
        image_logits, image_distances, names = infer(model, rows)
        logits, distances, states = image_logits[:, None], image_distances[:, None], np.array(names)[:, None]
        forms = (ORIGINAL,)
    return Scores(
        card.technique, card.labels, tuple(rows), np.full(count, fold, np.int64), forms, states, logits, distances
    )


def _judge_signals(network: Network, signals: Signals) -> tuple[Logits, npt.NDArray[np.float32]]:
    """Return logits B x D x K and distances B x D of signals B x D x F; unknown states are judged as the first one."""
    names = network.encoder.states
    network = network.cpu().eval()
    logits, distances = [], []
    with torch.inference_mode():
        for values, states in zip(signals.values, signals.states, strict=True):
            index = torch.tensor([names.index(name) if name in names else 0 for name in states.tolist()])
            signal = torch.from_numpy(values.astype(np.float32))
            logits.append(network.classify(signal, index).numpy())
            distances.append(network.encoder.distance(signal, index).numpy())
    return np.stack(logits), np.stack(distances)


def check_labels_known(model: Model, rows: Sequence[Row]) -> None:
    """Raise DataError if the generator of a row is not one of the model's labels."""
    unknown = sorted({row.generator for row in rows} - set(model.card.labels))
    if unknown:
        raise DataError(
            f"{model.card.name} does not know {', '.join(unknown)}; its labels are {', '.join(model.card.labels)}"
        )


def check_readable(batch: Sequence[Prepared]) -> None:
    """Raise DataError for an image that could not be read: a measurement must not skip any."""
    for item in batch:
        if item.failure is not None:
            raise DataError(f"{item.path}: {item.failure.reason}; repair or remove it")


def targets_of(card: ModelCard, rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Return the index of each row's generator among the model's labels."""
    return np.array([card.labels.index(row.generator) for row in rows], np.int64)


def measure(
    card: ModelCard,
    rows: Sequence[Row],
    calibrated: npt.NDArray[np.float64],
    distances: npt.NDArray[np.float32] | None = None,
    states: Sequence[str] = (),
) -> Metrics:
    """Compute every figure of the report from calibrated probabilities B x K. Raises DataError if there are no images.

    With `distances` and `states`, the figures include how good the answers of a scan would be.
    """
    if not rows:
        raise DataError("there are no images to evaluate on; assign some rows to the split `test`")
    labels = card.labels
    targets = targets_of(card, rows)
    top = top_labels(labels, calibrated)
    right = top == targets
    table = class_table([row.generator for row in rows], [labels[k] for k in top], labels)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (targets, top), 1)
    cell, cell_accuracy, cell_images = worst_cell([(r.generator, r.subject) for r in rows], [bool(x) for x in right])
    answers = None if distances is None else _answers(card, rows, calibrated, distances, states)
    return Metrics(
        images=len(rows),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(rows)),
        precision=float(np.mean([line.precision for line in table])),
        recall=float(np.mean([line.recall for line in table])),
        f1=float(np.mean([line.f1 for line in table])),
        classes=table,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        worst_cell=cell,
        worst_cell_accuracy=cell_accuracy,
        worst_cell_images=cell_images,
        ece=expected_calibration_error(calibrated, targets),
        **({} if answers is None else _answer_figures(answers)),
    )


def expected_calibration_error(calibrated: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence, 0 to 1."""
    confidence = calibrated.max(axis=1)
    right = calibrated.argmax(axis=1) == targets
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def _answers(
    card: ModelCard,
    rows: Sequence[Row],
    calibrated: npt.NDArray[np.float64],
    distances: npt.NDArray[np.float32],
    states: Sequence[str],
) -> list[tuple[str, str, str]]:
    """Return the true label, headline and verdict of each image, as a scan with this model alone gives them."""
    return [
        (row.generator, *answer_of(card.labels, values, card.decision(state), float(distance)))
        for row, values, distance, state in zip(rows, calibrated, distances, states, strict=True)
    ]


def _answer_figures(answers: Sequence[tuple[str, str, str]]) -> dict[str, float | None]:
    """Return how many answers decide or name, and how many of those are right."""
    decided = [(truth, headline) for truth, headline, _ in answers if headline != UNDECIDED]
    named = [(truth, verdict) for truth, _, verdict in answers if verdict not in (INCONCLUSIVE, REAL, UNKNOWN)]
    right = sum((truth == REAL) == (headline == REAL) for truth, headline in decided)
    return {
        "decided": len(decided) / len(answers),
        "decided_accuracy": right / len(decided) if decided else None,
        "named": len(named) / len(answers),
        "named_accuracy": sum(truth == verdict for truth, verdict in named) / len(named) if named else None,
    }


def image_sets(rows: Sequence[Row], model: Model) -> dict[str, Rows]:
    """Return the image sets of a model: `test`, and `unseen` (with `adapt`) if the model was not adapted to that."""
    packed = as_rows(rows)
    sets = {"test": packed.where("split", ["test"])}
    if "adapt" not in model.card.training.get("splits", ()):
        unseen = packed.where("split", ["adapt", "test"])
        if len(unseen) > len(sets["test"]):
            sets["unseen"] = unseen
    return sets


def evaluate_all(models: Sequence[Model], rows: Sequence[Row]) -> list[Evaluation]:
    """Evaluate every model on every image set that it was not fitted on."""
    return [evaluate_model(model, chosen, name) for model in models for name, chosen in image_sets(rows, model).items()]


def evaluate_draws(run: Path, models: Sequence[Model], device: str) -> list[Evaluation]:
    """Evaluate the models of a run on the test images of each further draw (`train --draws`).

    An adapted model is replaced by the one that was adapted to that draw. The image sets are called draw-1 and so on.
    """
    evaluations = []
    for folder in draw_folders(run):
        rows = read_split(folder).where("split", ["test"])
        for model in models:
            adapted = "adapt" in model.card.training.get("splits", ())
            own = folder / EXPORTS_FOLDER / model.path.name if adapted else model.path
            if own.exists():  # the last draw may be unfinished
                drawn = Model.load(own, device) if adapted else model
                evaluations.append(evaluate_model(drawn, rows, folder.name))
    return evaluations


def _batch(model: Model, batch: list[Prepared]) -> tuple[Evidence, list[str]]:
    check_readable(batch)
    samples = [item.sample for item in batch if item.sample is not None]
    states = [sample.state for sample in samples]
    return model.judge([sample.views[0] for sample in samples], states), states
