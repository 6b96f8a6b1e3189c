"""Everything that a GPU changes, tried out in ten minutes: training in each precision, exports, scans, speed.

usage: python tests/benchmarks/gpu_check.py [--cpu] [--output DIR]

Draws its own images, trains the paper's ResNet-50 on them for a few hundred steps in each precision, exports in 32 and
in 16 bits, scans with CUDA and with the CPU, and compares. Prints Markdown tables, and ends with exit code 1 if
something disagrees. --cpu: the same on the CPU with a small network and few images, to see that the script works.
"""

import argparse
import csv
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

from forensic_cli.card import Preprocessing
from forensic_cli.errors import GenforensicError
from forensic_cli.model import CPU, Model, check_against_cpu
from forensic_cli.tables import MISSING, Table
from forensic_train.encoders import SmallResNet
from forensic_train.recipes import PAPER, RECIPES
from forensic_train.run_export import export_run
from forensic_train.training import train
from forensic_train.training_plan import TrainOptions

PRECISIONS = ("32", "bf16-mixed", "16-mixed")
TECHNIQUES = ("baseline", "adversarial")
"""One update a batch, and three: scaled gradients must be right in both."""
GENERATORS = {"smooth": 0.0, "grain": 8.0, "noise": 25.0, "waves": 3.0}
"""Standard deviation of the noise; `waves` also has a grid, as up-sampling leaves it."""
SUBJECTS = {"dark": 60.0, "grey": 120.0, "light": 180.0}
LARGEST_DIFFERENCE = 0.02
"""Between the probabilities that two devices give; TF32 convolutions stay below it."""
SMALL = replace(PAPER, name="gpu-check", preprocessing=Preprocessing("whole", 32), encoder=SmallResNet)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    recipe: str
    """Name in RECIPES."""
    per_cell: int
    """Training images of each generator and subject."""
    side: int
    """Of the images, in pixels."""
    seconds: float
    """Time that each speed is measured for."""


ON_GPU = Size("paper", 100, 256, 5.0)
ON_CPU = Size(SMALL.name, 5, 64, 0.1)


def main() -> None:
    """Run every check, print the tables, and end with exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        parser.error("no CUDA device was found; try --cpu to see that the script works")
    RECIPES[SMALL.name] = SMALL
    size, device = (ON_CPU, "cpu") if options.cpu else (ON_GPU, "cuda")
    with TemporaryDirectory() as temporary:
        folder = options.output or Path(temporary)
        faults = check(size, device, folder)
    print("\n".join(f"FAILED: {fault}" for fault in faults) or "All checks passed.")
    raise SystemExit(1 if faults else 0)


def check(size: Size, device: str, folder: Path) -> list[str]:
    """Run all checks on a device and print their tables; returns what is wrong."""
    started = time.monotonic()
    data = draw_images(folder / "data", size)
    print(describe_machine(device), "\n")
    trainings = train_all(size, device, data, folder)
    print(training_table(trainings).markdown(2), "\n", flush=True)
    usable = next((run for run in trainings if run.export is not None), None)
    if usable is None or usable.export is None:
        return ["nothing could be trained"]
    exports = {"float32": usable.export, "float16": half(usable)}
    scans = {place: scan(data, usable.export, place, folder) for place in dict.fromkeys((device, "cpu"))}
    print(scan_table(scans, size).markdown(2), "\n", flush=True)
    speeds = [speed for name, path in exports.items() if path for speed in speeds_of(name, path, device, size)]
    print(Table("Speed of the session alone, images/s", Speed.columns(), [each.cells() for each in speeds]).markdown(2))
    print(f"\nThe whole took {time.monotonic() - started:.0f} s.\n")
    return [*training_faults(trainings, device), *scan_faults(scans), *(each.fault for each in speeds if each.fault)]


def draw_images(root: Path, size: Size) -> Path:
    """Write ROOT/<generator>/<subject>/N.png unless they are there."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: size.side, : size.side]
    grid = 6.0 * ((rows + columns) % 4 == 0)[..., None]
    for generator, noise in GENERATORS.items():
        for subject, level in SUBJECTS.items():
            folder = root / generator / subject
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(size.per_cell):
                pixels = level + rng.normal(0, noise, (size.side, size.side, 3)) + grid * (generator == "waves")
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


# Training


