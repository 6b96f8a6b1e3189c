"""Labelled images as training batches: decoded once if memory allows, each augmented with its own seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from forensic_cli.card import REAL
from forensic_cli.console import track
from forensic_cli.errors import DataError
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, Unreadable
from forensic_cli.images.views import views
from forensic_cli.pipeline import default_workers, ordered_map, read_file
from forensic_train.augment import Augmented
from forensic_train.manifest import Row
from forensic_train.recipes import Recipe
from forensic_train.seeds import generator_for

MEMORY_BUDGET = 6 << 30
"""Bytes of decoded pixels to keep in memory; images beyond that are decoded again in every epoch."""


@dataclass(frozen=True)
class Batch:
    """B training examples."""

    inputs: Tensor
    """uint8 views B x S x S x 3, or float32 features B x F for a technique that works on features."""
    generator: Tensor
    """int64, B: index into the labels."""
    subject: Tensor
    """int64, B: index into the subjects."""
    state: Tensor
    """int64, B: index into the encoder's states."""
    whole: int = 0
    """Examples of all processes in this update; 0: these alone."""

    @property
    def size(self) -> int:
        """Examples in this process."""
        return len(self.generator)

    @property
    def share(self) -> float:
        """Part of the update's examples that is here, 0 to 1."""
        return self.size / (self.whole or self.size)

    def parts(self, count: int) -> "list[Batch]":
        """Return the batch in `count` parts of nearly equal size, or fewer if it has fewer examples."""
        whole = self.whole or self.size
        tensors = (self.inputs, self.generator, self.subject, self.state)
        chunks = zip(*(torch.tensor_split(part, min(count, self.size)) for part in tensors), strict=True)
        return [Batch(i, g, s, t, whole) for i, g, s, t in chunks]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        parts = (self.inputs, self.generator, self.subject, self.state)
        inputs, generator, subject, state = (part.to(device, non_blocking=True) for part in parts)
        return Batch(inputs, generator, subject, state, self.whole)


Example: TypeAlias = tuple[Tensor, int, int, int]
"""Input, index of the generator, of the subject, of the state."""


class ImageDataset(Dataset[Example]):
    """Examples of one view each, augmented by the recipe. The keys are (position in the epoch, row)."""

    def __init__(
        self, rows: Sequence[Row], labels: Sequence[str], subjects: Sequence[str], recipe: Recipe, seed: int
    ) -> None:
        self.rows = list(rows)
        self.epoch = 0
        self._recipe = recipe
        self._seed = seed
        self._targets = [(labels.index(row.generator), subjects.index(row.subject)) for row in rows]
        self._kept = self._decode_all()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        position, index = key
        # The position separates two draws of the same image in one epoch
        view = self._view(index, generator_for("augment", self._seed, self.epoch, position))
        return torch.from_numpy(view.pixels), *self._targets[index], 0

    def samples(self, draws: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `draws` training views of every image, in chunks: uint8 views N x S x S x 3 and flags N.

        A flag says whether the view has been compressed: 1 yes, 0 no, -1 unknown. A view of a photograph that was not
        compressed here counts as unknown, because most photographs were compressed before.
        """
        keys = [(draw, index) for index in range(len(self)) for draw in range(draws)]
        for start in range(0, len(keys), chunk):
            part = keys[start : start + chunk]
            drawn = [self._view(index, generator_for("sample", self._seed, index, draw)) for draw, index in part]
            flags = [
                int(view.compressed) if view.compressed or self.rows[index].generator != REAL else -1
                for view, (_, index) in zip(drawn, part, strict=True)
            ]
            yield torch.from_numpy(np.stack([view.pixels for view in drawn])), torch.tensor(flags)

    def _view(self, index: int, rng: np.random.Generator) -> Augmented:
        pixels = self._kept[index] if index < len(self._kept) else self._load(self.rows[index])
        if self._recipe.augment is None:
            return Augmented(pixels, False)
        return self._recipe.augment(pixels, self._recipe.preprocessing.size, rng)

    def grid_views(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the views V x S x S x 3 of a row, as a scan would judge them."""
        return views(read_pixels(self.rows[index]), self._recipe.preprocessing)

    def target(self, index: int) -> tuple[int, int]:
        """Return a row's generator and subject indices."""
        return self._targets[index]

    def _load(self, row: Row) -> Pixels:
        pixels = read_pixels(row)
        return pixels if self._recipe.augment is not None else views(pixels, self._recipe.preprocessing)[0]

    def _decode_all(self) -> list[Pixels]:
        kept: list[Pixels] = []
        total = 0
        loaded = ordered_map(self._load, self.rows, default_workers(), 32)
        for pixels in track(loaded, "decoding", len(self.rows)):
            total += pixels.nbytes
            if total > MEMORY_BUDGET:
                break
            kept.append(pixels)
        return kept


class FeatureDataset(Dataset[Example]):
    """Features of a frozen encoder, computed once; the keys are those of ImageDataset."""

    def __init__(self, features: Tensor, targets: Sequence[tuple[int, int]]) -> None:
        self._features = features
        self._targets = list(targets)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        return self._features[key[1]], *self._targets[key[1]], 0


def read_pixels(row: Row) -> Pixels:
    """Return the pixels of one labelled image. Raises DataError."""
    return read_labelled(row.path).pixels


def read_labelled(path: Path) -> Decoded:
    """Decode one labelled image. Raises DataError if that fails: training must not skip an image silently."""
    data = read_file(path)
    decoded = data if isinstance(data, Unreadable) else decode(data)
    if isinstance(decoded, Unreadable):
        raise DataError(f"{path}: {decoded.reason}; repair or remove it")
    return decoded


def loader(
    dataset: Dataset[Example],
    order: Sequence[int],
    batch_size: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
) -> DataLoader[Example]:
    """Return this process's share of the batches of one epoch in the given order of rows, from batch `start` on."""
    keys = list(enumerate(order))
    chunks = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    if len(chunks) > 1 and len(chunks[-1]) < world:
        chunks[-2:] = [chunks[-2] + chunks[-1]]
    chunks = chunks[start:]
    wholes = iter([len(chunk) for chunk in chunks])
    return DataLoader(
        dataset,
        batch_sampler=[chunk[rank::world] for chunk in chunks],
        collate_fn=lambda examples: _collate(examples, next(wholes)) if world > 1 else _collate(examples, 0),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
    )


def _collate(examples: Sequence[Example], whole: int) -> Batch:
    inputs, *indices = zip(*examples, strict=True)
    generator, subject, state = map(torch.tensor, indices)
    return Batch(torch.stack(inputs), generator, subject, state, whole)
