"""Where in an image the evidence lies: what each patch says alone, or what changes when a part is covered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from forensic_cli.card import Decision, Preprocessing
from forensic_cli.images.views import Views, view_places
from forensic_cli.model import Model, Sample, judge_samples
from forensic_cli.verdict import probabilities

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
    models: Sequence[Model], views: Views, state: str, preprocessing: Preprocessing, height: int, width: int
) -> EvidenceMap:
    """Judge the places of an image of these sides (upright, in pixels) with the models that see these views of it.

    `state`: the name of the image's. Patches that a model sees as they are answer for themselves. Of a single resized
    view no part can be judged alone, so each part is covered in turn.
    """
    if preprocessing.mode == "patches":
        places = [
            (top / height, left / width, bottom / height, right / width)
            for top, left, bottom, right in view_places(height, width, preprocessing)
        ]
        return _map(PATCHES, places, models, views, [view[None] for view in views], state)
    edges = _edges(preprocessing.size)
    parts = [edge / preprocessing.size for edge in edges]
    squares = [(top, left, bottom, right) for top, bottom in pairwise(parts) for left, right in pairwise(parts)]
    return _map(OCCLUSION, squares, models, views, [view[None] for view in _covered(views[0], edges)], state)


def _map(
    method: str,
    places: Sequence[Place],
    models: Sequence[Model],
    views: Views,
    pieces: Sequence[Views],
    state: str,
) -> EvidenceMap:
    """Judge an image, by its views, and each piece as an image of its own; techniques of one file are run together."""
    samples = [Sample((one,), state) for one in (views, *pieces)]
    values, whole = {}, {}
    for model, found in zip(models, judge_samples(models, [models[0].card.preprocessing], samples), strict=True):
        judged = probabilities(model.card, model.card.decision(state) or Decision(), found.logits)
        whole[model.card.technique] = judged[0]
        values[model.card.technique] = judged[1:] if method == PATCHES else judged[0] - judged[1:]
    return EvidenceMap(method, places, values, whole)


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
