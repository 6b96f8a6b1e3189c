"""The whole training flow: manifest -> split -> technique -> fit -> calibrate -> evaluate -> export -> card."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import numpy as np
import torch

from forensic_cli import __version__
from forensic_cli.card import ModelCard
from forensic_cli.console import note, track
from forensic_cli.errors import DataError, TrainingError, UsageError
from forensic_cli.model import Model
from forensic_train.card_markdown import card_markdown
from forensic_train.crossfit.measure import calibrate_on, evaluate_scores
from forensic_train.crossfit.scores import Scores, check_folder, read_scores, scores_file
from forensic_train.dataset import ImageDataset
from forensic_train.decide import fit_decisions
from forensic_train.evaluate import evaluate_all, score_rows
from forensic_train.fit import choose_device, fit, prepare_device, updates_per_epoch
from forensic_train.manifest import (
    Row,
    SplitShares,
    count_cells,
    has_subjects,
    read_manifest,
    redraw_adapt,
    row_weights,
    same_bytes_two_generators,
    split_rows,
    with_hashes,
)
from forensic_train.network import Network
from forensic_train.onnx_export import export_network, parity_views, write_card
from forensic_train.quantization import as_record, reduce_export, reduced_scores
from forensic_train.recipes import Recipe, find_recipe
from forensic_train.robustness import card_robustness, measure_test
from forensic_train.run import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    EXPORTS_FOLDER,
    PREPARED_FILE,
    Run,
    RunConfig,
    atomic,
    draw_folder,
    read_split,
    save_split,
    split_file,
    technique_run,
)
from forensic_train.seeds import seed_for
from forensic_train.signals import SignalDataset, Signals, measure_signals, signals_folder
from forensic_train.techniques import find_techniques, splits_behind
from forensic_train.techniques.base import Context, Settings, Technique

_SAMPLE_CHUNK = 256


@dataclass(frozen=True)
class TrainOptions:
    """What a user asks of `genforensic train`."""

    technique: str
    """A technique, or all."""
    data: Path | None
    """A labelled folder or a manifest; None where --from has a split."""
    output: Path
    """Folder of the run."""
    recipe: str = "native"
    """Network, views, augmentation."""
    seed: int = 0
    """All random numbers derive from it."""
    device: str = "auto"
    """auto, cpu or cuda."""
    origin: Path | None = None
    """Run whose trained network a technique starts from (--from); None: the output folder."""
    holdout: tuple[str, ...] = ()
    """Entries such as source=NAME."""
    overrides: Mapping[str, str] | None = None
    """Settings as text, by name."""
    resume: bool = False
    """Go on from the last checkpoint."""
    calibrate: Path | None = None
    """Folder of cross-fitted scores to calibrate on; without hold-outs every image is then trained on."""
    workers: int = 0
    """Processes that load images; 0: none but this one."""
    signals: Path | None = None
    """Folder where signals are kept between runs; None: the output folder."""
    shares: SplitShares = field(default_factory=SplitShares)
    """Of the images, for calibration and for `finetune` to adapt to."""
    draws: int = 1
    """Times that the unseen images are divided, for what adapts to a part of them; each one is a run of its own."""


def train(options: TrainOptions, evaluated: bool = True) -> Path:
    """Train, calibrate, evaluate and export the wanted techniques in dependency order; returns the exports' folder.

    What any of them lacks is found before the first epoch. Where one of several fails, the others are finished first.
    `evaluated` off: the exports are neither calibrated nor evaluated.
    """
    recipe = find_recipe(options.recipe)
    kinds = find_techniques(options.technique)
    for kind in kinds:  # a mistyped setting must fail before hours of training
        make_settings(kind, recipe, options.overrides or {}, strict=len(kinds) == 1)
        for folder in (options.output, *_draw_folders(options, kind)):
            technique_run(folder, kind.name).check_free(options.resume)
    choose_device(options.device)
    if options.calibrate is not None:
        check_folder(options.calibrate)
    if options.draws > 1 and not any("adapt" in kind.splits for kind in kinds):
        raise UsageError(f"--draws repeats what adapts to unseen images, and {options.technique} does not")
    rows = _rows(options)
    _check_needs(options, kinds, recipe, rows)
    if evaluated:
        _tell_of_doubts(options, rows)
    save_split(options.output, rows)

    def make(kind: type[Technique]) -> None:
        _train_one(kind, recipe, rows, options)
        export_run(options.output, kind.name, evaluated=evaluated, scores=options.calibrate, signals=options.signals)
        for draw, folder in enumerate(_draw_folders(options, kind), start=1):
            seed = options.seed + draw
            again = redraw_adapt(rows, seed, options.shares)
            _check_same_split(folder, again)
            save_split(folder, again)
            origin = options.origin or options.output
            _train_one(kind, recipe, again, replace(options, output=folder, origin=origin, data=None, seed=seed))
            export_run(folder, kind.name, evaluated=evaluated, scores=options.calibrate, signals=options.signals)

    go_on({kind.name: partial(make, kind) for kind in kinds})
    return options.output / EXPORTS_FOLDER


def go_on(tasks: Mapping[str, Callable[[], object]]) -> None:
    """Run every technique's task; what fails is told at once, and again at the end, when the others are done.

    Raises TrainingError where any has failed; the failure itself where there is one task only.
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


