"""Before training: what the user asks for, which images it uses, and everything that is missing for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby, repeat
from operator import attrgetter
from pathlib import Path

import numpy as np

from forensic_cli.console import note
from forensic_cli.errors import DataError, TrainingError, UsageError
from forensic_train.crossfit.scores import read_scores, scores_file
from forensic_train.fit import FitOptions
from forensic_train.manifest import has_subjects, read_manifest, same_bytes_two_generators, with_hashes
from forensic_train.network import Network
from forensic_train.recipes import Recipe
from forensic_train.rows import Row, Rows, as_rows
from forensic_train.run import (
    CHECKPOINT_FILE,
    CONFIG_FILE,
    RunConfig,
    load_network,
    read_split,
    split_file,
    technique_run,
)
from forensic_train.splits import SplitShares, redraw_adapt, split_rows
from forensic_train.techniques.base import Technique


@dataclass(frozen=True)
class TrainOptions:
    """What a user asks of `genforensic train`."""

    technique: str
    """Name of a technique, or `all`."""
    data: Path | None
    """A labelled folder or a manifest; None to use the split of `origin`."""
    output: Path
    """Folder of the run."""
    recipe: str = "native"
    """Name in RECIPES."""
    seed: int = 0
    """All random numbers are derived from it."""
    device: str = "auto"
    """auto, cpu or cuda."""
    origin: Path | None = None
    """Run with the trained network that a technique starts from (--from); None: the output folder."""
    holdout: tuple[str, ...] = ()
    """Entries such as source=NAME."""
    overrides: Mapping[str, str] | None = None
    """{setting: its value as text}."""
    calibrate: Path | None = None
    """Folder of out-of-fold scores to calibrate on; unless there are hold-outs, every image is then trained on."""
    fit: FitOptions = field(default_factory=FitOptions)
    """How the training runs."""
    weights: Path | None = None
    """torchvision weights that the encoder starts from; None: random ones, as in PAPER."""
    signals: Path | None = None
    """Folder where signals are kept between runs; None: the output folder."""
    shares: SplitShares = field(default_factory=SplitShares)
    """How many images calibration gets, and how many `finetune` adapts to."""
    draws: int = 1
    """How often the unseen images are divided into `adapt` and `test`; each further division is a run of its own."""

    @property
    def resume(self) -> bool:
        """Whether to continue from the last checkpoint."""
        return self.fit.resume


def training_rows(options: TrainOptions) -> Rows:
    """Read and split the data, or take over the split of the run that is resumed or started from.

    Raises UsageError for options that contradict that split or the manifest, DataError for data that cannot be used,
    and TrainingError if the output folder has techniques that were trained on another split.
    """
    earlier = (options.output if options.resume else None, options.origin if options.data is None else None)
    for folder in earlier:
        if folder is not None and split_file(folder) is not None:
            if options.holdout and not options.resume:
                raise UsageError(f"the split of {folder} is used; remove --holdout, or add --data")
            rows = with_hashes(read_split(folder))
            if folder != options.output and options.shares.val is not None:
                raise UsageError(f"the split of {folder} is used; remove --val, or add --data")
            if folder != options.output and options.shares.adapt_images is not None:
                rows = redraw_adapt(rows, options.seed, options.shares)
            break
    else:
        if options.data is None:
            raise UsageError("there is nothing to train on; name a labelled folder or a manifest with --data")
        rows = with_hashes(read_manifest(options.data))
        if options.calibrate is not None and not options.holdout and not any(row.split for row in rows):
            rows = rows.with_splits(repeat("train", len(rows)))
        else:
            if options.draws > 1 and any(row.split == "adapt" for row in rows):
                raise UsageError("the manifest declares which images are `adapt`; remove --draws, or that split")
            rows = split_rows(rows, options.seed, options.holdout, options.shares)
    check_same_split(options.output, rows)
    return rows


def check_needs(options: TrainOptions, kinds: Sequence[type[Technique]], recipe: Recipe, rows: Sequence[Row]) -> None:
    """Raise TrainingError with everything that any technique is missing, before hours are spent on another one."""
    missing = [need for kind in kinds for need in _missing_needs(kind, options, kinds, recipe, rows)]
    if len(missing) == 1:
        raise TrainingError(missing[0])
    if missing:
        numbered = "; ".join(f"({i}) {need}" for i, need in enumerate(missing, start=1))
        raise TrainingError(f"nothing was trained, {len(missing)} things are missing: {numbered}")


def _missing_needs(
    kind: type[Technique],
    options: TrainOptions,
    kinds: Sequence[type[Technique]],
    recipe: Recipe,
    rows: Sequence[Row],
) -> Iterator[str]:
    """Yield a sentence for everything that a technique needs and does not have."""
    chosen = as_rows(rows).where("split", kind.splits)
    labels = labels_of(rows)
    if not chosen:
        splits = f"split {', '.join(kind.splits)}"
        remedy = "--adapt N draws them from `test`" if kind.splits == ("adapt",) else "or hold out less"
        yield (
            f"{kind.name} is fitted on the {splits}, which has no images; assign some rows of the manifest to it "
            f"({remedy}), or do not train {kind.name}"
        )
    elif kind.needs_subjects and not has_subjects(chosen):
        yield (
            f"{kind.name} needs subjects, but its training images have fewer than two; arrange the data as "
            "ROOT/<generator>/<subject>/..., or train another technique"
        )
    if kind.starts_from is not None:
        is_trained_first = options.origin is None and kind.starts_from in [other.name for other in kinds]
        try:
            _check_unseen(options, rows)
            if not is_trained_first:
                trained_start(kind.starts_from, options, labels, recipe)
        except TrainingError as error:
            yield str(error)
    if options.calibrate is not None:
        try:
            known = read_scores(options.calibrate / scores_file(kind.name)).labels
        except DataError as error:
            yield str(error)
        else:
            if unknown := sorted(set(labels) - set(known)):
                yield f"the scores of {kind.name} in {options.calibrate} do not know {', '.join(unknown)}"


def labels_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the generators that are trained on, in logit order."""
    return tuple(sorted(set(as_rows(rows).where("split", ["train"]).column("generator"))))


