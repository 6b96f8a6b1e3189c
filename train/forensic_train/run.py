"""A training run on disk: configuration, environment, split, log, checkpoint; every write is atomic."""

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
from forensic_train.manifest import Row, read_manifest, write_rows

RUN_VERSION = 1
SPLIT_FILE = "split.csv"
CONFIG_FILE = "config.json"
CHECKPOINT_FILE = "last.ckpt"
LOG_FILE = "log.csv"
ENVIRONMENT_FILE = "environment.json"
EXPORTS_FOLDER = "exports"
PREPARED_FILE = "prepared.pt"


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the weights, besides the images."""

    technique: str
    """Name in TECHNIQUES."""
    recipe: str
    """Name in RECIPES."""
    seed: int
    """All random numbers derive from it."""
    settings: Mapping[str, Any]
    """The technique's settings."""
    labels: tuple[str, ...]
    """Generators, in logit order."""
    subjects: tuple[str, ...]
    """Subjects, in the subject head's order."""
    split_sha256: str
    """Over every row's bytes, labels and split."""
    holdout: tuple[str, ...] = ()
    """Entries of --holdout."""
    run_version: int = RUN_VERSION
    """Of this layout."""


@dataclass(frozen=True)
class Run:
    """OUTPUT/<technique>/ of one training."""

    folder: Path
    """Holds the files named at the top of this module."""

    @property
    def checkpoint(self) -> Path:
        """The last good checkpoint."""
        return self.folder / CHECKPOINT_FILE

    def check_free(self, resume: bool) -> None:
        """Raise TrainingError where a run must not be started over."""
        if self.checkpoint.exists() and not resume:
            raise TrainingError(f"{self.folder}: holds a run already; add --resume, or choose another --output")

    def begin(self, config: RunConfig, device: torch.device, resume: bool) -> None:
        """Create the folder, or check that it holds the same run when resuming. Raises TrainingError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / CONFIG_FILE).exists():
            self.check_free(resume)
            if resume and (found := self.config()) != config:
                changed = [name for name, value in asdict(config).items() if asdict(found)[name] != value]
                raise TrainingError(
                    f"{self.folder}: cannot be resumed, {', '.join(changed)} differ from the run's; "
                    "repeat the options it was started with, or choose another --output"
                )
        write_json(self.folder / CONFIG_FILE, asdict(config))
        write_json(self.folder / ENVIRONMENT_FILE, describe_environment(device))

    def config(self) -> RunConfig:
        """Read the configuration back. Raises TrainingError for another version or a damaged file."""
        path = self.folder / CONFIG_FILE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            found = raw.get("run_version")
            if found != RUN_VERSION:
                raise TrainingError(
                    f"{self.folder}: is a run of version {found!r}, this tool reads {RUN_VERSION}; train it again"
                )
            for name in ("labels", "subjects", "holdout"):
                raw[name] = tuple(raw[name])
            return RunConfig(**raw)
        except FileNotFoundError as error:
            raise TrainingError(f"{self.folder}: is not a training run (it has no {CONFIG_FILE})") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(f"{path}: cannot be read ({type(error).__name__}: {error}); train it again") from error

    def environment(self) -> dict[str, Any]:
        """Read back what the run was made on; empty where that is lost."""
        try:
            return dict(json.loads((self.folder / ENVIRONMENT_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def save(self, state: Mapping[str, Any], history: Sequence[Mapping[str, float]]) -> None:
        """Replace the checkpoint and the log."""
        with atomic(self.checkpoint) as temporary:
            torch.save({"run_version": RUN_VERSION, "state": state, "history": list(history)}, temporary)
        write_log(self.folder / LOG_FILE, history)

    def load(self, device: torch.device) -> tuple[Mapping[str, Any], list[dict[str, float]]]:
        """Return the checkpoint's state and its history, one entry an epoch. Raises TrainingError."""
        try:
            found = torch.load(self.checkpoint, map_location=device, weights_only=True)
            return found["state"], [dict(entry) for entry in found["history"]]
        except FileNotFoundError as error:
            raise TrainingError(f"{self.folder}: has no checkpoint yet; train it without --resume") from error
        except Exception as error:  # torch.load raises whatever a damaged archive leads it into
            raise TrainingError(
                f"{self.checkpoint}: cannot be read ({type(error).__name__}); remove the run and train it again"
            ) from error


def technique_run(output: Path, technique: str) -> Run:
    """Return the run of a technique below an output folder, or the folder itself when it is that run."""
    if output.name == technique and (output / CONFIG_FILE).exists():
        return Run(output)
    return Run(output / technique)


def draw_folder(output: Path, draw: int) -> Path:
    """Return the folder of a further division of a run's unseen images into `adapt` and `test`, counted from 1."""
    return output / f"draw-{draw}"


def draw_folders(output: Path) -> list[Path]:
    """Return the folders of a run's further divisions that have a split, in order."""
    places = (draw_folder(output, draw) for draw in count(1))
    return list(takewhile(lambda folder: (folder / SPLIT_FILE).is_file(), places))


def split_file(output: Path) -> Path | None:
    """Return the split of an output folder or, for a single technique's run, of the folder above; None without one."""
    return next((folder / SPLIT_FILE for folder in (output, output.parent) if (folder / SPLIT_FILE).is_file()), None)


def read_split(output: Path) -> list[Row]:
    """Read the split that a run was trained on. Raises DataError or TrainingError."""
    if (path := split_file(output)) is not None:
        return read_manifest(path)
    raise TrainingError(f"{output}: is not a training run (it has no {SPLIT_FILE})")


def save_split(output: Path, rows: Sequence[Row]) -> None:
    """Write the split of an output folder."""
    output.mkdir(parents=True, exist_ok=True)
    with atomic(output / SPLIT_FILE) as temporary:
        write_rows(temporary, rows)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Describe what a run was made on and with."""
    packages = ("torch", "torchvision", "numpy", "opencv-python-headless", "pillow", "onnx", "onnxscript")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "genforensic": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "device": gpu or device.type,
        "packages": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # another distribution may supply the module, as opencv-python does for cv2
        return "unknown"


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_log(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    """Replace the log: a CSV line an epoch."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(history[0]) if history else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with atomic(path) as temporary:
        temporary.write_text(buffer.getvalue(), encoding="utf-8")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and move the file into place when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def trained_techniques(output: Path) -> list[str]:
    """Return the techniques that have a checkpoint below an output folder. Raises TrainingError for none."""
    found = sorted(path.parent.name for path in output.glob(f"*/{CHECKPOINT_FILE}"))
    if not found:
        raise TrainingError(f"{output}: holds no trained technique; name the --output folder of `genforensic train`")
    return found
