"""Cross-fitting: every image is judged by a model that never saw its source, subject or generator."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forensic_cli.console import note
from forensic_cli.errors import DataError, TrainingError
from forensic_cli.model import Logits, Model
from forensic_train.evaluate import image_sets, infer
from forensic_train.leave_out import fold_splits
from forensic_train.manifest import Row, read_manifest, with_hashes
from forensic_train.run import EXPORTS_FOLDER, atomic, save_split
from forensic_train.techniques import find_techniques
from forensic_train.training import TrainOptions, train

_ROW_COLUMNS = ("path", "sha256", "generator", "subject", "group", "source", "fold")
_LOGIT = "logit_"


@dataclass(frozen=True)
class Scores:
    """Images and what a technique's fold models said of them."""

    technique: str
    """Name."""
    labels: tuple[str, ...]
    """Of the logits' columns."""
    rows: tuple[Row, ...]
    """B images, held out by the model that judged them."""
    folds: npt.NDArray[np.int64]
    """B: which model judged it."""
    logits: Logits
    """B x K; minus infinity for a label that the fold's model does not know."""


def crossfit(options: TrainOptions, unit: str, folds: int) -> list[Scores]:
    """Train a model a fold below `options.output` and judge the held-out images with its export.

    Writes OUTPUT/fold-<k>/ (training runs, taken up again where they stopped) and OUTPUT/scores-<technique>.csv.
    """
    if options.data is None:
        raise TrainingError("there is nothing to leave out; name labelled images with --data")
    kinds = find_techniques(options.technique)
    rows = with_hashes(read_manifest(options.data))
    splits = fold_splits(rows, unit, folds, adapting=any("adapt" in kind.splits for kind in kinds))
    parts: dict[str, list[tuple[int, Model, list[Row], Logits]]] = {kind.name: [] for kind in kinds}
    for k, split in enumerate(splits):
        output = options.output / f"fold-{k}"
        note(f"fold {k + 1} of {len(splits)}: {sum(row.split == 'train' for row in split)} images to train on")
        save_split(output, split)
        train(_fold_options(options, output), evaluated=False)
        for kind in kinds:
            model = Model.load(output / EXPORTS_FOLDER / f"{options.recipe}-{kind.name}.onnx")
            held = list(image_sets(split, model).values())[-1]
            parts[kind.name].append((k, model, held, infer(model, held)))
    found = [_joined(name, judged) for name, judged in parts.items()]
    for scores in found:
        write_scores(options.output / scores_file(scores.technique), scores)
    return found


def scores_file(technique: str) -> str:
    """Return the name of a technique's file of scores."""
    return f"scores-{technique}.csv"


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores as a CSV: a line an image."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*_ROW_COLUMNS, *(_LOGIT + label for label in scores.labels)])
        for row, fold, logits in zip(scores.rows, scores.folds, scores.logits, strict=True):
            fields = [row.path.resolve(), *(getattr(row, name) for name in _ROW_COLUMNS[1:-1]), int(fold)]
            writer.writerow([*fields, *(f"{value:.6g}" for value in logits)])


def read_scores(path: Path) -> Scores:
    """Read scores back. Raises DataError for a file that write_scores() did not write."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            records = list(csv.DictReader(stream, strict=True))
        labels = tuple(name.removeprefix(_LOGIT) for name in records[0] if name.startswith(_LOGIT))
        rows = tuple(
            Row(Path(one["path"]), split="test", **{name: one[name] for name in _ROW_COLUMNS[1:-1]}) for one in records
        )
        logits = np.array([[float(one[_LOGIT + label]) for label in labels] for one in records], np.float32)
        folds = np.array([int(one["fold"]) for one in records], np.int64)
    except (OSError, KeyError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path}: is not a file of scores ({type(error).__name__}: {error})") from error
    return Scores(path.stem.removeprefix("scores-"), labels, rows, folds, logits)


def _fold_options(options: TrainOptions, output: Path) -> TrainOptions:
    return replace(options, data=None, output=output, resume=True, holdout=())


def _joined(technique: str, judged: Sequence[tuple[int, Model, list[Row], Logits]]) -> Scores:
    labels = tuple(sorted({label for _, model, _, _ in judged for label in model.card.labels}))
    rows: list[Row] = []
    folds: list[int] = []
    logits = []
    for fold, model, held, found in judged:
        full = np.full((len(held), len(labels)), -np.inf, np.float32)
        full[:, [labels.index(label) for label in model.card.labels]] = found
        rows += held
        folds += [fold] * len(held)
        logits.append(full)
    return Scores(technique, labels, tuple(rows), np.array(folds, np.int64), np.concatenate(logits))
