"""The fit loop: updates, validation and checkpoints; an interrupted run ends with the same weights."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from forensic_cli.console import note
from forensic_cli.errors import TrainingError
from forensic_train.curves import draw_curves
from forensic_train.dataset import ImageDataset
from forensic_train.live import LiveTable
from forensic_train.loader import Example, loader
from forensic_train.processes import average_statistics
from forensic_train.run import Run
from forensic_train.seeds import seed_for
from forensic_train.signals import SignalDataset
from forensic_train.techniques.base import Technique

_LOOK = 20
"""Updates between two looks at the losses: each one makes a GPU wait for its results."""
_VALIDATION_BATCH = 64


@dataclass
class Progress:
    """How far a training is: what a checkpoint needs besides the technique's state."""

    history: list[dict[str, float]] = field(default_factory=list)
    """The log, an entry for every finished epoch."""
    updates: int = 0
    """Updates of the epoch that is not finished."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of what these updates logged."""
    seconds: float = 0.0
    """What they took."""
    is_finished: bool = False
    """Whether the last epoch is over, or training stopped early."""

    @property
    def val_losses(self) -> list[float]:
        """Loss on the validation images after every finished epoch; empty without such images."""
        return [entry["val_loss"] for entry in self.history if "val_loss" in entry]

    def means(self) -> dict[str, float]:
        """Return the means of what the epoch that is not finished has logged."""
        return {name: total / self.updates for name, total in self.sums.items()}


@dataclass(frozen=True)
class FitOptions:
    """How a training runs, whatever it learns."""

    resume: bool = False
    """Continue from the last checkpoint."""
    workers: int = 0
    """Processes that load images for each training process; 0: it loads them itself."""
    checkpoint_minutes: float = 10.0
    """Most minutes between two checkpoints; there is one after every epoch as well."""
    validate_every: int = 0
    """Updates between two validations within an epoch; 0: only after each epoch."""


def fit(
    technique: Technique,
    dataset: ImageDataset | SignalDataset,
    run: Run,
    options: FitOptions,
    validation: ImageDataset | SignalDataset | None = None,
) -> list[dict[str, float]]:
    """Train up to the last epoch, or until validation stops improving; returns the log, one entry per epoch.

    Every random number depends only on the seed, the epoch and the position, so a resumed run ends with the same
    weights as an uninterrupted one. Raises TrainingError if a loss is not finite; the checkpoint before it is kept.
    """
    fitting = _Fitting(technique, run, options, validation)
    if options.resume and run.checkpoint.exists():
        state, progress = run.load(technique.context.device)
        technique.load(state)
        fitting.progress = Progress(**progress)
        fitting.progress.is_finished = fitting.is_at_end()
    inputs = technique.inputs(dataset)
    is_first = technique.context.processes.is_first
    with LiveTable(technique.name, technique.settings.epochs, technique.context.updates_per_epoch, is_first) as table:
        table.show(fitting.progress.history, fitting.progress.updates, fitting.progress.means())
        while not fitting.progress.is_finished:
            dataset.epoch = len(fitting.progress.history)
            fitting.epoch(inputs, technique.sampler(dataset.rows, dataset.epoch), table)
    if fitting.progress.history and is_first:
        note(table.line())
    return fitting.progress.history