@dataclass(frozen=True)
class Training:
    """A training in one precision on one device."""

    technique: str
    """Name in TECHNIQUES."""
    precision: str
    """One of PRECISIONS."""
    device: str
    """cpu or cuda."""
    output: Path
    """Folder of the run."""
    epochs: Sequence[Mapping[str, str]] = ()
    """Lines of the log."""
    updates: int = 0
    """Number of all updates."""
    megabytes: float = 0.0
    """Largest GPU memory in use, MiB."""
    export: Path | None = None
    """What was exported; None if it failed."""
    reason: str = ""
    """Why it failed."""


def train_all(size: Size, device: str, data: Path, folder: Path) -> list[Training]:
    """Train both techniques in each precision, and the baseline on the CPU for comparison."""
    wanted = [(technique, precision, device) for technique in TECHNIQUES for precision in PRECISIONS]
    if device != "cpu":
        wanted.append(("baseline", "32", "cpu"))
    return [train_one(Training(*each, folder / "-".join(each)), size, data) for each in wanted]


def train_one(wanted: Training, size: Size, data: Path) -> Training:
    """Train for two epochs and export. What cannot run on this device is no fault: its reason is in the table."""
    settings = {"epochs": "2", "precision": wanted.precision}
    options = TrainOptions(wanted.technique, data, wanted.output, size.recipe, 0, wanted.device, overrides=settings)
    if wanted.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    try:
        exports = train(options, evaluated=False)
    except GenforensicError as error:
        return replace(wanted, reason=str(error))
    folder = wanted.output / wanted.technique
    with (folder / "log.csv").open(encoding="utf-8", newline="") as stream:
        epochs = list(csv.DictReader(stream))
    with (wanted.output / "split.csv").open(encoding="utf-8", newline="") as stream:
        images = sum(row["split"] == "train" for row in csv.DictReader(stream))
    megabytes = torch.cuda.max_memory_allocated() / 2**20 if wanted.device == "cuda" else 0.0
    export = exports / f"{size.recipe}-{wanted.technique}.onnx"
    return replace(
        wanted, epochs=epochs, updates=2 * math.ceil(images / 4), megabytes=megabytes, export=export, reason=""
    )


def training_table(trainings: Sequence[Training]) -> Table:
    """Return losses and speed of each training, or why there is none."""
    rows: list[list[object]] = []
    for each in trainings:
        cells: list[object] = [each.reason or "failed", *[MISSING] * 4]
        if each.export is not None:
            losses = " → ".join(f"{loss_of(each, place):.3f}" for place in range(len(each.epochs)))
            images = each.updates * 4 / len(each.epochs)
            rate = images / max(0.1, float(each.epochs[-1]["seconds"]))
            memory = f"{each.megabytes:.0f}" if each.megabytes else MISSING
            cells = [losses, f"{float(each.epochs[-1]['accuracy']):.3f}", each.updates, f"{rate:.1f}", memory]
        rows.append([each.technique, each.precision, each.device, *cells])
    columns = (
        "technique",
        "precision",
        "device",
        "loss by epoch",
        "accuracy",
        "updates",
        "images/s",
        "GPU memory, MiB",
    )
    return Table("Training, batches of 4", columns, rows, left=(0, 1, 2, 3))


def training_faults(trainings: Sequence[Training], device: str) -> Iterator[str]:
    """Yield what is wrong: a precision that the device must offer is missing, or a loss on a GPU does not fall."""
    for each in trainings:
        name = f"{each.technique} in {each.precision} on {each.device}"
        if each.export is None and (device == "cuda" or each.precision == "32"):
            yield f"{name}: {each.reason}"
        elif each.device == "cuda" and each.technique == "baseline" and loss_of(each, -1) >= loss_of(each, 0):
            yield f"{name}: the loss does not fall"


def loss_of(training: Training, epoch: int) -> float:
    """Return the mean loss of an epoch."""
    return float(training.epochs[epoch]["loss"])


def half(run: Training) -> Path | None:
    """Export in 16-bit floats; None, with a message on standard error, if the export is refused."""
    try:
        return export_run(run.output, run.technique, evaluated=False, precision="fp16")
    except GenforensicError as error:
        print(f"float16: {error}", file=sys.stderr)
        return None


# Scans


@dataclass(frozen=True)
class Scan:
    """What a scan of all images gives on one device."""

    seconds: float
    """Wall time, start and reading included."""
    rows: Mapping[str, Any]
    """{path: row}."""


