"""The base class of techniques: settings, a sampler, and an update of the network with one batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.utils.data import Dataset

from forensic_train.dataset import ImageDataset
from forensic_train.loader import Batch, Example
from forensic_train.network import Network
from forensic_train.processes import Precise, Precision, Processes
from forensic_train.rows import Row
from forensic_train.seeds import generator_for
from forensic_train.signals import SignalDataset
from forensic_train.weights import row_weights


@dataclass(frozen=True)
class Settings:
    """Settings that all techniques share; the defaults are PAPER's ("Common to all techniques")."""

    epochs: int = 25
    """Passes over the training images."""
    batch_size: int = 4
    """Images in one update."""
    lr: float = 1e-3
    """Learning rate; the peak of a one-cycle schedule."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay; 0 makes it Adam. Not applied to biases and norms."""
    label_smoothing: float = 0.0
    """Label smoothing of the generator loss, 0 to 1."""
    schedule: Literal["constant", "onecycle"] = "constant"
    """onecycle: warm up over a fifth of the updates, then anneal to nothing."""
    clip_norm: float = 0.0
    """Largest gradient norm of an update; 0: not clipped."""
    source_balance: float = 0.0
    """0: every image once per epoch, as in PAPER. Above 0: images are drawn with replacement, in proportion to their
    weight by SourceWeigher to this power; at most 1."""
    precision: Precision = "32"
    """32: float32, as in PAPER. bf16-mixed and 16-mixed: 16-bit forward passes, faster on GPUs and some CPUs."""
    accumulate: int = 1
    """Parts that a batch is split into, one after another, to save memory. The update is that of the whole batch, but
    BatchNorm sees the parts."""
    patience: int = 0
    """Epochs without a lower validation loss after which training stops; 0: it does not stop early, as in PAPER."""
    keep: Literal["last", "best"] = "last"
    """Which weights are exported: the last ones, as in PAPER, or those with the lowest validation loss."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then what is exported; 0: no average."""
    double_softmax: bool = False
    """PAPER's literal "softmax activation" before cross entropy; bounds a 7-way loss to [1.165, 2.165]."""


@dataclass(frozen=True)
class Context:
    """What a technique knows about the run."""

    labels: tuple[str, ...]
    """Generators, in logit order."""
    subjects: tuple[str, ...]
    """Subjects, in the subject head's order."""
    counts: Mapping[str, Mapping[str, int]]
    """Training images per cell."""
    updates_per_epoch: int
    """Batches in an epoch."""
    seed: int
    """Seed of the run."""
    processes: Processes = field(default_factory=Processes)
    """This process among those that train together, and its device."""

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.processes.device


