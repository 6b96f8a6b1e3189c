"""The fit loop: epochs of updates with a checkpoint after each; an interrupted run ends with the same weights."""

import math
import os
import time
from collections import defaultdict
from collections.abc import Sequence

import torch

from forensic_cli.console import note, progress_bar
from forensic_cli.errors import TrainingError
from forensic_train.dataset import ImageDataset, loader
from forensic_train.manifest import Row
from forensic_train.run import Run
from forensic_train.signals import SignalDataset
from forensic_train.techniques.base import Technique


def fit(
    technique: Technique, dataset: ImageDataset | SignalDataset, run: Run, resume: bool, workers: int
) -> list[dict[str, float]]:
    """Train up to the last epoch; returns the log, one entry per epoch.

    Every random number depends only on the seed, the epoch and the position, so a resumed run ends with the same
    weights as an uninterrupted one. Raises TrainingError if a loss is not finite; the checkpoint before it is kept.
    """
    history: list[dict[str, float]] = []
    if resume and run.checkpoint.exists():
        state, history = run.load(technique.context.device)
        technique.load(state)
    inputs = technique.inputs(dataset)
    epochs = technique.settings.epochs
    with progress_bar() as progress:
        bar = progress.add_task(technique.name, total=epochs * technique.context.updates_per_epoch, info="")
        progress.advance(bar, len(history) * technique.context.updates_per_epoch)
        for epoch in range(len(history), epochs):
            dataset.epoch = epoch
            technique.start_epoch(epoch)
            started = time.monotonic()
            sums: dict[str, float] = defaultdict(float)
            order = technique.sampler(dataset.rows, epoch)
            batches = loader(inputs, order, technique.settings.batch_size, workers)
            for count, batch in enumerate(batches, start=1):
                logged = technique.update(batch.to(technique.context.device))
                _check_finite(technique, logged, epoch, run)
                for name, value in logged.items():
                    sums[name] += value
                progress.update(bar, advance=1, info=_describe(epoch, epochs, sums, count))
            means = {name: round(value / len(batches), 6) for name, value in sums.items()}
            history.append({"epoch": epoch + 1, "seconds": round(time.monotonic() - started, 1), **means})
            technique.end_epoch()
            _check_weights(technique, epoch, run)
            run.save(technique.state(), history)
    if history:
        note(f"{technique.name}: {_describe(epochs - 1, epochs, history[-1], 1)}")
    return history


def updates_per_epoch(rows: Sequence[Row], batch_size: int) -> int:
    """Return the number of batches in an epoch."""
    return math.ceil(len(rows) / batch_size)


def choose_device(wish: str) -> torch.device:
    """Return the device for auto, cpu or cuda. Raises TrainingError for cuda without a GPU."""
    if wish == "cuda" and not torch.cuda.is_available():
        raise TrainingError("no CUDA device was found; train with --device cpu, or check the driver with nvidia-smi")
    return torch.device("cuda" if wish != "cpu" and torch.cuda.is_available() else "cpu")


def prepare_device(device: torch.device, seed: int) -> bool:
    """Make training deterministic; returns whether bfloat16 autocast is faster on this device."""
    torch.manual_seed(seed)
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    # Before the first CUDA call: cuBLAS is deterministic only with a fixed workspace
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _check_weights(technique: Technique, epoch: int, run: Run) -> None:
    """Check the weights themselves, because the last update of an epoch comes after its last checked loss."""
    tensors = [t for m in technique.modules().values() for t in m.state_dict().values() if t.is_floating_point()]
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    _check_finite(technique, {"a weight": 0.0 if finite else math.nan}, epoch, run)


def _check_finite(technique: Technique, logged: dict[str, float], epoch: int, run: Run) -> None:
    broken = [name for name, value in logged.items() if not math.isfinite(value)]
    if broken:
        kept = f"the checkpoint of epoch {epoch} is kept in {run.folder}" if epoch else "no epoch was finished"
        raise TrainingError(
            f"{technique.name}: {', '.join(broken)} is not a finite number in epoch {epoch + 1}; {kept}; "
            "try a lower --lr or --set clip_norm=1, with another --output"
        )


def _describe(epoch: int, epochs: int, sums: dict[str, float], count: int) -> str:
    shown = [f"{name} {sums[name] / count:.3f}" for name in sums if name not in ("epoch", "seconds")]
    return f"epoch {epoch + 1}/{epochs}  {'  '.join(shown)}"