def _draw_folders(options: TrainOptions, kind: type[Technique]) -> list[Path]:
    """Return the folders of the further divisions of the unseen images, for a technique that adapts to them."""
    return [draw_folder(options.output, k) for k in range(1, options.draws) if "adapt" in kind.splits]


def export_run(
    output: Path,
    technique: str,
    target: Path | None = None,
    robust: bool = False,
    evaluated: bool = True,
    scores: Path | None = None,
    precision: str = "fp32",
    signals: Path | None = None,
) -> Path:
    """Export a trained run: parity check, calibration, evaluation, card. Returns the file.

    Calibrated on `val` and evaluated on `test`, or both on the cross-fitted scores of the folder `scores`, those of
    images that the run calls `test` left out.
    `precision`: int8 or fp16 are compared with float32, and what is worse beyond chance is refused (reduced.py).
    `robust`: evaluate the re-encodings of `test`, too, which takes as long as a dozen evaluations. `evaluated` off:
    neither calibrate nor evaluate. `signals`: folder where signals are kept; None: `output`.
    """
    run = technique_run(output, technique)
    config = run.config()
    recipe = find_recipe(config.recipe)
    kind = find_techniques(config.technique)[0]
    rows = read_split(output)
    network = load_network(run, config, recipe)
    fitted = [row for row in rows if row.split in splits_behind(kind)]
    folder = EXPORTS_FOLDER if precision == "fp32" else f"{EXPORTS_FOLDER}-{precision}"
    path = (target or output / folder) / f"{config.recipe}-{config.technique}.onnx"
    found = None if scores is None else _not_tested(read_scores(scores / scores_file(technique)), rows, scores)
    held = [row for row in rows if row.split == "val"]
    known_sources = found is None and _share_sources(held, fitted)
    limits = _limits(config, fitted, known_sources, calibrated=found is not None or bool(held))
    card = _card(config, recipe, kind, fitted, run.environment(), limits)
    card, found = _export(network, card, path, precision, fitted, rows, found)
    if not evaluated:
        return path
    evaluations = []
    if found is not None:
        card = calibrate_on(card, found)
        evaluations = [evaluate_scores(card, found)]
    elif held:
        judged = _val_scores(path, network, recipe, held, signals or output)
        card = replace(card, decisions=fit_decisions(card, judged), validation=_described(held, known_sources))
    write_card(path, card)
    if found is None or any(row.split == "test" for row in rows):
        evaluations += evaluate_all([Model.load(path)], rows)
    card = replace(card, metrics={one.images: asdict(one.metrics) for one in evaluations})
    if robust:
        write_card(path, card)
        card = replace(card, robustness=card_robustness(measure_test([Model.load(path)], rows)))
    write_card(path, card)
    with atomic(path.with_suffix(".md")) as temporary:
        temporary.write_text(card_markdown(card, path.name), encoding="utf-8")
    note(f"{technique}: exported to {path}")
    return path


