"""A toy recipe and a toy training, for this process or for one of several.

usage: torchrun --nproc-per-node 2 toy_training.py LABELLED JOBS    trains in several processes; JOBS: JSON of a list of
       output folders, techniques and settings
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forensic_cli.card import Preprocessing
from forensic_train.augment import augment_patch
from forensic_train.dataset import ImageDataset
from forensic_train.fit import FitOptions, fit
from forensic_train.loader import count_batches
from forensic_train.manifest import count_cells
from forensic_train.network import Encoder, Network
from forensic_train.processes import Processes, join
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.run import Run
from forensic_train.techniques import TECHNIQUES
from forensic_train.techniques.base import Context, Technique

CELLS = (("alpha", "face"), ("alpha", "horse"), ("beta", "face"), ("beta", "horse"), ("gamma", "face"))
"""gamma has one subject only, as LSGM in PAPER."""


def hashed(text: str) -> str:
    """Return a sha256, as a row has it, that differs for every text."""
    return sha256(text.encode()).hexdigest()


class ToyEncoder(Encoder):
    """Two convolutions with BatchNorm."""

    width = 6

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 6, 3, stride=2),
            nn.BatchNorm2d(6),
            nn.ReLU(),
        )

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        del state
        encoded: Tensor = self.body(images)
        return encoded.mean(dim=(2, 3))


class PlainEncoder(ToyEncoder):
    """The same without BatchNorm, whose statistics are those of the examples that it sees together."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(*(layer for layer in self.body if not isinstance(layer, nn.BatchNorm2d)))


TOY = Recipe("toy", Preprocessing("patches", 32, grid=2), ToyEncoder, 0, augment_patch, {"batch_size": 8, "lr": 0.01})


def make_toy_fit(
    labelled: Path,
    kind: type[Technique],
    seed: int = 5,
    encoder: type[Encoder] = ToyEncoder,
    processes: Processes | None = None,
    **settings: Any,
) -> tuple[Technique, ImageDataset]:
    """Make a technique and its dataset on six images of every cell of a labelled folder."""
    rows = [Row(labelled / g / s / f"{i:02}.png", g, s, split="train") for g, s in CELLS for i in range(6)]
    labels, subjects = ("alpha", "beta", "gamma"), ("face", "horse")
    values = {"epochs": 2, "batch_size": 8, "lr": 0.01, **settings}
    torch.manual_seed(seed)
    updates = count_batches(len(rows), values["batch_size"])
    context = Context(labels, subjects, count_cells(rows), updates, seed, processes or Processes())
    technique = kind(Network(encoder(), 3), kind.settings_type(**values), context)
    return technique, ImageDataset(rows, labels, subjects, TOY, seed)


def train_toy(processes: Processes, labelled: Path, output: Path, name: str, **settings: Any) -> None:
    """Train without BatchNorm, validate on the same images, and leave a checkpoint in `output`."""
    resume = (output / "last.ckpt").exists()
    processes.first_does(lambda: output.mkdir(parents=True, exist_ok=True))
    kind = TECHNIQUES[name]
    technique, dataset = make_toy_fit(labelled, kind, encoder=PlainEncoder, processes=processes, **settings)
    _, held = make_toy_fit(labelled, kind, encoder=PlainEncoder, **settings)
    fit(technique, dataset, Run(output), FitOptions(resume=resume), validation=held)


if __name__ == "__main__":
    torch.set_num_threads(1)
    together = join("cpu")
    for folder, technique, changes in json.loads(sys.argv[2]):
        train_toy(together, Path(sys.argv[1]), Path(folder), technique, **changes)
