"""Where in an image the evidence lies: what each patch says alone, or what changes when a part is covered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import Preprocessing
from forensic_cli.model import Logits, Model, image_logits
from forensic_cli.preprocess import Views, view_places

Values: TypeAlias = npt.NDArray[np.float64]
"""Places x labels of a model."""
Place: TypeAlias = tuple[float, float, float, float]
"""(top, left, bottom, right) in parts of the image's sides, 0 to 1."""

PATCHES = "patches"
"""Method: a value is the probability that a model gives a label when it sees that patch alone."""
OCCLUSION = "occlusion"
"""Method (Zeiler and Fergus 2014): a value says by how much the label's probability falls when that part is grey."""
_GREY = 128
_PARTS = 7
"""Along one side; each is covered in turn."""
_LEAST_PART = 8
"""Pixels of the view along the side of a part."""


@dataclass(frozen=True)
class EvidenceMap:
    """Where several techniques that see the same views find what."""

    method: str
    """PATCHES or OCCLUSION."""
    places: Sequence[Place]
    """One for each row of the values."""
    values: Mapping[str, Values]
    """{technique: values}."""
    whole: Mapping[str, npt.NDArray[np.float64]]
    """{technique: probability of each label for the whole image, computed again}."""


def evidence_map(
    models: Sequence[Model], views: Views, preprocessing: Preprocessing, height: int, width: int
) -> EvidenceMap:
    """Judge the places of an image of these sides (upright, in pixels) with the models that see these views of it.

    Patches that a model sees as they are answer for themselves. Of a single resized view no part can be judged alone,
    so each part is covered in turn.
    """
    if preprocessing.mode == "patches":
        places = [
            (top / height, left / width, bottom / height, right / width)
            for top, left, bottom, right in view_places(height, width, preprocessing)
        ]
        return _map(PATCHES, places, models, views, _alone)
    edges = _edges(preprocessing.size)
    covered = np.concatenate([views, _covered(views[0], edges)])
    parts = [edge / preprocessing.size for edge in edges]
    squares = [(top, left, bottom, right) for top, bottom in pairwise(parts) for left, right in pairwise(parts)]
    return _map(OCCLUSION, squares, models, covered, _fall)


def _map(
    method: str,
    places: Sequence[Place],
    models: Sequence[Model],
    views: Views,
    weigh: Callable[[Model, Logits], tuple[Values, npt.NDArray[np.float64]]],
) -> EvidenceMap:
    # Each view as an image of its own; techniques of one file are run together
    found = image_logits(models, [models[0].card.preprocessing], [[view[None]] for view in views])
    judged = {model.card.technique: weigh(model, logits) for model, logits in zip(models, found, strict=True)}
    return EvidenceMap(
        method,
        places,
        {name: values for name, (values, _) in judged.items()},
        {name: whole for name, (_, whole) in judged.items()},
    )


def _alone(model: Model, logits: Logits) -> tuple[Values, npt.NDArray[np.float64]]:
    return model.probabilities(logits), model.probabilities(logits.mean(axis=0, keepdims=True))[0]


def _fall(model: Model, logits: Logits) -> tuple[Values, npt.NDArray[np.float64]]:
    """Weigh a view against its covered copies behind it."""
    probabilities = model.probabilities(logits)
    return probabilities[0] - probabilities[1:], probabilities[0]


def _edges(size: int) -> list[int]:
    count = max(1, min(_PARTS, size // _LEAST_PART))
    return [round(i * size / count) for i in range(count + 1)]


def _covered(view: npt.NDArray[np.uint8], edges: Sequence[int]) -> Views:
    copies = []
    for top, bottom in pairwise(edges):
        for left, right in pairwise(edges):
            copy = view.copy()
            copy[top:bottom, left:right] = _GREY
            copies.append(copy)
    return np.stack(copies)