def _export(
    network: Network,
    card: ModelCard,
    path: Path,
    precision: str,
    fitted: Sequence[Row],
    rows: Sequence[Row],
    scores: Scores | None,
) -> tuple[ModelCard, Scores | None]:
    """Write the graph in a precision; returns card and scores, which know of the precision where it is not float32."""
    views = parity_views(fitted, card.preprocessing)
    if precision == "fp32":
        export_network(network, card, path, views)
        return card, scores
    with TemporaryDirectory() as folder:
        plain = Path(folder) / path.name
        export_network(network, card, plain, views)
        checked, name = _unfitted([row for row in rows if row.generator in card.labels], fitted)
        # The same images for every technique, so that a common encoder stays common
        ranges = [row for row in rows if row.split == "train"]
        card = replace(card, precision=as_record(reduce_export(plain, path, precision, ranges, checked, name)))
        if scores is not None:
            scores = reduced_scores(scores, Model.load(plain), Model.load(path))
    write_card(path, card)
    return card, scores


def _not_tested(scores: Scores, rows: Sequence[Row], folder: Path) -> Scores:
    """Return the scores of images that the split does not call `test`: what measures must not calibrate before.

    Raises TrainingError where none are left.
    """
    tested = {row.sha256 for row in with_hashes([row for row in rows if row.split == "test"])}
    places = [i for i, row in enumerate(scores.rows) if row.sha256 not in tested]
    if not places:
        raise TrainingError(
            f"{folder}: every image with scores of {scores.technique} is a test image of this run, and what is tested "
            "on must not calibrate; keep some images as `val` in the manifest, and leave out --calibrate"
        )
    return scores.at(places)


def _share_sources(held: Sequence[Row], fitted: Sequence[Row]) -> bool:
    """Tell whether an image kept for calibration is, or may be, of a source that was fitted on."""
    sources = {row.source for row in fitted}
    return any(not row.source or row.source in sources for row in held)


def _unfitted(rows: Sequence[Row], fitted: Sequence[Row]) -> tuple[list[Row], str]:
    """Return images of a split that was not fitted on, and a name for them; where there is none, the fitted ones."""
    used = {row.split for row in fitted}
    for name in ("val", "adapt", "test"):
        chosen = [row for row in rows if row.split == name and name not in used]
        if chosen:
            return chosen, f"split `{name}`, not fitted on"
    return list(fitted), "images that it was fitted on"


def load_network(run: Run, config: RunConfig, recipe: Recipe) -> Network:
    """Return the trained network of a run, on the CPU. Raises TrainingError."""
    device = choose_device("cpu")
    state, history = run.load(device)
    if len(history) < config.settings["epochs"]:
        raise TrainingError(
            f"{run.folder}: stopped after epoch {len(history)} of {config.settings['epochs']}; "
            "finish it with `genforensic train ... --resume`"
        )
    network = Network(recipe.encoder(), len(config.labels))
    network.load_state_dict(state["modules"]["network"])
    return network


def make_settings(kind: type[Technique], recipe: Recipe, overrides: Mapping[str, str], strict: bool = True) -> Settings:
    """Merge a technique's defaults, the recipe's and the user's. Raises UsageError for an unknown setting.

    With several techniques (`strict` off), a setting that only others have is passed over. `technique.setting` is
    meant for that technique alone and goes before `all.setting`, which goes before a plain `setting`.
    """
    types = get_type_hints(kind.settings_type)
    values: dict[str, Any] = dict(recipe.settings) if kind.trains_encoder else {}
    for name, text in _meant_for(kind, overrides).items():
        if name in types:
            values[name] = _parse(name, text, types[name])
        elif strict or not any(name in get_type_hints(one.settings_type) for one in find_techniques("all")):
            allowed = ", ".join(f.name for f in fields(kind.settings_type))
            raise UsageError(f"setting {name!r} is not known to {kind.name}; allowed: {allowed}")
    settings = kind.settings_type(**values)
    if settings.epochs < 1 or settings.batch_size < 1 or not 0 < settings.lr < math.inf:
        raise UsageError("epochs and batch_size must be at least 1, and lr above 0")
    for name, value in asdict(settings).items():
        most = 1.0 if name in ("label_smoothing", "momentum") else math.inf
        if isinstance(value, float) and not 0 <= value <= most:
            raise UsageError(f"setting {name} is {value}; it must lie between 0 and {most}")
    return settings


def _meant_for(kind: type[Technique], overrides: Mapping[str, str]) -> dict[str, str]:
    meant = {name: text for name, text in overrides.items() if "." not in name}
    own: dict[str, str] = {}
    for name, text in overrides.items():
        technique, dot, setting = name.partition(".")
        if dot and kind in find_techniques(technique):
            (own if technique == kind.name else meant)[setting] = text
    return {**meant, **own}


