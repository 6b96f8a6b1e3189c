"""Checkpoints of the miniature generators: made by a command, stored in half precision, checked by their hash."""

import json
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forensic_benchmark.generators.base import MiniatureGenerator, TrainingScenes, to_pixels
from forensic_benchmark.generators.families import BLUEPRINTS, OUTSIDER, PAPER_FAMILIES, SWAPPED
from forensic_benchmark.images import Images
from forensic_benchmark.quality import Quality, measure_quality, sample_sheet
from forensic_benchmark.scenes import SUBJECTS, render_many
from forensic_cli.console import note, progress_bar
from forensic_cli.errors import TrainingError, UsageError
from forensic_train.run import atomic, describe_environment, write_json
from forensic_train.seeds import seed_for

CHECKPOINTS = Path(__file__).with_name("checkpoints")
"""Folder of the checkpoints in the repository."""
SCENES = 8000
"""Number of scenes that each generator is trained on; no two generators share a scene."""
JUDGED = 256
"""Number of samples that the quality gates examine."""
THIRD_SEED = 2
"""Seed of the checkpoints that no attributor is ever trained on."""
_SAMPLING_BATCH = 64


@dataclass(frozen=True)
class Checkpoint:
    """A trained miniature generator on disk: NAME-SEED.pt with the weights, .json with facts, .png with samples."""

    name: str
    """Name in BLUEPRINTS."""
    seed: int
    """Of its training: weights, scenes and batches."""
    folder: Path = CHECKPOINTS
    """Of the three files."""

    @property
    def stem(self) -> str:
        """NAME-SEED, the source of its images in manifests."""
        return f"{self.name}-{self.seed}"

    @property
    def weights(self) -> Path:
        """The file of weights."""
        return self.folder / f"{self.stem}.pt"

    @property
    def about(self) -> Path:
        """The file that describes it."""
        return self.folder / f"{self.stem}.json"

    def describe(self) -> dict[str, Any]:
        """Return the facts in its .json. Raises TrainingError if there is no such checkpoint."""
        try:
            return dict(json.loads(self.about.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self.about}: cannot be read ({error}); make it with `{_command(self)}`") from error

    def sha256(self) -> str:
        """Return the hash of the file of weights. Raises TrainingError if there is none."""
        try:
            return sha256(self.weights.read_bytes()).hexdigest()
        except OSError as error:
            raise TrainingError(f"{self.weights}: cannot be read; make it with `{_command(self)}`") from error

    def load(self) -> MiniatureGenerator:
        """Return the generator, ready to sample. Raises TrainingError if the weights do not match the .json."""
        if self.sha256() != self.describe()["sha256"]:
            raise TrainingError(f"{self.weights}: is not the file that {self.about.name} describes (sha256 differs)")
        generator = BLUEPRINTS[self.name]()
        state = torch.load(self.weights, weights_only=True)
        generator.load_state_dict({name: _single(value) for name, value in state.items()})
        return generator.eval()


ALL_CHECKPOINTS = (
    *(Checkpoint(name, seed) for seed in (0, 1, THIRD_SEED) for name in PAPER_FAMILIES),
    Checkpoint(OUTSIDER, 0),
    *(Checkpoint(name, 0) for name in SWAPPED.values()),
)
"""Everything that the benchmark samples from."""


def find_checkpoint(stem: str) -> Checkpoint:
    """Return the checkpoint called NAME-SEED. Raises UsageError with the names of the generators."""
    name, _, seed = stem.rpartition("-")
    if name not in BLUEPRINTS or not seed.isdecimal():
        raise UsageError(f"{stem!r} is no checkpoint; allowed: NAME-SEED with a name of {', '.join(BLUEPRINTS)}")
    return Checkpoint(name, int(seed))


def make_checkpoint(checkpoint: Checkpoint) -> Quality:
    """Train a generator on its own scenes and write its three files."""
    torch.manual_seed(seed_for("miniature weights", checkpoint.seed))
    generator = BLUEPRINTS[checkpoint.name]()
    rng = torch_generator_for("miniature batches", checkpoint.seed)
    started = time.monotonic()
    with progress_bar() as progress:
        bar = progress.add_task(checkpoint.stem, total=generator.updates, info="")
        for losses in generator.fit(training_scenes(checkpoint), rng):
            progress.update(bar, advance=1, info="  ".join(f"{name} {value:.3f}" for name, value in losses.items()))
    seconds = round(time.monotonic() - started)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    with atomic(checkpoint.weights) as temporary:
        torch.save({name: _half(value) for name, value in generator.state_dict().items()}, temporary)
    about = {
        "name": checkpoint.name,
        "seed": checkpoint.seed,
        "sha256": checkpoint.sha256(),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "updates": generator.updates,
        "training_seconds": seconds,
        "command": _command(checkpoint),
        "environment": describe_environment(torch.device("cpu")),
    }
    write_json(checkpoint.about, about)
    quality = judge_checkpoint(checkpoint)
    write_json(checkpoint.about, {**about, "quality": asdict(quality), "failed_gates": quality.failed()})
    note(f"{checkpoint.stem}: {seconds} s; gates that failed: {', '.join(quality.failed()) or 'none'}")
    return quality


def judge_checkpoint(checkpoint: Checkpoint) -> Quality:
    """Compare samples of a stored checkpoint with scenes, and draw its sample sheet."""
    generator = checkpoint.load()
    subjects = np.arange(JUDGED) % len(SUBJECTS)
    samples = draw_images(generator, subjects, torch_generator_for("quality", checkpoint.seed))
    sample_sheet(samples, len(SUBJECTS), checkpoint.folder / f"{checkpoint.stem}.png")
    return measure_quality(samples, subjects, generator.diagnostics())


def training_scenes(checkpoint: Checkpoint) -> TrainingScenes:
    """Render the training scenes of a generator, with every subject equally often."""
    subjects = np.arange(SCENES) % len(SUBJECTS)
    images = render_many(subjects.tolist(), f"train/{checkpoint.stem}")
    return TrainingScenes(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(subjects))


@torch.no_grad()
def draw_images(generator: MiniatureGenerator, subjects: npt.NDArray[np.int64], rng: torch.Generator) -> Images:
    """Sample uint8 images N x SIZE x SIZE x 3 of the wanted subjects."""
    parts = torch.split(torch.from_numpy(subjects), _SAMPLING_BATCH)
    return np.concatenate([to_pixels(generator.sample(part, rng)).numpy() for part in parts])


def torch_generator_for(purpose: str, seed: int) -> torch.Generator:
    """Return a PyTorch random generator, seeded by seed_for()."""
    return torch.Generator().manual_seed(seed_for(purpose, seed))


def _command(checkpoint: Checkpoint) -> str:
    return f"genforensic benchmark --make {checkpoint.stem}"


def _half(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value
