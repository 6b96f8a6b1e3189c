"""A toy recipe, toy images, and one trained run that many tests look at."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forensic_train.dataset import ImageDataset
from forensic_train.loader import Batch
from forensic_train.network import Network
from forensic_train.recipes import RECIPES, Recipe
from forensic_train.rows import Row
from forensic_train.techniques.base import Context, Technique
from forensic_train.training import train
from forensic_train.training_plan import TrainOptions
from toy_training import CELLS, TOY, ToyEncoder, hashed, make_toy_fit

PER_CELL = 14
NOISE = {"alpha": 1.0, "beta": 12.0, "gamma": 40.0}
LEVEL = {"face": 90.0, "horse": 150.0}


@pytest.fixture(scope="session", autouse=True)
def toy_recipe() -> Iterator[Recipe]:
    """Make `--recipe toy` known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RECIPES, "toy", TOY)
        yield TOY


def write_noise(path: Path, generator: str, subject: str, rng: np.random.Generator, **options: Any) -> None:
    """Write one image whose noise tells its generator and whose brightness tells its subject."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = LEVEL[subject] + rng.normal(0, NOISE[generator], (40, 44, 3))
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, **options)


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ROOT/<generator>/<subject>/NN.png, five cells of 14."""
    root = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(1)
    for generator, subject in CELLS:
        for i in range(PER_CELL):
            write_noise(root / generator / subject / f"{i:02}.png", generator, subject, rng)
    return root


@pytest.fixture(scope="session")
def trained_run(labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output folder of `train --technique all`; tests must not write into it."""
    output = tmp_path_factory.mktemp("runs") / "all"
    train(TrainOptions("all", labelled, output, recipe="toy", seed=3, device="cpu", overrides={"epochs": "2"}))
    return output


Rows = Callable[..., list[Row]]


@pytest.fixture(scope="session")
def rows_of() -> Rows:
    """Return a function that makes rows without files: {(generator, subject): images}."""

    def make(cells: dict[tuple[str, str], int]) -> list[Row]:
        return [
            Row(Path(f"{g}-{s}-{i}.png"), g, s, split="train", sha256=hashed(f"{g}{s}{i}"))
            for (g, s), count in cells.items()
            for i in range(count)
        ]

    return make


@pytest.fixture
def make_technique() -> Callable[..., Technique]:
    """Return a function that makes a technique on a toy network, by its class and its settings."""

    def make(
        kind: type[Technique], counts: dict[str, dict[str, int]], seed: int = 0, updates: int = 4, **settings: Any
    ) -> Technique:
        torch.manual_seed(seed)
        subjects = tuple(sorted({subject for row in counts.values() for subject in row}))
        context = Context(tuple(sorted(counts)), subjects, counts, updates, seed)
        network = Network(ToyEncoder(), len(counts))
        technique = kind(network, kind.settings_type(**settings), context)
        technique.start_epoch(0)
        return technique

    return make


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Return a function that makes a batch of random views with the given targets."""

    def make(generators: Sequence[int], subjects: Sequence[int], seed: int = 0) -> Batch:
        random = torch.Generator().manual_seed(seed)
        views = torch.randint(0, 256, (len(generators), 16, 16, 3), dtype=torch.uint8, generator=random)
        return Batch(
            views, torch.tensor(generators), torch.tensor(subjects), torch.zeros(len(generators), dtype=torch.int64)
        )

    return make


@pytest.fixture
def make_fit(labelled: Path) -> Callable[..., tuple[Technique, ImageDataset]]:
    """Return a function that makes a technique and its dataset on the labelled images."""
    return partial(make_toy_fit, labelled)
