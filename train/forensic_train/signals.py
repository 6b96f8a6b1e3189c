"""Signals: what the fixed part of an encoder measures in images of every state, kept on disk for all techniques.

An image is measured as published and in the states in which images reach an analyst: compressed, resized, saved again.
So "JPEG" cannot become the mark of a generator, and a technique learns from numbers instead of pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from forensic_cli.card import Preprocessing
from forensic_cli.console import track
from forensic_cli.images.header import Header, Pixels, jpeg_state, state_of
from forensic_cli.images.history import jpeg, webp
from forensic_cli.images.views import views
from forensic_cli.pipeline import default_workers, ordered_map
from forensic_train.dataset import read_labelled
from forensic_train.loader import Batch, Examples, Keys
from forensic_train.network import Encoder, as_images
from forensic_train.rows import Row, as_rows
from forensic_train.run import atomic
from forensic_train.seeds import generator_for, seed_for

Rng: TypeAlias = np.random.Generator
Drawn: TypeAlias = tuple[Pixels, str]
"""Pixels and the name of their state."""

_LARGEST = 1024
"""Greatest side of the part that is re-encoded, in pixels; more of a photograph adds nothing."""
_LEAST = 64
"""Smallest side after resizing, in pixels."""
_CAMERA = 1600
"""Pixels; images with a longer side are mostly published smaller, so half of them are shrunk to ..."""
_SITE = (800, 1600)
"""... a longest side in this range."""
_FULL_COLOUR = 0.35
"""Share of JPEGs without chroma subsampling (4:4:4)."""
_BLOCK = 8
_PART = 256
"""Side of the small part that is cut out, in pixels."""
VERSION = 3
"""Increases when the measurement changes, so that old signals are not mistaken for new ones."""


def _compressed(pixels: Pixels, rng: Rng, least: int, most: int) -> Drawn:
    quality = int(rng.integers(least, most + 1))
    return jpeg(pixels, quality, full_colour=rng.random() < _FULL_COLOUR), jpeg_state(quality)


def _webp(pixels: Pixels, rng: Rng) -> Drawn:
    return webp(pixels, int(rng.integers(65, 93))), "webp"


def _resized(pixels: Pixels, rng: Rng) -> Drawn:
    """Resize by a factor of .5 to 1.5 with one of the filters that programs use."""
    factor, method = float(np.exp(rng.uniform(np.log(0.5), np.log(1.5)))), int(rng.integers(4))
    height, width = (max(_LEAST, round(side * factor)) for side in pixels.shape[:2])
    if method < 2:
        how = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[method]
        return np.asarray(Image.fromarray(pixels).resize((width, height), how), np.uint8), "lossless"
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, (width, height), interpolation=smooth if method == 2 else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8), "lossless"


def _resized_jpeg(pixels: Pixels, rng: Rng) -> Drawn:
    return _compressed(_resized(pixels, rng)[0], rng, 60, 96)


def _saved_again(pixels: Pixels, rng: Rng) -> Drawn:
    """Compress, cut anywhere and save losslessly, as a screenshot or an image editor does."""
    return _cut_anywhere(_compressed(pixels, rng, 70, 96)[0], rng), "lossless"


def _cut(pixels: Pixels, rng: Rng) -> Drawn:
    """Cut out a small part along the JPEG grid, such as a detail, and save it in one of the ways above."""
    top, left = (int(rng.integers(max(0, side - _PART) // _BLOCK + 1)) * _BLOCK for side in pixels.shape[:2])
    part, way = np.ascontiguousarray(pixels[top : top + _PART, left : left + _PART]), rng.random()
    if way < 0.25:
        return part, "lossless"
    return _webp(part, rng) if way < 0.4 else _compressed(part, rng, 60, 98)


DRAWS: Mapping[str, Callable[[Pixels, Rng], Drawn]] = {
    "jpeg-93": partial(_compressed, least=93, most=98),
    "jpeg-80": partial(_compressed, least=80, most=92),
    "jpeg-60": partial(_compressed, least=60, most=79),
    "webp": _webp,
    "resized": _resized,
    "resized, jpeg": _resized_jpeg,
    "saved again": _saved_again,
    "cut": _cut,
}
"""Every changed form in which an image is measured, by its name; ORIGINAL comes first."""
ORIGINAL = "as it is"
FORMS = (ORIGINAL, *DRAWS)


def draw_forms(pixels: Pixels, header: Header, key: str) -> list[Drawn]:
    """Return an image in each of FORMS; random numbers depend only on `key`, the hash of its file."""
    forms: list[Drawn] = [(pixels, state_of(header).name)]
    for k, draw in enumerate(DRAWS.values()):
        rng = generator_for("form", int(key[:12], 16), k)
        middle = _middle(_shrunk_for_a_site(pixels, rng))
        # Half of the JPEGs get a shifted block grid, as after cropping in an editor
        moved = header.compression == "jpeg" and rng.random() < 0.5
        forms.append(draw(_cut_anywhere(middle, rng) if moved else middle, rng))
    return forms


def _shrunk_for_a_site(pixels: Pixels, rng: Rng) -> Pixels:
    """Shrink half of the images of camera size to a size that websites use; others stay the same."""
    longest = max(pixels.shape[:2])
    if longest <= _CAMERA or rng.random() < 0.5:
        return pixels
    factor, method = rng.uniform(*_SITE) / longest, int(rng.integers(3))
    height, width = (max(_LEAST, round(side * factor)) for side in pixels.shape[:2])
    if method == 0:
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    how = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)[method - 1]
    return np.asarray(Image.fromarray(pixels).resize((width, height), how, reducing_gap=2.0), np.uint8)


def _middle(pixels: Pixels) -> Pixels:
    """Cut out the middle, at most _LARGEST pixels along a side, on the JPEG grid."""
    top, left = (max(0, (side - _LARGEST) // 2) // _BLOCK * _BLOCK for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _LARGEST, left : left + _LARGEST])


def _cut_anywhere(pixels: Pixels, rng: Rng) -> Pixels:
    """Cut off up to 7 rows and columns if the image is large enough, to shift the block grid."""
    if min(pixels.shape[:2]) < 2 * _LEAST + _BLOCK:
        return pixels
    return np.ascontiguousarray(pixels[int(rng.integers(_BLOCK)) :, int(rng.integers(_BLOCK)) :])


@dataclass(frozen=True)
class Signals:
    """Signals of B images in each of D forms."""

    values: npt.NDArray[np.float16]
    """B x D x F."""
    states: npt.NDArray[np.str_]
    """B x D: name of the state of each form."""


def measure_signals(
    rows: Sequence[Row], encoder: Encoder, preprocessing: Preprocessing, folder: Path, workers: int = 0
) -> Signals:
    """Return the signals of labelled images; missing ones are measured and stored in `folder`, one file per image.

    The rows need hashes. An interrupted run continues where it stopped. Raises DataError for an unreadable image.
    """
    torch.set_num_threads(1)  # each worker has a core of its own
    encoder = encoder.cpu().eval()

    def measure(row: Row) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.str_]]:
        return _measured(row, encoder, preprocessing, folder / row.sha256[:2] / f"{row.sha256}.npz")

    results = ordered_map(measure, rows, workers or default_workers(), 64)
    measured = list(track(results, "measuring images in every state", len(rows)))
    return Signals(np.stack([values for values, _ in measured]), np.stack([states for _, states in measured]))


def signals_folder(output: Path, recipe: str) -> Path:
    """Return the subfolder for the signals of a recipe."""
    return output / "signals" / f"{recipe}-{VERSION}"


def _measured(
    row: Row, encoder: Encoder, preprocessing: Preprocessing, path: Path
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.str_]]:
    if path.exists():
        try:
            with path.open("rb") as file, np.load(file) as stored:
                return stored["values"], stored["states"]
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            BadZipFile,
        ):  # an incomplete file, even after a power cut: measure again
            pass
    values, states = measure_image(row.path, row.sha256, encoder, preprocessing)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=values, states=states)
    return values, states


def measure_image(
    path: Path, key: str, encoder: Encoder, preprocessing: Preprocessing
) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.str_]]:
    """Return the signals D x F of one image in each of FORMS, and the names of their states. Raises DataError."""
    decoded = read_labelled(path)
    forms = draw_forms(decoded.pixels, decoded.header, key)
    with torch.inference_mode():
        signals = [_pooled(encoder, views(pixels, preprocessing)) for pixels, _ in forms]
    return torch.stack(signals).numpy().astype(np.float16), np.array([state for _, state in forms])


def _pooled(encoder: Encoder, patches: npt.NDArray[np.uint8]) -> Tensor:
    # One view at a time, because several do not fit into the cache of a core
    measured = [encoder.signal(as_images(torch.from_numpy(view[None])))[0] for view in patches]
    return encoder.finish(torch.stack(measured).mean(dim=0, keepdim=True))[0]


class SignalDataset(Examples):
    """Examples of one signal each, in a form that is drawn again in every epoch."""

    in_memory = True

    def __init__(
        self,
        rows: Sequence[Row],
        signals: Signals,
        targets: npt.ArrayLike,
        states: Sequence[str],
        seed: int,
    ) -> None:
        self.rows = as_rows(rows)
        self._values = signals.values
        known = np.isin(signals.states, states)
        self._forms = [np.flatnonzero(row) for row in known]
        self._states = np.array(
            [[states.index(name) if name in states else 0 for name in row] for row in signals.states]
        )
        self._targets = np.array(targets, np.int64).reshape(-1, 2)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._targets)

    def flat(self, weights: npt.NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
        """Return every signal M x F in a known state, the index of that state M, and the weight of its image M."""
        image = np.repeat(np.arange(len(self)), [len(forms) for forms in self._forms])
        form = np.concatenate(self._forms)
        values = torch.from_numpy(self._values[image, form].astype(np.float32))
        states = torch.from_numpy(self._states[image, form].astype(np.int64))
        return values, states, torch.from_numpy(weights[image].astype(np.float32))

    def batch(self, keys: Keys) -> Batch:
        """Return float32 signals B x F with their labels and states."""
        drawn = zip(keys.positions.tolist(), keys.rows.tolist(), strict=True)
        forms = np.array([self._form(keys.epoch, position, index) for position, index in drawn])
        generator, subject = torch.from_numpy(self._targets[keys.rows].T.copy())
        return Batch(
            torch.from_numpy(self._values[keys.rows, forms].astype(np.float32)),
            generator,
            subject,
            torch.from_numpy(self._states[keys.rows, forms].astype(np.int64)),
            keys.elsewhere,
        )

    def _form(self, epoch: int, position: int, index: int) -> int:
        forms = self._forms[index]
        return int(forms[seed_for("form", self._seed, epoch, position) % len(forms)])
