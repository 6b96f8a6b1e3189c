"""Labelled images as training examples: decoded once for all runs, each augmented with its own seed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from forensic_cli import __version__
from forensic_cli.card import REAL
from forensic_cli.errors import DataError
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels, Unreadable
from forensic_cli.images.views import views
from forensic_cli.pipeline import read_file
from forensic_train.augment import Augmented
from forensic_train.loader import Batch, Examples, Keys
from forensic_train.recipes import Recipe
from forensic_train.rows import Row, as_rows
from forensic_train.seeds import generator_for
from forensic_train.view_cache import ViewCache, open_cache

VERSION = 1
"""Increases when the decoder or views() gives other pixels, so that old caches are not mistaken for new ones."""
_DECODERS = ("opencv-python-headless", "opencv-python", "simplejpeg", "pillow", "pillow-heif")


class ImageDataset(Examples):
    """Examples of one view each, augmented by the recipe."""

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        subjects: Sequence[str],
        recipe: Recipe,
        seed: int,
        cache: ViewCache | None = None,
    ) -> None:
        """Label the rows; without a `cache` (see cached) an image is decoded each time that it is drawn."""
        self.rows = as_rows(rows)
        self._recipe = recipe
        self._seed = seed
        self._cache = cache
        self.computes = cache is None or recipe.augment is not None
        self._targets = targets_of(rows, labels, subjects)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, keys: Keys) -> Batch:
        """Return uint8 views B x S x S x 3 with their labels."""
        size = self._recipe.preprocessing.size
        inputs = np.empty((len(keys.rows), size, size, 3), np.uint8)
        for i, (position, index) in enumerate(zip(keys.positions.tolist(), keys.rows.tolist(), strict=True)):
            inputs[i] = self._view(index, "augment", keys.epoch, position).pixels
        generator, subject = torch.from_numpy(self._targets[keys.rows].T.copy())
        return Batch(torch.from_numpy(inputs), generator, subject, torch.zeros_like(generator), keys.elsewhere)

    def samples(self, draws: int, chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield `draws` training views of every image, in chunks: uint8 views N x S x S x 3 and flags N.

        A flag says whether the view has been compressed: 1 yes, 0 no, -1 unknown. A view of a photograph that was not
        compressed here counts as unknown, because most photographs were compressed before.
        """
        keys = [(draw, index) for index in range(len(self)) for draw in range(draws)]
        for start in range(0, len(keys), chunk):
            part = keys[start : start + chunk]
            drawn = [self._view(index, "sample", index, draw) for draw, index in part]
            flags = [
                int(view.compressed) if view.compressed or self.rows[index].generator != REAL else -1
                for view, (_, index) in zip(drawn, part, strict=True)
            ]
            yield torch.from_numpy(np.stack([view.pixels for view in drawn])), torch.tensor(flags)

    def grid_views(self, index: int) -> npt.NDArray[np.uint8]:
        """Return the views V x S x S x 3 of a row, as a scan would judge them."""
        recipe = self._recipe
        if recipe.augment is None and recipe.preprocessing.mode == "whole":
            return self._pixels(index)[None].copy()
        # Without augmentation, only the first of several views is cached
        pixels = read_pixels(self.rows[index]) if recipe.augment is None else self._pixels(index)
        return views(pixels, recipe.preprocessing)

    def target(self, index: int) -> tuple[int, int]:
        """Return a row's generator and subject indices."""
        generator, subject = self._targets[index].tolist()
        return generator, subject

    def _view(self, index: int, purpose: str, *parts: int) -> Augmented:
        """Return a training view; `purpose` and `parts` seed its augmentation."""
        pixels = self._pixels(index)
        if self._recipe.augment is None:
            return Augmented(pixels, False)
        rng = generator_for(purpose, self._seed, *parts)
        return self._recipe.augment(pixels, self._recipe.preprocessing.size, rng)

    def _pixels(self, index: int) -> Pixels:
        return _decode_row(self.rows, self._recipe, index) if self._cache is None else self._cache[index]


class FeatureDataset(Examples):
    """Features of a frozen encoder, computed once."""

    in_memory = True

    def __init__(self, features: Tensor, targets: Sequence[tuple[int, int]]) -> None:
        self._features = features
        self._targets = torch.tensor(targets)

    def batch(self, keys: Keys) -> Batch:
        """Return float32 features B x F with their labels."""
        rows = torch.from_numpy(keys.rows)
        generator, subject = self._targets[rows].T.contiguous()
        return Batch(self._features[rows], generator, subject, torch.zeros_like(generator), keys.elsewhere)


def targets_of(rows: Sequence[Row], labels: Sequence[str], subjects: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the generator and subject indices of rows, N x 2."""
    generator, subject = ({name: i for i, name in enumerate(names)} for names in (labels, subjects))
    packed = as_rows(rows)
    columns = (
        [generator[name] for name in packed.column("generator")],
        [subject[name] for name in packed.column("subject")],
    )
    return np.array(columns, np.int64).T


def cached(rows: Sequence[Row], recipe: Recipe, output: Path) -> ViewCache:
    """Return what training with a recipe reads of each row's image, decoded once and kept below `output`.

    That is the first view where the recipe does not augment, and otherwise all pixels. The rows need hashes. Raises
    DataError for an image that cannot be read or has changed, TrainingError if the disk is full.
    """
    preprocessing = asdict(recipe.preprocessing) if recipe.augment is None else {}
    versions = {name: _version(name) for name in _DECODERS}
    description = {"version": VERSION, "genforensic": __version__, **versions, **preprocessing}
    stamp = hashlib.sha256(repr(sorted(description.items())).encode()).hexdigest()
    kind = "pixels" if recipe.augment is not None else f"{recipe.preprocessing.mode}-{recipe.preprocessing.size}"
    folder = output / "views" / f"{kind}-{stamp[:12]}"
    return open_cache(folder, stamp, as_rows(rows).digests, partial(_decode_row, rows, recipe))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _decode_row(rows: Sequence[Row], recipe: Recipe, index: int) -> Pixels:
    pixels = read_pixels(rows[index])
    return pixels if recipe.augment is not None else views(pixels, recipe.preprocessing)[0]


def read_pixels(row: Row) -> Pixels:
    """Return the pixels of one labelled image. Raises DataError, also if the row has a hash and the file another."""
    return read_labelled(row.path, row.sha256).pixels


def read_labelled(path: Path, sha256: str = "") -> Decoded:
    """Decode one labelled image. Raises DataError if that fails: training must not skip an image silently.

    `sha256`: what the file's hash must be; empty: anything.
    """
    data = read_file(path)
    if sha256 and not isinstance(data, Unreadable) and hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{path}: has changed since its hash was computed; run again when nothing writes to it")
    decoded = data if isinstance(data, Unreadable) else decode(data)
    if isinstance(decoded, Unreadable):
        raise DataError(f"{path}: {decoded.reason}; repair or remove it")
    return decoded
