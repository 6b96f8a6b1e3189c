"""A training run on disk: configuration, environment, split, log and checkpoint; every write is atomic."""

import csv
import io
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch

from forensic_cli import __version__
from forensic_cli.errors import TrainingError
from forensic_train.manifest import read_manifest, write_rows
from forensic_train.network import Network
from forensic_train.recipes import Recipe
from forensic_train.rows import Row, Rows

RUN_VERSION = 1
SPLIT_FILE = "split.csv"
CONFIG_FILE = "config.json"
CHECKPOINT_FILE = "last.ckpt"
BEST_FILE = "best.ckpt"
LOG_FILE = "log.csv"
VALIDATION_FILE = "validation.jsonl"
ENVIRONMENT_FILE = "environment.json"
EXPORTS_FOLDER = "exports"
PREPARED_FILE = "prepared.pt"


@dataclass(frozen=True)
class RunConfig:
    """Everything besides the images that determines the weights."""

    technique: str
    """Name in TECHNIQUES."""
    recipe: str
    """Name in RECIPES."""
    seed: int
    """All random numbers are derived from it."""
    settings: Mapping[str, Any]
    """The technique's settings."""
    labels: tuple[str, ...]
    """Generators, in logit order."""
    subjects: tuple[str, ...]
    """Subjects, in the subject head's order."""
    split_sha256: str
    """Hash of every row's bytes, labels and split."""
    holdout: tuple[str, ...] = ()
    """Entries of --holdout."""
    weights_sha256: str = ""
    """Hash of the pretrained weights that the encoder started from; empty: random ones."""
    run_version: int = RUN_VERSION
    """Version of this layout."""


