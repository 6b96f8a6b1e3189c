"""Robustness: how well each export judges re-encoded test images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from forensic_cli.card import ModelCard, Preprocessing
from forensic_cli.console import track
from forensic_cli.errors import DataError
from forensic_cli.images.history import ORIGINAL, REENCODINGS
from forensic_cli.model import Model, Sample, images_at_once
from forensic_cli.pipeline import Prepared, Reading, work_on
from forensic_train.evaluate import check_labels_known, check_readable, targets_of
from forensic_train.metrics import wilson_interval
from forensic_train.rows import Row

TEST = "test"
"""Name of the split that is measured."""


@dataclass(frozen=True)
class RobustnessPoint:
    """Figures of one model on one set of images under one re-encoding."""

    model: str
    """Its name on the card."""
    technique: str
    """Its technique."""
    reencoding: str
    """`original`, or a name in history.REENCODINGS."""
    images: int
    """Number of images, without those that the format cannot store."""
    accuracy: float
    """Share of images with the right raw label, 0 to 1."""
    interval: tuple[float, float]
    """Wilson 95 % interval of the accuracy."""
    macro_recall: float
    """Mean recall over the generators, 0 to 1."""
    set: str = TEST
    """Name of the set of images."""


@dataclass(frozen=True)
class Reencoded:
    """The labels that one model gives to original and to re-encoded images."""

    card: ModelCard
    """Card of the model."""
    names: tuple[str, ...]
    """R names: `original`, then the re-encodings."""
    tops: npt.NDArray[np.int64]
    """R x B: index of the label; -1 if the format cannot store the image."""
    targets: npt.NDArray[np.int64]
    """B: index of the true label."""


def robustness(
    model: Model, rows: Sequence[Row], reencodings: Sequence[str] = tuple(REENCODINGS)
) -> list[RobustnessPoint]:
    """Measure one export on labelled images as they are and under each re-encoding. Raises DataError."""
    return robustness_all([model], rows, reencodings)


def measure_test(models: Sequence[Model], rows: Sequence[Row]) -> list[RobustnessPoint]:
    """Measure exports on the rows of the split `test`, under every re-encoding. Raises DataError."""
    return robustness_all(models, [row for row in rows if row.split == TEST])


def robustness_all(
    models: Sequence[Model], rows: Sequence[Row], reencodings: Sequence[str] = tuple(REENCODINGS)
) -> list[RobustnessPoint]:
    """Measure several exports as reencoded_labels() does. Points come model by model."""
    return [point for judged in reencoded_labels(models, rows, reencodings) for point in pooled_points([judged])]


def reencoded_labels(
    models: Sequence[Model], rows: Sequence[Row], reencodings: Sequence[str] = tuple(REENCODINGS)
) -> list[Reencoded]:
    """Judge images under re-encodings with several exports; each image is decoded and re-encoded once for all.

    Raises DataError for images that cannot be read, labels that a model does not know, and no images at all.
    """
    if not rows:
        raise DataError("there are no images to evaluate on; assign some rows to the split `test`")
    for model in models:
        check_labels_known(model, rows)
    names = (ORIGINAL, *reencodings)
    reading = Reading(
        wanted=tuple(dict.fromkeys(model.card.preprocessing for model in models)),
        reencodings=tuple(reencodings),
    )
    batch_size = images_at_once(models)
    work = partial(_top_labels, models=models, wanted=reading.wanted, names=names)
    judged = work_on((row.path for row in rows), reading, work, batch_size)
    parts = list(track(judged, "evaluating re-encodings", math.ceil(len(rows) / batch_size)))
    tops = np.concatenate(parts, axis=2)
    return [Reencoded(model.card, names, tops[m], targets_of(model.card, rows)) for m, model in enumerate(models)]


def pooled_points(parts: Sequence[Reencoded], images: str = TEST) -> list[RobustnessPoint]:
    """Return one model's figures, or those of the models of all folds, on all images; `images` is the set's name."""
    tops = np.concatenate([part.tops for part in parts], axis=1)
    targets = np.concatenate([part.targets for part in parts])
    first = parts[0]
    points = [_point(first.card, name, tops[n], targets, images) for n, name in enumerate(first.names)]
    return [point for point in points if point is not None]


def card_robustness(points: Sequence[RobustnessPoint]) -> dict[str, dict[str, Any]]:
    """Return one model's points as its card keeps them: {re-encoding: {accuracy, macro_recall, images, set}}."""
    figures = ("accuracy", "macro_recall", "images", "set")
    return {point.reencoding: {name: getattr(point, name) for name in figures} for point in points}


def by_model(points: Sequence[RobustnessPoint]) -> Mapping[str, Mapping[str, RobustnessPoint]]:
    """Return {model: {re-encoding: point}}, both in the order in which they come."""
    table: dict[str, dict[str, RobustnessPoint]] = {}
    for point in points:
        table.setdefault(point.model, {})[point.reencoding] = point
    return table


def _sample_of(item: Prepared, name: str) -> Sample | None:
    return item.sample if name == ORIGINAL else item.variants.get(name)


def _top_labels(
    batch: list[Prepared], models: Sequence[Model], wanted: Sequence[Preprocessing], names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return models x names x images: the index of the predicted label, -1 where an image cannot be re-encoded so."""
    check_readable(batch)
    tops = np.full((len(models), len(names), len(batch)), -1)
    for m, model in enumerate(models):
        place = wanted.index(model.card.preprocessing)
        for n, name in enumerate(names):
            samples = [_sample_of(item, name) for item in batch]
            there = [i for i, sample in enumerate(samples) if sample is not None]
            if there:
                seen = [sample for sample in samples if sample is not None]
                evidence = model.judge([sample.views[place] for sample in seen], [sample.state for sample in seen])
                tops[m, n, there] = evidence.logits.argmax(axis=1)
    return tops


def _point(
    card: ModelCard, name: str, tops: npt.NDArray[np.int64], targets: npt.NDArray[np.int64], images: str
) -> RobustnessPoint | None:
    """Return the figures of one row of `tops` (B, -1 where there is no prediction); None without a prediction."""
    judged = tops >= 0
    if not judged.any():
        return None
    right, truth = (tops == targets)[judged], targets[judged]
    recalls = [float(right[truth == label].mean()) for label in np.unique(truth)]
    return RobustnessPoint(
        model=card.name,
        technique=card.technique,
        reencoding=name,
        images=int(judged.sum()),
        accuracy=float(right.mean()),
        interval=wilson_interval(int(right.sum()), int(judged.sum())),
        macro_recall=float(np.mean(recalls)),
        set=images,
    )