def _parse(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"setting {name} is {text!r}; allowed: true, false")
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError as error:
            raise UsageError(f"setting {name} is {text!r}; it must be a number ({kind.__name__})") from error
    allowed = kind.__args__
    if text not in allowed:
        raise UsageError(f"setting {name} is {text!r}; allowed: {', '.join(allowed)}")
    return text


def _rows(options: TrainOptions) -> list[Row]:
    """Read and split the data, or take the split of the run that is continued or started from."""
    known = (options.output if options.resume else None, options.origin if options.data is None else None)
    for folder in known:
        if folder is not None and split_file(folder) is not None:
            if options.holdout and not options.resume:
                raise UsageError(f"the split of {folder} is taken over; leave out --holdout, or name --data as well")
            rows = with_hashes(read_split(folder))
            if folder != options.output and options.shares.val is not None:
                raise UsageError(f"the split of {folder} is taken over; leave out --val, or name --data as well")
            if folder != options.output and options.shares.adapt_images is not None:
                rows = redraw_adapt(rows, options.seed, options.shares)
            break
    else:
        if options.data is None:
            raise UsageError("there is nothing to train on; name a labelled folder or a manifest with --data")
        rows = with_hashes(read_manifest(options.data))
        if options.calibrate is not None and not options.holdout and not any(row.split for row in rows):
            rows = [replace(row, split="train") for row in rows]
        else:
            if options.draws > 1 and any(row.split == "adapt" for row in rows):
                raise UsageError("the manifest declares which images are `adapt`; leave out --draws, or that split")
            rows = split_rows(rows, options.seed, options.holdout, options.shares)
    _check_same_split(options.output, rows)
    return rows


def _check_needs(options: TrainOptions, kinds: Sequence[type[Technique]], recipe: Recipe, rows: Sequence[Row]) -> None:
    """Raise TrainingError with everything that any technique lacks, before hours are spent on another one."""
    lacking = [what for kind in kinds for what in _lacks(kind, options, kinds, recipe, rows)]
    if len(lacking) == 1:
        raise TrainingError(lacking[0])
    if lacking:
        numbered = "; ".join(f"({i}) {what}" for i, what in enumerate(lacking, start=1))
        raise TrainingError(f"nothing was trained, {len(lacking)} things are lacking: {numbered}")


def _lacks(
    kind: type[Technique],
    options: TrainOptions,
    kinds: Sequence[type[Technique]],
    recipe: Recipe,
    rows: Sequence[Row],
) -> Iterator[str]:
    """Yield what a technique needs and does not have."""
    chosen = [row for row in rows if row.split in kind.splits]
    labels = _labels(rows)
    if not chosen:
        splits = f"split {', '.join(kind.splits)}"
        remedy = "--adapt N draws them from `test`" if kind.splits == ("adapt",) else "hold out less"
        yield (
            f"{kind.name} fits on the {splits}, which has no images; give some rows that split in the manifest "
            f"({remedy}), or leave {kind.name} out"
        )
    elif kind.needs_subjects and not has_subjects(chosen):
        yield (
            f"{kind.name} needs subjects, and its training images name fewer than two; lay the data out as "
            "ROOT/<generator>/<subject>/..., or train another technique"
        )
    if kind.starts_from is not None:
        first = options.origin is None and kind.starts_from in [one.name for one in kinds]
        try:
            _check_unseen(options, rows)
            if not first:
                _trained(kind.starts_from, options, labels, recipe)
        except TrainingError as error:
            yield str(error)
    if options.calibrate is not None:
        try:
            known = read_scores(options.calibrate / scores_file(kind.name)).labels
        except DataError as error:
            yield str(error)
        else:
            if strange := sorted(set(labels) - set(known)):
                yield f"the scores of {kind.name} in {options.calibrate} do not know {', '.join(strange)}"


