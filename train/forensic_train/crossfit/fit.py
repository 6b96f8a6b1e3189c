"""Cross-fitting: a training run per fold, whose exports judge the images that the fold holds out."""

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
from forensic_train.run import EXPORTS_FOLDER, load_network, save_split, technique_run
from forensic_train.signals import signals_folder
from forensic_train.techniques import find_techniques
from forensic_train.training import train
from forensic_train.training_plan import TrainOptions


def crossfit(options: TrainOptions, unit: str, folds: int, only: int | None = None) -> list[Scores]:
    """Train the techniques once per fold and judge the held-out images; returns the scores of each technique.

    Writes OUTPUT/fold-<k>/ (training runs, which are resumed if they were interrupted) and
    OUTPUT/scores-<technique>.npz. `unit`: source, subject or generator. `only`: a single fold, counted from 0; its
    scores are written to its own folder. Raises UsageError if there is no such fold, DataError and TrainingError.
    """
    if options.data is None:
        raise TrainingError("there are no images to leave out; name labelled images with --data")
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
    joined = [_joined(technique, judged) for technique, judged in parts.items()]
    for scores in joined:
        folder = options.output if only is None else options.output / f"fold-{only}"
        write_scores(folder / scores_file(scores.technique), scores)
    return joined


def _fold_model(output: Path, recipe: str, technique: str) -> Model:
    return Model.load(output / EXPORTS_FOLDER / f"{recipe}-{technique}.onnx")


def _fold_options(options: TrainOptions, output: Path) -> TrainOptions:
    return replace(options, data=None, output=output, fit=replace(options.fit, resume=True), holdout=())


def _joined(technique: str, parts: Sequence[Scores]) -> Scores:
    """Return the scores of all folds as one; logits are minus infinity for labels that a fold does not know."""
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
