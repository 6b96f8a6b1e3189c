"""The processes that train together: their devices, their precision, and how they add up what each has computed.

Lightning Fabric finds the devices and the other processes, whether torchrun started them or `launch` did. Gradients are
added up here, not by a DistributedDataParallel wrapper: a technique steps several optimizers on parts of one network,
which its hooks do not allow.
"""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, nn

from forensic_cli.errors import ExitCode, TrainingError

Precision: TypeAlias = Literal["32", "bf16-mixed", "16-mixed"]
"""32: float32. bf16-mixed, 16-mixed: forward passes in 16 bits where that is safe; 16 with a scaled loss."""

T = TypeVar("T")

_TIMEOUT = timedelta(days=1)
"""How long a process waits for the others; one of them may export and evaluate for hours."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    """Number of this process, from 0; the first one writes files."""
    count: int = 1
    """How many train together."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of this process."""
    fabric: Fabric | None = None
    """None: this process trains alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def share(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this process's share of items: disjoint from the others', and complete with them."""
        return items[self.rank :: self.count]

    def add(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return the sums of tensors over all processes, in one message; the same bits in each process."""
        parts = list(tensors)
        if self.fabric is None or not parts:
            return parts
        flat = torch.cat([part.reshape(-1) for part in parts])
        total = self.fabric.all_reduce(flat, reduce_op="sum")
        assert isinstance(total, Tensor)
        sums = torch.split(total, [part.numel() for part in parts])
        return [values.reshape(part.shape) for values, part in zip(sums, parts, strict=True)]

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.fabric is not None:
            self.fabric.barrier()

    def first_does(self, work: Callable[[], object]) -> None:
        """Do something in the first process alone, while the others wait."""
        if self.is_first:
            work()
        self.wait()

    def first_then_others(self, work: Callable[[], T]) -> T:
        """Do something in every process, the first one alone: what it writes, the others then only read."""
        if not self.is_first:
            self.wait()
        done = work()
        if self.is_first:
            self.wait()
        return done


def join(device: str) -> Processes:
    """Return this process among those that were started together; alone unless torchrun or `launch` started it.

    `device`: auto, cpu or cuda. Raises TrainingError for cuda without a GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device was found; train with --device cpu, or check the driver with nvidia-smi")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes(device=torch.device(kind))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it would announce itself on standard error
    backend = "nccl" if kind == "cuda" else "gloo"
    fabric = Fabric(
        accelerator=kind,
        devices=int(os.environ["LOCAL_WORLD_SIZE"]),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy=DDPStrategy(process_group_backend=backend, timeout=_TIMEOUT),
    )
    fabric.launch()
    atexit.register(_leave)
    return Processes(fabric.global_rank, fabric.world_size, fabric.device, fabric)


def _leave() -> None:
    """Part from the other processes in good order: a process group that is still there at exit may abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(processes: int, logs: Path) -> None:
    """Run this command line again in several processes that train together, and wait for them.

    What all but the first print goes to files below `logs`. Raises TrainingError if one of them fails, and
    KeyboardInterrupt if the user interrupts them.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logs.mkdir(parents=True, exist_ok=True)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="genforensic",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(logs), redirects=dict.fromkeys(range(1, processes), Std.ALL)),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "forensic_cli", *sys.argv[1:])
    except SignalException as error:
        raise KeyboardInterrupt from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt from error
        said = "its message is above" if rank == 0 else f"its messages are in {failure.error_file or logs}"
        raise TrainingError(
            f"training process {rank} of {processes} ended with exit code {failure.exitcode} ({said}), and the others "
            "were stopped; continue from the last checkpoint with --resume"
        ) from error


def is_launched() -> bool:
    """Tell whether this process was started by torchrun or `launch`."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass
class Precise:
    """Forward passes and gradients in a precision."""

    kind: Precision
    """Name of the precision."""
    device: torch.device
    """Where they run."""

    def forward_pass(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        if self.kind == "32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16 if self.kind == "bf16-mixed" else torch.float16)

    def scaler(self) -> torch.amp.GradScaler:
        """Return what keeps small gradients from vanishing in 16 bits, for one optimizer; without effect otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.kind == "16-mixed")


def average_statistics(network: nn.Module, processes: Processes) -> None:
    """Average the running statistics of BatchNorm over all processes, each of which saw its own images."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    buffers = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
    for buffer, total in zip(buffers, processes.add(buffers), strict=True):
        buffer.copy_(total / processes.count)