def note_doubts(options: TrainOptions, rows: Sequence[Row]) -> None:
    """Warn of what does not prevent training but may not be intended."""
    if options.calibrate is None and not any(row.split == "val" for row in rows):
        note("The split has no `val`: no images are kept for calibration, and confidences will not be calibrated.")
    if doubtful := same_bytes_two_generators(rows):
        note(
            f"Warning: {len(doubtful)} files appear under two generators, for example {doubtful[0][0].path.name}; "
            "`genforensic audit` lists them all.",
            "yellow",
        )


def check_same_split(output: Path, rows: Sequence[Row]) -> None:
    """Raise TrainingError if techniques in `output` were trained on another split: they could not be compared."""
    if not any(output.glob(f"*/{CHECKPOINT_FILE}")):
        return
    if split_digest(with_hashes(read_split(output))) != split_digest(rows):
        raise TrainingError(
            f"{output}: contains techniques that were trained on another split; choose another --output, "
            "or repeat the data, seed and hold-outs of that run"
        )


def _check_unseen(options: TrainOptions, rows: Sequence[Row]) -> None:
    """Raise TrainingError if new data would be tested on images that the starting network was trained on."""
    if options.data is None or options.origin is None:
        return
    seen = {row.sha256 for row in with_hashes(read_split(options.origin)) if row.split in ("train", "val")}
    leaked = [row for row in rows if row.split in ("adapt", "test") and row.sha256 in seen]
    if leaked:
        raise TrainingError(
            f"{len(leaked)} images to adapt to or to test on were already used by the training in {options.origin} "
            f"({leaked[0].path.name}, ...); remove --data, or use other images"
        )


def trained_start(
    technique: str, options: TrainOptions, labels: tuple[str, ...], recipe: Recipe
) -> tuple[Network, RunConfig]:
    """Return the trained network that a technique starts from, and its configuration. Raises TrainingError."""
    run = technique_run(options.origin or options.output, technique)
    if not (run.folder / CONFIG_FILE).exists():
        raise TrainingError(
            f"{run.folder}: there is no trained {technique} to start from; train it first, or name a run with --from"
        )
    config = run.config()
    if config.labels != labels or config.recipe != recipe.name:
        raise TrainingError(
            f"{run.folder}: has a different recipe or different generators than this training; choose another --from"
        )
    return load_network(run, config, recipe), config


def split_digest(rows: Sequence[Row]) -> str:
    """Return a hash of every row's bytes, labels and split, whatever their order."""
    packed = as_rows(rows)
    ordered = packed.take(np.argsort(packed.digests, kind="stable"))
    digest, separator = sha256(), b""
    for _, copies in groupby(ordered, key=attrgetter("sha256")):
        for line in sorted(f"{row.sha256} {row.generator} {row.subject} {row.split}" for row in copies):
            digest.update(separator + line.encode("utf-8", "surrogatepass"))
            separator = b"\n"
    return digest.hexdigest()