def scan(data: Path, export: Path, device: str, folder: Path) -> Scan:
    """Scan in a process of its own, as a user does."""
    output = folder / f"scan-{device}.jsonl"
    command = [sys.executable, "-m", "forensic_cli", "scan", str(data), "--exports", str(export.parent)]
    command += ["--device", device, "--quiet", "--force", "--output", str(output)]
    started = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"the scan on {device} failed with exit code {done.returncode}: {done.stderr.strip()}")
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    return Scan(seconds, {record["path"]: record for record in records if "path" in record})


def difference(scans: Mapping[str, Scan]) -> float:
    """Return the largest difference between the probabilities on two devices; 0 if there is only one."""
    first, *others = scans.values()
    return max(
        (
            abs(probability - other.rows[path]["scores"][name])
            for other in others
            for path, row in first.rows.items()
            for name, probability in row["scores"].items()
        ),
        default=0.0,
    )


def scan_table(scans: Mapping[str, Scan], size: Size) -> Table:
    """Return the speed of each scan."""
    rows = [
        [device, len(each.rows), f"{each.seconds:.1f}", f"{len(each.rows) / each.seconds:.1f}"]
        for device, each in scans.items()
    ]
    note = f"Start and reading included. Largest difference between their probabilities: {difference(scans):.1e}."
    return Table(f"Scan of PNG images of {size.side} pixels", ("device", "images", "seconds", "images/s"), rows, note)


def scan_faults(scans: Mapping[str, Scan]) -> Iterator[str]:
    """Yield whether CUDA and the CPU disagree."""
    if (largest := difference(scans)) > LARGEST_DIFFERENCE:
        yield f"the probabilities of the scans differ by {largest:.1e}, more than {LARGEST_DIFFERENCE}"


# Sessions


@dataclass(frozen=True)
class Speed:
    """How fast an export runs."""

    weights: str
    """float32 or float16."""
    device: str
    """cpu or cuda."""
    images: int
    """At once."""
    bound: float
    """Images a second with IO binding, as a scan runs them."""
    unbound: float
    """Images a second without."""
    fault: str = ""
    """Why its results are wrong."""

    @staticmethod
    def columns() -> tuple[str, ...]:
        """Return what cells() holds."""
        return ("weights", "device", "images at once", "with IO binding", "without", "gain")

    def cells(self) -> list[object]:
        """Return a row of the table."""
        gain = f"{self.bound / self.unbound - 1:+.0%}"
        return [self.weights, self.device, self.images, f"{self.bound:.1f}", f"{self.unbound:.1f}", gain]


def speeds_of(weights: str, path: Path, device: str, size: Size) -> Iterator[Speed]:
    """Measure an export on the device and on the CPU, for one image at once and for 32."""
    reference = Model.load(path, "cpu")
    for place in dict.fromkeys((device, "cpu")):
        model = Model.load(path, place, threads=0)
        fault = ""
        try:
            check_against_cpu(model, reference)
        except GenforensicError as error:
            fault = str(error)
        if place == "cuda" and model.provider == CPU:
            fault = f"{path}: fell back to the CPU"
        for images in (1, 32):
            yield Speed(weights, place, images, *rates(model, images, size.seconds), fault)


def rates(model: Model, images: int, seconds: float) -> tuple[float, float]:
    """Return images a second with IO binding and without."""
    side = model.card.preprocessing.size
    feeds = {
        "views": np.random.default_rng(0).integers(0, 256, (images, side, side, 3)).astype(np.uint8),
        "image": np.arange(images, dtype=np.int64),
        "state": np.zeros(images, np.int64),
    }
    runtime, names = model.session.runtime, list(model.outputs)

    def bound() -> None:
        binding = runtime.io_binding()
        for name, values in feeds.items():
            binding.bind_cpu_input(name, values)
        for name in names:
            binding.bind_output(name)
        runtime.run_with_iobinding(binding)
        binding.copy_outputs_to_cpu()

    return rate(bound, images, seconds), rate(lambda: runtime.run(names, feeds), images, seconds)


def rate(run: Any, images: int, seconds: float) -> float:
    """Return how many images a second a function gets through, after three runs to warm up."""
    for _ in range(3):
        run()
    started = time.monotonic()
    for runs in count(1):
        run()
        if (passed := time.monotonic() - started) > seconds:
            return runs * images / passed
    raise AssertionError


def describe_machine(device: str) -> str:
    """Name the device and the versions that matter."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    versions = [f"PyTorch {torch.__version__}", f"CUDA {torch.version.cuda}", f"ONNX Runtime {onnxruntime.__version__}"]
    return f"{name}; {', '.join(versions)}; Python {platform.python_version()}"


if __name__ == "__main__":
    main()