@dataclass
class Stepper:
    """An optimizer of some parameters, with its schedule."""

    optimizer: torch.optim.Optimizer
    """Changes the parameters."""
    schedule: LRScheduler | None
    """Changes the learning rate after each step; None: constant rate."""
    clip_norm: float
    """Largest gradient norm; 0: not clipped."""
    parameters: list[nn.Parameter]
    """The parameters that it may change."""
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Scales the loss in 16-bit precision, so that small gradients do not vanish."""
    processes: Processes = field(default_factory=Processes)
    """Whose gradients are added up."""

    def step(self, losses: Iterable[Tensor]) -> None:
        """Descend on the sum of losses, over all processes; gradients of all other parameters stay untouched.

        Each loss is already weighted by its share of the update's examples. They are taken one at a time, so that only
        one graph is in memory.
        """
        gradients: list[Tensor] | None = None
        for loss in losses:
            own = torch.autograd.grad(self.scaler.scale(loss), self.parameters)
            gradients = list(own) if gradients is None else [a + b for a, b in zip(gradients, own, strict=True)]
        assert gradients is not None
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(self.parameters, self.processes.add(gradients), strict=True):
            parameter.grad = gradient
        if self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.schedule is not None:
            self.schedule.step()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule and self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore state()."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if state.get("scaler"):  # empty unless the loss is scaled
            self.scaler.load_state_dict(state["scaler"])


class Technique(ABC):
    """A way to train. The fit loop knows these members, but no technique by name."""

    name: ClassVar[str]
    """Name on the command line and in model cards."""
    settings_type: ClassVar[type[Settings]] = Settings
    """Class of its settings, with the defaults of PAPER."""
    starts_from: ClassVar[str | None] = None
    """Technique whose trained network it starts from."""
    splits: ClassVar[tuple[str, ...]] = ("train",)
    """Splits that it is fitted on."""
    needs_subjects: ClassVar[bool] = False
    """Whether rows must name subjects."""
    trains_encoder: ClassVar[bool] = True
    """Whether a recipe's settings for the optimizer of the encoder apply."""

    def __init__(self, network: Network, settings: Settings, context: Context) -> None:
        self.network = network
        self.settings = settings
        self.context = context
        self.precise = Precise(settings.precision, context.device)
        self.steppers: dict[str, Stepper] = {}
        self.average = deepcopy(network).requires_grad_(False) if settings.ema else None
        """Exponential moving average of the network, if it is wanted."""

    @property
    def exported(self) -> Network:
        """The network that is validated and exported."""
        return self.average or self.network

    def sampler(self, rows: Sequence[Row], epoch: int) -> npt.NDArray[np.int64]:
        """Return the order of rows in an epoch: every row once, shuffled, unless sources are to be balanced."""
        rng = generator_for("sampler", self.context.seed, epoch)
        if not self.settings.source_balance:
            return rng.permutation(len(rows))
        weights = row_weights(rows) ** self.settings.source_balance
        return rng.choice(len(rows), size=len(rows), p=weights / weights.sum())

    def inputs(self, dataset: "ImageDataset | SignalDataset") -> Dataset[Example]:
        """Return what batches are made of; the augmented images unless a technique needs something else."""
        return dataset

    def start_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0."""
        del epoch
        self.network.train()

    def end_epoch(self) -> None:  # noqa: B027  most have nothing to finish
        """Finish an epoch, before its checkpoint is written."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Improve the network with one batch; returns numbers to log, including `loss` and `accuracy`.

        The numbers are this process's part of them: their sum over all processes is that of the update.
        """

    def descend(
        self, stepper: str, batch: Batch, losses: Callable[[Batch], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Step an optimizer on the mean loss of a batch; returns this process's part of the loss, and its outputs.

        `losses`: examples -> (their mean loss, an output for each of them).
        """
        parts: list[tuple[Tensor, Tensor]] = []

        def weighted() -> Iterator[Tensor]:
            for part in batch.parts(self.settings.accumulate):
                loss, outputs = losses(part)
                parts.append((loss.detach() * part.share, outputs.detach()))
                yield loss * part.share

        self.steppers[stepper].step(weighted())
        return torch.stack([loss for loss, _ in parts]).sum(), torch.cat([outputs for _, outputs in parts])

    def after_update(self) -> None:
        """Move the average of the weights after every update; BatchNorm's statistics are taken as they are."""
        if self.average is None:
            return
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1 - self.settings.ema)
            for statistic, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
                statistic.copy_(current)

    def modules(self) -> dict[str, nn.Module]:
        """Return every module that a checkpoint must store."""
        modules: dict[str, nn.Module] = {"network": self.network}
        return modules | ({"average": self.average} if self.average else {})

    def constants(self) -> dict[str, float]:
        """Return numbers to print next to the log, such as the bounds of a loss."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return everything that update() changes."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules().items()},
            "steppers": {name: stepper.state() for name, stepper in self.steppers.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore state()."""
        for name, module in self.modules().items():
            module.load_state_dict(state["modules"][name])
        for name, stepper in self.steppers.items():
            stepper.load(state["steppers"][name])

    def adam(self, modules: Iterable[nn.Module]) -> Stepper:
        """Return Adam (AdamW without decay is Adam) over the modules' parameters, betas .9 and .999."""
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": self.settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return self.stepper(torch.optim.AdamW(groups, lr=self.settings.lr), parameters)

    def stepper(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> Stepper:
        """Combine an optimizer with the schedule of the settings."""
        schedule = None
        if self.settings.schedule == "onecycle":
            schedule = OneCycleLR(
                optimizer,
                max_lr=[group["lr"] for group in optimizer.param_groups],
                # one more than is ever taken, as its construction counts; in a tiny run the warm-up needs room
                total_steps=max(20, self.settings.epochs * self.context.updates_per_epoch + 1),
                pct_start=0.2,
                div_factor=10,
                final_div_factor=100,
                cycle_momentum=False,
            )
        scaler, processes = self.precise.scaler(), self.context.processes
        return Stepper(optimizer, schedule, self.settings.clip_norm, parameters, scaler, processes)

    def generator_loss(self, logits: Tensor, generator: Tensor) -> Tensor:
        """Return the mean cross entropy of generator logits B x K, in float32."""
        values = logits.float()
        if self.settings.double_softmax:
            values = values.softmax(dim=1)
        return nn.functional.cross_entropy(values, generator, label_smoothing=self.settings.label_smoothing)


def accuracy(logits: Tensor, batch: Batch) -> Tensor:
    """Return this process's part of the share of examples whose largest logit is their generator."""
    return (logits.argmax(dim=1) == batch.generator).float().mean() * batch.share
