"""Cross-fitting: every image is judged by a model that never saw its source, subject or generator."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from forensic_cli.console import note
from forensic_cli.errors import TrainingError, UsageError
from forensic_cli.model import Logits, Model
from forensic_train.evaluate import image_sets, infer
from forensic_train.leave_out import fold_splits
from forensic_train.left_out import SET_NAME
from forensic_train.manifest import Row, read_manifest, with_hashes
from forensic_train.robustness import Reencoded, RobustnessPoint, pooled_points, reencoded_labels
from forensic_train.run import EXPORTS_FOLDER, save_split
from forensic_train.scores import Scores, scores_file, write_scores
from forensic_train.techniques import find_techniques
from forensic_train.training import TrainOptions, train

REENCODED = 1000
"""Images that the robustness of left-out images is measured on, about."""


def crossfit(options: TrainOptions, unit: str, folds: int, only: int | None = None) -> list[Scores]:
    """Train a model a fold below `options.output` and judge the held-out images with its export.

    `only`: one fold, counted from 0, in place of all; its scores are then written beside its runs.
    Raises UsageError for one that there is not.

    Writes OUTPUT/fold-<k>/ (training runs, taken up again where they stopped) and OUTPUT/scores-<technique>.csv.
    """
    if options.data is None:
        raise TrainingError("there is nothing to leave out; name labelled images with --data")
    kinds = find_techniques(options.technique)
    rows = with_hashes(read_manifest(options.data))
    splits = fold_splits(rows, unit, folds, adapting=any("adapt" in kind.splits for kind in kinds))
    if only is not None and only >= len(splits):
        raise UsageError(f"--fold {only} is not one of the {len(splits)} folds; allowed: 0 to {len(splits) - 1}")
    parts: dict[str, list[tuple[int, Model, list[Row], Logits]]] = {kind.name: [] for kind in kinds}
    for k, split in enumerate(splits):
        if only not in (None, k):
            continue
        output = options.output / f"fold-{k}"
        note(f"fold {k + 1} of {len(splits)}: {sum(row.split == 'train' for row in split)} images to train on")
        save_split(output, split)
        train(_fold_options(options, output), evaluated=False)
        for kind in kinds:
            model = _fold_model(output, options.recipe, kind.name)
            held = list(image_sets(split, model).values())[-1]
            parts[kind.name].append((k, model, held, infer(model, held)))
    found = [_joined(name, judged) for name, judged in parts.items()]
    for scores in found:
        folder = options.output if only is None else options.output / f"fold-{only}"
        write_scores(folder / scores_file(scores.technique), scores)
    return found


def crossfit_robustness(output: Path, recipe: str, scores: Sequence[Scores]) -> list[RobustnessPoint]:
    """Measure the fold models that gave the scores on the same held-out images, under every re-encoding.

    An even part of about REENCODED images, as one image costs as much as a dozen. Techniques that were judged on the
    same images share their decoding. Points come technique by technique.
    """
    parts: dict[str, list[Reencoded]] = {one.technique: [] for one in scores}
    stride = max(1, round(max(len(one.rows) for one in scores) / REENCODED))
    for fold in range(max(int(one.folds.max()) for one in scores) + 1):
        together: dict[tuple[Row, ...], list[Model]] = {}
        for one in scores:
            if fold not in one.folds:
                continue
            model = _fold_model(output / f"fold-{fold}", recipe, one.technique)
            known = (row for row, k in zip(one.rows, one.folds, strict=True) if k == fold)
            rows = tuple(row for row in known if row.generator in model.card.labels)[::stride]
            together.setdefault(rows, []).append(model)
        for rows, models in together.items():
            for found in reencoded_labels(models, rows):
                parts[found.card.technique].append(found)
    return [point for some in parts.values() for point in pooled_points(some, SET_NAME)]


def _fold_model(output: Path, recipe: str, technique: str) -> Model:
    return Model.load(output / EXPORTS_FOLDER / f"{recipe}-{technique}.onnx")


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
