"""Evaluation of exported ONNX files on labelled images; never of checkpoints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forensic_cli.card import ModelCard
from forensic_cli.console import track
from forensic_cli.ensemble import UNKNOWN, judge, predict
from forensic_cli.errors import DataError
from forensic_cli.model import Logits, Model, images_at_once
from forensic_cli.pipeline import Prepared, Reading, work_on
from forensic_train.calibrate import Targets, expected_calibration_error
from forensic_train.likelihood import RatioCosts, measure_ratios
from forensic_train.manifest import Row
from forensic_train.metrics import Metrics, class_table, wilson_interval, worst_cell
from forensic_train.run import EXPORTS_FOLDER, draw_folders, read_split


@dataclass(frozen=True)
class Scored:
    """What a model said of labelled images, for pictures."""

    card: ModelCard
    """Of the model."""
    probabilities: npt.NDArray[np.float64]
    """Calibrated, B x K."""
    targets: Targets
    """Index of each image's label, B."""


@dataclass(frozen=True)
class Evaluation:
    """One model on one set of images."""

    model: str
    """Name on its card."""
    technique: str
    """From its card."""
    images: str
    """Name of the set."""
    labels: tuple[str, ...]
    """Order of the confusion matrix."""
    metrics: Metrics
    """What was measured."""
    ratios: Mapping[str, RatioCosts] = field(default_factory=dict)
    """Costs of the card's likelihood ratios on these images, by label."""
    scored: Scored | None = field(default=None, repr=False, compare=False)
    """The scores behind the figures; not part of the JSON."""


def evaluate_model(model: Model, rows: Sequence[Row], images: str) -> Evaluation:
    """Measure an export on labelled images through the scan's own pipeline.

    Raises DataError for bad images and for generators that the export does not know.
    """
    check_labels_known(model, rows)
    card, probabilities = model.card, model.probabilities(infer(model, rows))
    metrics, targets = measure(card, rows, probabilities), targets_of(card, rows)
    ratios = measure_ratios(card, probabilities, targets)
    scored = Scored(card, probabilities, targets)
    return Evaluation(card.name, card.technique, images, card.labels, metrics, ratios, scored)


def infer(model: Model, rows: Sequence[Row]) -> Logits:
    """Return image logits B x K of images, in their order, whatever their labels."""
    reading = Reading((model.card.preprocessing,), batch_size=images_at_once([model]))
    judged = work_on((row.path for row in rows), reading, partial(_batch_logits, model))
    parts = list(track(judged, f"evaluating {model.card.name}", math.ceil(len(rows) / reading.batch_size)))
    return np.concatenate(parts) if parts else np.zeros((0, len(model.card.labels)), np.float32)


def check_labels_known(model: Model, rows: Sequence[Row]) -> None:
    """Raise DataError where a row's generator is none of the model's labels."""
    unknown = sorted({row.generator for row in rows} - set(model.card.labels))
    if unknown:
        raise DataError(
            f"{model.card.name} does not know {', '.join(unknown)}; its labels are {', '.join(model.card.labels)}"
        )


def check_readable(batch: Sequence[Prepared]) -> None:
    """Raise DataError for an image that could not be read: a measurement leaves none out."""
    for item in batch:
        if item.failure is not None:
            raise DataError(f"{item.path}: {item.failure.reason}; mend it or take it out of the data")


def targets_of(card: ModelCard, rows: Sequence[Row]) -> Targets:
    """Return the index of each row's generator among the model's labels."""
    return np.array([card.labels.index(row.generator) for row in rows], np.int64)


def measure(card: ModelCard, rows: Sequence[Row], probabilities: npt.NDArray[np.float64]) -> Metrics:
    """Compute every figure of the report from calibrated probabilities B x K. Raises DataError without images."""
    if not rows:
        raise DataError("there are no images to evaluate on; give rows of the split `test`")
    labels = card.labels
    targets = targets_of(card, rows)
    top = probabilities.argmax(axis=1)
    right = top == targets
    table = class_table([row.generator for row in rows], [labels[k] for k in top], labels)
    confusion = np.zeros((len(labels), len(labels)), int)
    np.add.at(confusion, (targets, top), 1)
    cell, cell_accuracy, cell_images = worst_cell([(r.generator, r.subject) for r in rows], [bool(x) for x in right])
    conclusive = probabilities.max(axis=1) >= card.threshold
    named = named_images(card, probabilities)
    return Metrics(
        images=len(rows),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), len(rows)),
        precision=float(np.mean([one.precision for one in table])),
        recall=float(np.mean([one.recall for one in table])),
        f1=float(np.mean([one.f1 for one in table])),
        classes=table,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        worst_cell=cell,
        worst_cell_accuracy=cell_accuracy,
        worst_cell_images=cell_images,
        ece=expected_calibration_error(probabilities, targets),
        inconclusive=float(1 - conclusive.mean()),
        conclusive_accuracy=float(right[conclusive].mean()) if conclusive.any() else None,
        named=float(named.mean()) if card.sets else None,
        named_accuracy=float(right[named].mean()) if card.sets and named.any() else None,
    )


def named_images(card: ModelCard, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell for calibrated B x K which images a scan with this model alone names, at its own threshold and coverage."""
    level = card.sets.default if card.sets else None
    one = [predict(card.labels, row, card, level) for row in probabilities]
    verdicts = [judge(p.label, p.confidence, card.threshold, p.candidates if card.sets else None) for p in one]
    return np.array([verdict == p.label != UNKNOWN for verdict, p in zip(verdicts, one, strict=True)], bool)


def image_sets(rows: Sequence[Row], model: Model) -> dict[str, list[Row]]:
    """Return the sets that a model is scored on: `test` for all, `unseen` (with `adapt`) where it did not adapt."""
    sets = {"test": [row for row in rows if row.split == "test"]}
    if "adapt" not in model.card.training.get("splits", ()):
        unseen = [row for row in rows if row.split in ("adapt", "test")]
        if len(unseen) > len(sets["test"]):
            sets["unseen"] = unseen
    return sets


def evaluate_all(models: Sequence[Model], rows: Sequence[Row]) -> list[Evaluation]:
    """Score every model on every set that is fair to it."""
    return [evaluate_model(model, chosen, name) for model in models for name, chosen in image_sets(rows, model).items()]


def evaluate_draws(run: Path, models: Sequence[Model], device: str) -> list[Evaluation]:
    """Score the models of a run on the test images of each further draw of what is adapted to (`train --draws`).

    A model that adapted is replaced by the one that adapted to the draw. The sets are called draw-1 and so on.
    """
    found = []
    for folder in draw_folders(run):
        rows = [row for row in read_split(folder) if row.split == "test"]
        for model in models:
            adapted = "adapt" in model.card.training.get("splits", ())
            own = folder / EXPORTS_FOLDER / model.path.name if adapted else model.path
            if own.exists():  # the last draw may not be finished
                drawn = Model.load(own, device) if adapted else model
                found.append(evaluate_model(drawn, rows, folder.name))
    return found


def _batch_logits(model: Model, batch: list[Prepared]) -> Logits:
    check_readable(batch)
    return model.image_logits([item.views[0] for item in batch])
