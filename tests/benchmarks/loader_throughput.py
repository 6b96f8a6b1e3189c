"""How fast training images are loaded, from files and from the cache, and how long a training step waits for them.

usage: python tests/benchmarks/loader_throughput.py DATA [--recipe NAME] [--images N] [--batch-size N] [--workers N ...]
           [--runs N] [--steps N] [--step-batch N]

DATA is a folder of images, or a labelled folder or manifest; `--images` takes that many of them, evenly spread. Prints
two Markdown tables. Of the cache, `cold` is the first epoch after its files have left the memory of the system, in
which every image is read from the disk and its checksum is computed; `warm` is an epoch after that. Files are warm. An
epoch starts with the processes already there (threads, where cached images need no augmentation). Medians of `--runs`.
Only the fewest and the most processes are tried with the training step, and none if `--steps` is below 3. The cache is
made in TMPDIR, best on a disk.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torchvision.models import resnet50

from forensic_cli.discover import discover
from forensic_train.dataset import ImageDataset, cached
from forensic_train.loader import Batch, loader
from forensic_train.manifest import read_manifest, with_hashes
from forensic_train.recipes import Recipe, find_recipe
from forensic_train.rows import Row


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--step-batch", type=int, default=4)
    options = parser.parse_args()
    rows, recipe = read_rows(options.data, options.images), find_recipe(options.recipe)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{len(rows)} images of {options.data}, recipe {recipe.name}, batches of {options.batch_size}, ", end="")
    print(f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        cached(rows, recipe, Path(folder))
        seconds = time.monotonic() - started
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.pixels"))
        print(f"\nThe cache was built at {len(rows) / seconds:.0f} images/s and has {size / 1e6:.0f} MB.")
        print("\n| images/s, by `--workers` |", " | ".join(map(str, options.workers)), "|")
        print("|---|" + "---:|" * len(options.workers))
        rates = [loading_rates(rows, recipe, Path(folder), options, workers) for workers in options.workers]
        for name in rates[0]:
            print(f"| {name} |", " | ".join(f"{rate[name]:.0f}" for rate in rates), "|")
        if options.steps < 3:
            return
        print(f"\n| ResNet-50 on the {device}, batches of {options.step_batch} | step ms | waiting ms | share |")
        print("|---|---:|---:|---:|", flush=True)
        for name, cache in (("files", None), ("cache", cached(rows, recipe, Path(folder)))):
            dataset = ImageDataset(rows, ("any",), ("",), recipe, 0, cache)
            for workers in sorted({min(options.workers), max(options.workers)}):
                order = range(min(len(rows), options.steps * options.step_batch))
                step, wait = waiting(loader(dataset, order, options.step_batch, workers), device)
                share = wait / (step + wait)
                print(f"| {name}, {workers} | {step * 1e3:.0f} | {wait * 1e3:.2f} | {share:.2%} |", flush=True)


def read_rows(data: Path, most: int) -> list[Row]:
    """Return `most` images, evenly spread, all with one label."""
    labelled = data.is_file() or (data / "manifest.csv").exists()
    found = (
        [row.path for row in read_manifest(data)] if labelled else [p for p in discover([data]) if isinstance(p, Path)]
    )
    chosen = [found[i] for i in sorted(set(np.linspace(0, len(found) - 1, most).astype(int).tolist()))]
    return with_hashes([Row(path, "any", "") for path in chosen])


def loading_rates(
    rows: list[Row], recipe: Recipe, folder: Path, options: argparse.Namespace, workers: int
) -> dict[str, float]:
    """Return {source: images/s} of whole epochs, without any training."""
    rates: dict[str, list[float]] = {"files": [], "cache, cold": [], "cache, warm": []}
    for _ in range(options.runs):
        plain = ImageDataset(rows, ("any",), ("",), recipe, 0)
        start_processes(plain, workers)
        rates["files"].append(epoch_rate(plain, options.batch_size, workers))
        fast = ImageDataset(rows, ("any",), ("",), recipe, 0, cached(rows, recipe, folder))
        start_processes(fast, workers)
        forget(folder.rglob("*.pixels"))
        rates["cache, cold"].append(epoch_rate(fast, options.batch_size, workers))
        epoch_rate(fast, options.batch_size, workers)  # so that each process has checked most of the images
        rates["cache, warm"].append(epoch_rate(fast, options.batch_size, workers))
    return {name: statistics.median(values) for name, values in rates.items()}


def start_processes(dataset: ImageDataset, workers: int) -> None:
    """Load one image in each process."""
    list(loader(dataset, range(max(1, workers)), 1, workers))


def epoch_rate(dataset: ImageDataset, batch_size: int, workers: int) -> float:
    """Return images/s of one epoch in a random order."""
    order = np.random.default_rng(dataset.epoch).permutation(len(dataset)).tolist()
    dataset.epoch += 1
    started = time.perf_counter()
    count = sum(batch.size for batch in loader(dataset, order, batch_size, workers))
    return count / (time.perf_counter() - started)


def forget(paths: Iterable[Path]) -> None:
    """Let the system drop files from its memory."""
    for path in paths:
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def waiting(batches: Iterable[Batch], device: torch.device) -> tuple[float, float]:
    """Return the median seconds of an update of ResNet-50, and of waiting for its batch, without the first one."""
    torch.manual_seed(0)
    network = resnet50(num_classes=2).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    steps, waits, started = [], [], time.perf_counter()
    for batch in batches:
        received = time.perf_counter()
        there = batch.to(device)
        images = there.inputs.permute(0, 3, 1, 2).float() / 255
        loss = torch.nn.functional.cross_entropy(network(images), there.generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        float(loss.detach())
        finished = time.perf_counter()
        waits.append(received - started)
        steps.append(finished - received)
        started = finished
    return statistics.median(steps[1:]), statistics.median(waits[1:])


if __name__ == "__main__":
    main()
