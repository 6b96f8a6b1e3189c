"""Cross-fitting: every image is judged by a model that never saw its source, subject or generator."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from forensic_cli.console import note
from forensic_cli.errors import TrainingError, UsageError
from forensic_cli.model import Model
from forensic_train.crossfit.folds import fold_splits
from forensic_train.crossfit.scores import Scores, scores_file, write_scores
from forensic_train.evaluate import image_sets, score_rows
from forensic_train.manifest import read_manifest, with_hashes
from forensic_train.recipes import find_recipe
from forensic_train.run import EXPORTS_FOLDER, save_split, technique_run
from forensic_train.signals import signals_folder
from forensic_train.techniques import find_techniques
from forensic_train.training import TrainOptions, load_network, train


def crossfit(options: TrainOptions, unit: str, folds: int, only: int | None = None) -> list[Scores]:
    """Train a model a fold below `options.output` and judge the held-out images with its export.

    `only`: one fold, counted from 0, in place of all; its scores are then written beside its runs.
    Raises UsageError for one that there is not.

    Writes OUTPUT/fold-<k>/ (training runs, taken up again where they stopped) and OUTPUT/scores-<technique>.npz.
    """
    if options.data is None:
        raise TrainingError("there is nothing to leave out; name labelled images with --data")
    kinds = find_techniques(options.technique)
    rows = with_hashes(read_manifest(options.data))
    splits = fold_splits(rows, unit, folds, adapting=any("adapt" in kind.splits for kind in kinds))
    if only is not None and only >= len(splits):
        raise UsageError(f"--fold {only} is not one of the {len(splits)} folds; allowed: 0 to {len(splits) - 1}")
    parts: dict[str, list[Scores]] = {kind.name: [] for kind in kinds}
    options = replace(options, signals=options.signals or options.output)
    recipe = find_recipe(options.recipe)
    for k, split in enumerate(splits):
        if only not in (None, k):
            continue
        output = options.output / f"fold-{k}"
        note(f"fold {k + 1} of {len(splits)}: {sum(row.split == 'train' for row in split)} images to train on")
        save_split(output, split)
        train(_fold_options(options, output), evaluated=False)
        folder = signals_folder(options.signals or output, recipe.name)
        for kind in kinds:
            run, model = technique_run(output, kind.name), _fold_model(output, options.recipe, kind.name)
            network = load_network(run, run.config(), recipe)
            held = list(image_sets(split, model).values())[-1]
            parts[kind.name].append(score_rows(model, network, held, recipe, folder, fold=k))
    found = [_joined(name, judged) for name, judged in parts.items()]
    for scores in found:
        folder = options.output if only is None else options.output / f"fold-{only}"
        write_scores(folder / scores_file(scores.technique), scores)
    return found


def _fold_model(output: Path, recipe: str, technique: str) -> Model:
    return Model.load(output / EXPORTS_FOLDER / f"{recipe}-{technique}.onnx")


def _fold_options(options: TrainOptions, output: Path) -> TrainOptions:
    return replace(options, data=None, output=output, resume=True, holdout=())


def _joined(technique: str, parts: Sequence[Scores]) -> Scores:
    labels = tuple(sorted({label for part in parts for label in part.labels}))
    logits = []
    for part in parts:
        full = np.full((*part.logits.shape[:2], len(labels)), -np.inf, np.float32)
        full[:, :, [labels.index(label) for label in part.labels]] = part.logits
        logits.append(full)
    return Scores(
        technique,
        labels,
        tuple(row for part in parts for row in part.rows),
        np.concatenate([part.folds for part in parts]),
        parts[0].forms,
        np.concatenate([part.states for part in parts]),
        np.concatenate(logits),
        np.concatenate([part.distances for part in parts]),
    )