def _labels(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the generators that are trained on, in logit order."""
    return tuple(sorted({row.generator for row in rows if row.split == "train"}))


def _tell_of_doubts(options: TrainOptions, rows: Sequence[Row]) -> None:
    """Note what is no reason not to train, and may not be what was meant."""
    if options.calibrate is None and not any(row.split == "val" for row in rows):
        note("The split has no `val`: nothing is kept for calibration, and confidences will not be calibrated.")
    if doubtful := same_bytes_two_generators(rows):
        note(
            f"Warning: the same bytes stand under two generators in {len(doubtful)} cases, {doubtful[0][0].path.name} "
            "for one; `genforensic audit` names them all.",
            "yellow",
        )


def _check_same_split(output: Path, rows: Sequence[Row]) -> None:
    """Raise TrainingError where techniques in `output` were trained on another split: they could not be compared."""
    if not any(output.glob(f"*/{CHECKPOINT_FILE}")):
        return
    if _split_digest(with_hashes(read_split(output))) != _split_digest(rows):
        raise TrainingError(
            f"{output}: holds techniques that were trained on another split; choose another --output, "
            "or repeat the data, seed and hold-outs of that run"
        )


def _train_one(kind: type[Technique], recipe: Recipe, rows: Sequence[Row], options: TrainOptions) -> None:
    settings = make_settings(kind, recipe, options.overrides or {}, strict=False)
    device = choose_device(options.device)
    autocast = prepare_device(device, seed_for("weights", options.seed))
    chosen = [row for row in rows if row.split in kind.splits]
    labels = _labels(rows)
    subjects = tuple(sorted({row.subject for row in chosen}))
    run = technique_run(options.output, kind.name)
    config = RunConfig(
        technique=kind.name,
        recipe=recipe.name,
        seed=options.seed,
        settings=asdict(settings),
        labels=labels,
        subjects=subjects,
        split_sha256=_split_digest(rows),
        holdout=options.holdout,
    )
    network = Network(recipe.encoder(), len(labels))
    if kind.starts_from is not None:
        network, start = _trained(kind.starts_from, options, labels, recipe)
        if options.data is None:  # the split is the start's, and so are its hold-outs
            config = replace(config, holdout=start.holdout)
    run.begin(config, device, options.resume)
    network = network.to(device)
    autocast = autocast and not network.encoder.pools  # whitening asks for all the digits there are
    if device.type == "cuda" or autocast:  # convolutions in bfloat16 want their channels last
        network = network.to(memory_format=torch.channels_last)
    context = Context(
        labels=labels,
        subjects=subjects,
        counts=count_cells(chosen),
        updates_per_epoch=updates_per_epoch(chosen, settings.batch_size),
        seed=options.seed,
        device=device,
        autocast=autocast,
    )
    key = f"{recipe.name} {config.seed} {config.split_sha256}"
    dataset = make_dataset(network, chosen, context, recipe, options)
    if kind.starts_from is None and not run.checkpoint.exists():
        _prepare(network, dataset, chosen, recipe, options.output / PREPARED_FILE, key)
    technique = kind(network, settings, context)
    fit(technique, dataset, run, options.resume, options.workers)


def make_dataset(
    network: Network, rows: Sequence[Row], context: Context, recipe: Recipe, options: TrainOptions
) -> ImageDataset | SignalDataset:
    """Return what a technique learns from: signals in every state where the encoder pools them, else images."""
    if not network.encoder.pools:
        return ImageDataset(rows, context.labels, context.subjects, recipe, options.seed)
    signals = row_signals(rows, recipe, options)
    targets = [(context.labels.index(row.generator), context.subjects.index(row.subject)) for row in rows]
    return SignalDataset(rows, signals, targets, network.encoder.states, options.seed)


def row_signals(rows: Sequence[Row], recipe: Recipe, options: TrainOptions) -> Signals:
    """Return the signals of images in every state; what was measured before is read."""
    folder = signals_folder(options.signals or options.output, recipe.name)
    return measure_signals(with_hashes(rows), recipe.encoder(), recipe.preprocessing, folder, options.workers)


def _prepare(
    network: Network,
    dataset: ImageDataset | SignalDataset,
    rows: Sequence[Row],
    recipe: Recipe,
    path: Path,
    key: str,
) -> None:
    """Fit the encoder's fixed part, or take it over from a technique of the same recipe, seed and split."""
    if not recipe.samples and isinstance(dataset, ImageDataset):
        return
    if path.exists():
        stored = torch.load(path, weights_only=True)
        if stored["key"] == key:
            network.encoder.load_state_dict(stored["encoder"])
            return
    if isinstance(dataset, SignalDataset):
        # Square roots: a large source says more than a small one, but not in proportion
        weights = np.sqrt(row_weights(rows))
        network.encoder.prepare_signals(*dataset.flat(weights))
    else:
        chunks = dataset.samples(recipe.samples, _SAMPLE_CHUNK)
        total = math.ceil(len(dataset) * recipe.samples / _SAMPLE_CHUNK)
        network.prepare(track(chunks, "measuring spectra", total))
    with atomic(path) as temporary:
        torch.save({"key": key, "encoder": network.encoder.state_dict()}, temporary)


def _trained(
    technique: str, options: TrainOptions, labels: tuple[str, ...], recipe: Recipe
) -> tuple[Network, RunConfig]:
    run = technique_run(options.origin or options.output, technique)
    if not (run.folder / CONFIG_FILE).exists():
        raise TrainingError(
            f"{run.folder}: there is no trained {technique} to start from; train it first, or name a run with --from"
        )
    config = run.config()
    if config.labels != labels or config.recipe != recipe.name:
        raise TrainingError(
            f"{run.folder}: has another recipe or other generators than this training; choose another --from"
        )
    return load_network(run, config, recipe), config


def _check_unseen(options: TrainOptions, rows: Sequence[Row]) -> None:
    """Raise TrainingError where new data would be tested on images that the start was trained on."""
    if options.data is None or options.origin is None:
        return
    seen = {row.sha256 for row in with_hashes(read_split(options.origin)) if row.split in ("train", "val")}
    leaked = [row for row in rows if row.split in ("adapt", "test") and row.sha256 in seen]
    if leaked:
        raise TrainingError(
            f"{len(leaked)} images to adapt to or to test on were seen by the training of {options.origin} "
            f"({leaked[0].path.name}, ...); leave out --data, or give other images"
        )


def _split_digest(rows: Sequence[Row]) -> str:
    lines = sorted(f"{row.sha256} {row.generator} {row.subject} {row.split}" for row in rows)
    return sha256("\n".join(lines).encode()).hexdigest()


def _card(
    config: RunConfig,
    recipe: Recipe,
    kind: type[Technique],
    fitted: Sequence[Row],
    environment: Mapping[str, Any],
    limits: tuple[str, ...],
) -> ModelCard:
    return ModelCard(
        name=f"{config.recipe}-{config.technique}",
        technique=config.technique,
        recipe=config.recipe,
        labels=config.labels,
        preprocessing=recipe.preprocessing,
        states=recipe.encoder().states,
        data=count_cells(fitted),
        sources=count_cells(fitted, "source", "generator") if any(row.source for row in fitted) else {},
        training={
            "settings": dict(config.settings),
            "seed": config.seed,
            "holdout": list(config.holdout),
            "splits": list(splits_behind(kind)),
            "starts_from": kind.starts_from,
            "split_sha256": config.split_sha256,
            "environment": dict(environment),
        },
        limits=limits,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        genforensic=__version__,
    )


def _limits(config: RunConfig, fitted: Sequence[Row], known_sources: bool, calibrated: bool) -> tuple[str, ...]:
    counts = {generator: sum(row.values()) for generator, row in count_cells(fitted).items()}
    few = [f"{generator} ({counts.get(generator, 0)})" for generator in config.labels if counts.get(generator, 0) < 200]
    limits = [
        f"It knows {len(config.labels)} labels only; an image of any other generator is `generated` at best, "
        "and may get a wrong name.",
        "Images that were edited, or went through more than one compression, are judged less well than measured here.",
        _confidence_limit(known_sources, calibrated),
    ]
    if few:
        limits.append(f"Fitted on fewer than 200 images of: {', '.join(few)}.")
    return tuple(limits)


def _confidence_limit(known_sources: bool, calibrated: bool) -> str:
    if not calibrated:
        return "Confidence is not calibrated: no image was kept for that."
    if known_sources:
        return "Confidence is calibrated on images of the training sources; on other sources it is too high."
    return "Confidence is calibrated on sources that the judging model had not seen, from the same collection."


def _val_scores(path: Path, network: Network, recipe: Recipe, held: Sequence[Row], folder: Path) -> Scores:
    """Judge the images that are kept for calibration, in every form that the recipe measures."""
    return score_rows(Model.load(path), network, with_hashes(held), recipe, signals_folder(folder, recipe.name))


def _described(held: Sequence[Row], known_sources: bool) -> str:
    sources = "the training's sources but not fitted on" if known_sources else "other sources than it was fitted on"
    return f"{len(held)} images of the split `val`, of {sources}."
