"""Training: techniques are fitted in dependency order, each in a run of its own, and exported."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from forensic_cli.console import note, track
from forensic_cli.errors import TrainingError, UsageError
from forensic_cli.seal import file_sha256
from forensic_train.crossfit.scores import check_folder
from forensic_train.dataset import ImageDataset, cached, targets_of
from forensic_train.fit import fit, prepare_device
from forensic_train.loader import count_batches
from forensic_train.manifest import count_cells, with_hashes
from forensic_train.network import Network
from forensic_train.processes import Processes, join
from forensic_train.recipes import Recipe, find_recipe
from forensic_train.rows import Row, Rows
from forensic_train.run import EXPORTS_FOLDER, PREPARED_FILE, RunConfig, atomic, draw_folder, save_split, technique_run
from forensic_train.run_export import export_run
from forensic_train.seeds import seed_for
from forensic_train.settings import make_settings
from forensic_train.signals import SignalDataset, Signals, measure_signals, signals_folder
from forensic_train.splits import redraw_adapt
from forensic_train.techniques import find_techniques
from forensic_train.techniques.base import Context, Technique
from forensic_train.training_plan import (
    TrainOptions,
    check_needs,
    check_same_split,
    labels_of,
    note_doubts,
    split_digest,
    trained_start,
    training_rows,
)
from forensic_train.weights import row_weights

_SAMPLE_CHUNK = 256


def train(options: TrainOptions, evaluated: bool = True) -> Path:
    """Train the chosen techniques in dependency order and export each one; returns the folder of the exports.

    Everything that a technique is missing is reported before the first epoch. If one of several techniques fails, the
    others are trained nevertheless. `evaluated`: whether to calibrate and evaluate the exports.
    """
    recipe = find_recipe(options.recipe)
    kinds = find_techniques(options.technique)
    for kind in kinds:  # a misspelled setting must fail before hours of training
        make_settings(kind, recipe, options.overrides or {}, strict=len(kinds) == 1)
        for folder in (options.output, *_draw_folders(options, kind)):
            technique_run(folder, kind.name).check_free(options.resume)
    processes = join(options.device)
    if options.calibrate is not None:
        check_folder(options.calibrate)
    if options.draws > 1 and not any("adapt" in kind.splits for kind in kinds):
        raise UsageError(f"--draws repeats techniques that adapt to unseen images; {options.technique} does not")
    rows = training_rows(options)
    check_needs(options, kinds, recipe, rows)
    if evaluated and processes.is_first:
        note_doubts(options, rows)
    processes.first_does(partial(save_split, options.output, rows))
    export = partial(export_run, evaluated=evaluated, scores=options.calibrate, signals=options.signals)

    def make(kind: type[Technique]) -> None:
        _train_one(kind, recipe, rows, options, processes)
        processes.first_does(partial(export, options.output, kind.name))
        for draw, folder in enumerate(_draw_folders(options, kind), start=1):
            seed = options.seed + draw
            again = redraw_adapt(rows, seed, options.shares)
            check_same_split(folder, again)
            processes.first_does(partial(save_split, folder, again))
            origin = options.origin or options.output
            drawn = replace(options, output=folder, origin=origin, data=None, seed=seed)
            _train_one(kind, recipe, again, drawn, processes)
            processes.first_does(partial(export, folder, kind.name))

    go_on({kind.name: partial(make, kind) for kind in kinds})
    return options.output / EXPORTS_FOLDER


def _draw_folders(options: TrainOptions, kind: type[Technique]) -> list[Path]:
    """Return a folder for each further division of the unseen images; none unless the technique adapts to them."""
    return [draw_folder(options.output, k) for k in range(1, options.draws) if "adapt" in kind.splits]


def go_on(tasks: Mapping[str, Callable[[], object]]) -> None:
    """Run the task of every technique; a failure is reported at once and does not stop the others.

    Raises TrainingError at the end if any task failed, and the failure itself if there is only one task.
    """
    failed = []
    for name, task in tasks.items():
        try:
            task()
        except TrainingError as error:
            if len(tasks) == 1:
                raise
            note(f"{name}: {str(error).removeprefix(f'{name}: ')}", style="yellow")
            failed.append(name)
    if failed:
        raise TrainingError(f"not exported: {', '.join(failed)}, of {len(tasks)} techniques; the reasons are above")


def _train_one(kind: type[Technique], recipe: Recipe, rows: Rows, options: TrainOptions, processes: Processes) -> None:
    """Fit one technique on its splits of the rows, and keep checkpoints below the output folder."""
    settings = make_settings(kind, recipe, options.overrides or {}, strict=False)
    device = processes.device
    prepare_device(device, seed_for("weights", options.seed))
    chosen = rows.where("split", kind.splits)
    labels = labels_of(rows)
    subjects = tuple(sorted(set(chosen.column("subject"))))
    run = technique_run(options.output, kind.name)
    config = RunConfig(
        technique=kind.name,
        recipe=recipe.name,
        seed=options.seed,
        settings=asdict(settings),
        labels=labels,
        subjects=subjects,
        split_sha256=split_digest(rows),
        holdout=options.holdout,
        weights_sha256=(options.weights and file_sha256(options.weights)) or "",
    )
    network = Network(recipe.encoder(), len(labels))
    if kind.starts_from is not None:
        network, start = trained_start(kind.starts_from, options, labels, recipe)
        if options.data is None:  # the split comes from the starting run, and so do its hold-outs
            config = replace(config, holdout=start.holdout)
    elif options.weights is not None:
        network.encoder.load_pretrained(options.weights)
    processes.first_does(partial(run.begin, config, device, options.resume, processes.count))
    # Convolutions are fastest with channels last: on CPUs by a tenth to a half, with 16 bits on GPUs by more
    network = network.to(memory_format=torch.channels_last).to(device)
    context = Context(
        labels=labels,
        subjects=subjects,
        counts=count_cells(chosen),
        updates_per_epoch=count_batches(len(chosen), settings.batch_size, processes.count),
        seed=options.seed,
        processes=processes,
    )
    key = f"{recipe.name} {config.seed} {config.split_sha256}"
    dataset = make_dataset(network, chosen, context, recipe, options)
    if kind.starts_from is None and not run.checkpoint.exists():
        path = options.output / PREPARED_FILE
        processes.first_then_others(partial(_prepare, network, dataset, chosen, recipe, path, key))
    held = rows.where("split", ["val"]).where("generator", labels).where("subject", subjects)
    validation = make_dataset(network, held, context, recipe, options) if held else None
    technique = kind(network, settings, context)
    fit(technique, dataset, run, options.fit, validation)


def make_dataset(
    network: Network, rows: Sequence[Row], context: Context, recipe: Recipe, options: TrainOptions
) -> ImageDataset | SignalDataset:
    """Return what a technique learns from: signals in every state if the encoder pools them, otherwise images."""
    processes = context.processes
    if not network.encoder.pools:
        views = processes.first_then_others(partial(cached, rows, recipe, options.signals or options.output))
        return ImageDataset(rows, context.labels, context.subjects, recipe, options.seed, views)
    if processes.count > 1:  # each measures its share, and then all read what is there
        row_signals(processes.share(rows), recipe, options)
        processes.wait()
    signals = row_signals(rows, recipe, options)
    targets = targets_of(rows, context.labels, context.subjects)
    return SignalDataset(rows, signals, targets, network.encoder.states, options.seed)


def row_signals(rows: Sequence[Row], recipe: Recipe, options: TrainOptions) -> Signals:
    """Return the signals of images in every state; those measured by an earlier run are read from disk."""
    folder = signals_folder(options.signals or options.output, recipe.name)
    return measure_signals(with_hashes(rows), recipe.encoder(), recipe.preprocessing, folder, options.fit.workers)


def _prepare(
    network: Network,
    dataset: ImageDataset | SignalDataset,
    rows: Sequence[Row],
    recipe: Recipe,
    path: Path,
    key: str,
) -> None:
    """Fit the fixed part of the encoder, or load what a technique with the same recipe, seed and split has fitted."""
    if not recipe.samples and isinstance(dataset, ImageDataset):
        return
    if path.exists():
        stored = torch.load(path, weights_only=True)
        if stored["key"] == key:
            network.encoder.load_state_dict(stored["encoder"])
            return
    if isinstance(dataset, SignalDataset):
        # Square roots: a large source counts more than a small one, but not in proportion
        weights = np.sqrt(row_weights(rows))
        network.encoder.prepare_signals(*dataset.flat(weights))
    else:
        chunks = dataset.samples(recipe.samples, _SAMPLE_CHUNK)
        total = math.ceil(len(dataset) * recipe.samples / _SAMPLE_CHUNK)
        network.prepare(track(chunks, "measuring spectra", total))
    with atomic(path) as temporary:
        torch.save({"key": key, "encoder": network.encoder.state_dict()}, temporary)