class _Fitting:
    """A training under way."""

    def __init__(
        self, technique: Technique, run: Run, options: FitOptions, validation: ImageDataset | SignalDataset | None
    ) -> None:
        self.technique, self.run, self.options, self.validation = technique, run, options, validation
        self.processes = technique.context.processes
        self.progress = Progress()
        self.logged: dict[str, Tensor] = {}
        """Sums since the last look, on the device."""
        self.saved = time.monotonic()

    def epoch(self, inputs: Dataset[Example], order: npt.NDArray[np.int64], table: LiveTable) -> None:
        """Finish an epoch, from where it was left."""
        technique, progress = self.technique, self.progress
        technique.start_epoch(len(progress.history))
        started = time.monotonic() - progress.seconds
        batches = loader(
            inputs,
            order,
            technique.settings.batch_size,
            self.options.workers,
            rank=self.processes.rank,
            world=self.processes.count,
            start=progress.updates,
        )
        for batch in batches:
            # Dropout and the like: the same after a resume, and different in every process
            seed = seed_for(
                "update", technique.context.seed, len(progress.history), progress.updates, self.processes.rank
            )
            torch.manual_seed(seed)
            for name, value in technique.update(batch.to(technique.context.device)).items():
                self.logged[name] = self.logged[name] + value if name in self.logged else value
            technique.after_update()
            progress.updates += 1
            progress.seconds = time.monotonic() - started
            if progress.updates % _LOOK == 0:
                self._look()
                table.show(progress.history, progress.updates, progress.means())
                if self._is_time():
                    self._save()
            if self.options.validate_every and progress.updates % self.options.validate_every == 0:
                self._validate_within(len(progress.history), progress.updates)
        self._look()
        self._end_epoch(len(progress.history))
        table.show(progress.history, is_over=progress.is_finished)

    def _look(self) -> None:
        """Add up what was logged, over all processes, and stop if it is not finite."""
        names = list(self.logged)
        for name, total in zip(names, self.processes.add([self.logged[name].double() for name in names]), strict=True):
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + float(total)
        self.logged = {}
        broken = [name for name, value in self.progress.sums.items() if not math.isfinite(value)]
        self._stop_if(broken)

    def _end_epoch(self, epoch: int) -> None:
        technique, progress = self.technique, self.progress
        average_statistics(technique.network, self.processes)
        technique.end_epoch()
        # The weights themselves, because the last update of an epoch comes after its last loss
        tensors = [t for m in technique.modules().values() for t in m.state_dict().values() if t.is_floating_point()]
        self._stop_if([] if all(bool(torch.isfinite(tensor).all()) for tensor in tensors) else ["a weight"])
        means = {name: round(mean, 6) for name, mean in progress.means().items()}
        entry = {"epoch": epoch + 1, "seconds": round(progress.seconds, 1), **means, **technique.constants()}
        progress.history.append(entry | self._validate())
        progress.updates, progress.sums, progress.seconds = 0, {}, 0.0
        progress.is_finished = self.is_at_end()
        self._save()

    def _validate(self) -> dict[str, float]:
        """Return the loss and accuracy on the validation images; nothing without any."""
        if self.validation is None or not len(self.validation.rows):
            return {}
        network, device = self.technique.exported, self.technique.context.device
        was_training = network.training
        network.eval()
        totals = torch.zeros(2, dtype=torch.float64, device=device)
        order = range(len(self.validation.rows))
        batches = loader(
            self.validation,
            order,
            _VALIDATION_BATCH,
            self.options.workers,
            rank=self.processes.rank,
            world=self.processes.count,
        )
        with torch.inference_mode():
            for batch in (batch.to(device) for batch in batches):
                with self.technique.precise.forward_pass():
                    logits = network.classify(batch.inputs, batch.state).float()
                loss = torch.nn.functional.cross_entropy(logits, batch.generator, reduction="sum")
                totals += torch.stack([loss, (logits.argmax(dim=1) == batch.generator).sum()])
        network.train(was_training)
        mean_loss, right = (self.processes.add([totals])[0] / len(order)).tolist()
        return {"val_loss": round(mean_loss, 6), "val_accuracy": round(right, 6)}

    def _validate_within(self, epoch: int, updates: int) -> None:
        figures = self._validate()
        if figures and self.processes.is_first:
            self.run.log_validation({"epoch": epoch + 1, "update": updates, **figures})

    def is_at_end(self) -> bool:
        """Tell whether the last epoch is over, or validation has stopped improving."""
        settings = self.technique.settings
        if len(self.progress.history) >= settings.epochs:
            return True
        losses = self.progress.val_losses
        is_watched = bool(settings.patience and losses)
        return is_watched and len(losses) - 1 - losses.index(min(losses)) >= settings.patience

    def _is_time(self) -> bool:
        """Tell whether a checkpoint is due; the first process decides for all."""
        is_due = torch.tensor([float(time.monotonic() - self.saved >= 60 * self.options.checkpoint_minutes)])
        is_due = is_due if self.processes.is_first else torch.zeros(1)
        return bool(self.processes.add([is_due.to(self.technique.context.device)])[0])

    def _save(self) -> None:
        """Write the checkpoint, the best weights so far, the log and the curves; the first process alone does."""
        history = self.progress.history

        def write() -> None:
            self.run.save(self.technique.state(), vars(self.progress))
            losses = self.progress.val_losses
            if self.progress.updates == 0 and losses and losses[-1] == min(losses):
                self.run.save_best(self.technique.exported.state_dict(), history[-1])
            if self.progress.updates == 0:
                draw_curves(self.run.folder / "curves.png", self.technique.name, history)

        self.processes.first_does(write)
        self.saved = time.monotonic()

    def _stop_if(self, broken: Sequence[str]) -> None:
        if not broken:
            return
        epoch = len(self.progress.history)
        has_checkpoint = self.run.checkpoint.exists()
        kept = f"the last checkpoint is kept in {self.run.folder}" if has_checkpoint else "there is no checkpoint"
        raise TrainingError(
            f"{self.technique.name}: {', '.join(broken)} is not a finite number in epoch {epoch + 1}; {kept}; "
            "try a lower --lr or --set clip_norm=1, with another --output"
        )


def prepare_device(device: torch.device, seed: int) -> None:
    """Make training deterministic."""
    torch.manual_seed(seed)
    if device.type == "cuda":
        # Before the first CUDA call: cuBLAS is deterministic only with a fixed workspace
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