@dataclass(frozen=True)
class Run:
    """The folder OUTPUT/<technique>/ of one training."""

    folder: Path
    """Contains the files named at the top of this module."""

    @property
    def checkpoint(self) -> Path:
        """Path of the last good checkpoint."""
        return self.folder / CHECKPOINT_FILE

    def check_free(self, resume: bool) -> None:
        """Raise TrainingError if there is a run already that must not be overwritten."""
        if self.checkpoint.exists() and not resume:
            raise TrainingError(f"{self.folder}: contains a run already; add --resume, or choose another --output")

    def begin(self, config: RunConfig, device: torch.device, resume: bool, processes: int = 1) -> None:
        """Create the folder, or check that it contains the same run when resuming. Raises TrainingError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / CONFIG_FILE).exists():
            self.check_free(resume)
            if resume and (stored := self.config()) != config:
                changed = [name for name, value in asdict(config).items() if asdict(stored)[name] != value]
                raise TrainingError(
                    f"{self.folder}: cannot be resumed, these differ: {', '.join(changed)}; "
                    "repeat the options it was started with, or choose another --output"
                )
        write_json(self.folder / CONFIG_FILE, asdict(config))
        write_json(self.folder / ENVIRONMENT_FILE, describe_environment(device, processes))

    def config(self) -> RunConfig:
        """Read the configuration back. Raises TrainingError for another version or a damaged file."""
        path = self.folder / CONFIG_FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            run_version = raw.get("run_version")
            if run_version != RUN_VERSION:
                raise TrainingError(
                    f"{self.folder}: is a run of version {run_version!r}, this tool reads {RUN_VERSION}; train it again"
                )
            for name in ("labels", "subjects", "holdout"):
                raw[name] = tuple(raw[name])
            return RunConfig(**raw)
        except FileNotFoundError as error:
            raise TrainingError(f"{self.folder}: is not a training run (it has no {CONFIG_FILE})") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path}: cannot be read ({type(error).__name__}: {error}); train it again") from error

    def environment(self) -> dict[str, Any]:
        """Read back which machine and packages made the run; empty if that file is lost."""
        try:
            return dict(json.loads((self.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def save(self, state: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Replace the checkpoint and the log. `progress`: the fields of fit.Progress."""
        with atomic(self.checkpoint) as temporary:
            torch.save({"run_version": RUN_VERSION, "state": state, **progress}, temporary)
        write_log(self.folder / LOG_FILE, progress["history"])

    def save_best(self, weights: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        """Replace the weights with the lowest validation loss."""
        with atomic(self.folder / BEST_FILE) as temporary:
            torch.save({"run_version": RUN_VERSION, "network": weights, "figures": dict(figures)}, temporary)

    def log_validation(self, figures: Mapping[str, float]) -> None:
        """Append a validation within an epoch to its log, one JSON object a line."""
        with (self.folder / VALIDATION_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(figures) + "\n")

    def load(self, device: torch.device) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Return the checkpoint's state, and the fields of fit.Progress. Raises TrainingError."""
        stored = self._read(self.checkpoint, device)
        progress = {name: value for name, value in stored.items() if name not in ("run_version", "state")}
        return stored["state"], progress

    def weights(self, keep: str) -> tuple[Mapping[str, Any], bool]:
        """Return the weights to export, the `last` or the `best` ones, and whether the training is finished.

        Raises TrainingError.
        """
        stored = self._read(self.checkpoint, torch.device("cpu"))
        modules = stored["state"]["modules"]
        last = modules.get("average", modules["network"])
        best = self.folder / BEST_FILE
        kept = self._read(best, torch.device("cpu"))["network"] if keep == "best" and best.exists() else last
        epochs = len(stored["history"])
        # Checkpoints of earlier versions do not say whether training is finished
        return kept, stored.get("is_finished", epochs >= self.config().settings["epochs"])

    def _read(self, path: Path, device: torch.device) -> dict[str, Any]:
        try:
            return dict(torch.load(path, map_location=device, weights_only=True))
        except FileNotFoundError as error:
            raise TrainingError(f"{self.folder}: has no checkpoint yet; train it without --resume") from error
        except Exception as error:  # a damaged archive can make torch.load raise anything
            raise TrainingError(
                f"{path}: cannot be read ({type(error).__name__}); remove the run and train it again"
            ) from error


def technique_run(output: Path, technique: str) -> Run:
    """Return the run of a technique below an output folder, or the folder itself if it is that run."""
    if output.name == technique and (output / CONFIG_FILE).exists():
        return Run(output)
    return Run(output / technique)


def draw_folder(output: Path, draw: int) -> Path:
    """Return the folder of the n-th further division of the unseen images into `adapt` and `test`, from 1."""
    return output / f"draw-{draw}"


def draw_folders(output: Path) -> list[Path]:
    """Return the folders of a run's further divisions that have a split, in order."""
    places = (draw_folder(output, draw) for draw in count(1))
    return list(takewhile(lambda folder: (folder / SPLIT_FILE).is_file(), places))


def split_file(output: Path) -> Path | None:
    """Return the split file of an output folder or, for a single technique's run, of its parent; None without one."""
    return next((folder / SPLIT_FILE for folder in (output, output.parent) if (folder / SPLIT_FILE).is_file()), None)


def read_split(output: Path) -> Rows:
    """Read the split that a run was trained on. Raises DataError or TrainingError."""
    if (path := split_file(output)) is not None:
        return read_manifest(path)
    raise TrainingError(f"{output}: is not a training run (it has no {SPLIT_FILE})")


def save_split(output: Path, rows: Sequence[Row]) -> None:
    """Write the split of an output folder."""
    output.mkdir(parents=True, exist_ok=True)
    with atomic(output / SPLIT_FILE) as temporary:
        write_rows(temporary, rows)


def describe_environment(device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Describe the machine and the packages that make a run."""
    packages = (
        "torch",
        "torchvision",
        "lightning-fabric",
        "numpy",
        "opencv-python-headless",
        "pillow",
        "onnx",
        "onnxscript",
    )
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "genforensic": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": gpu or device.type,
        "processes": processes,
        "packages": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution may provide the module, as opencv-python does for cv2
        return "unknown"


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_log(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Replace the log, a CSV with one line per epoch."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(history[0]) if history else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic(path) as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and move that file into place when it is complete."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def trained_techniques(output: Path) -> list[str]:
    """Return the techniques that have a checkpoint below an output folder. Raises TrainingError if there are none."""
    trained = sorted(path.parent.name for path in output.glob(f"*/{CHECKPOINT_FILE}"))
    if not trained:
        raise TrainingError(f"{output}: contains no trained technique; name the --output folder of `genforensic train`")
    return trained


def load_network(run: Run, config: RunConfig, recipe: Recipe) -> Network:
    """Return the trained network of a run, on the CPU. Raises TrainingError if the training is not finished."""
    weights, is_finished = run.weights(config.settings.get("keep", "last"))
    if not is_finished:
        raise TrainingError(
            f"{run.folder}: stopped before epoch {config.settings['epochs']}; "
            "finish it with `genforensic train ... --resume`"
        )
    network = Network(recipe.encoder(), len(config.labels))
    network.load_state_dict(weights)
    return network
