"""Procedural scenes that stand for photographs of the paper's subjects: what the miniature generators learn from."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from forensic_benchmark.generators.base import SIZE
from forensic_benchmark.scenes import living, made
from forensic_benchmark.scenes.drawing import Canvas
from forensic_cli.errors import UsageError
from forensic_cli.images.header import Pixels
from forensic_train.seeds import seed_for

SUBJECTS: tuple[str, ...] = ("horse", "face", "animal_face", "bed", "church", "cat", "car", "vehicle")
"""The seven subjects of the training data, and the military vehicles that only a test shows."""

_SKETCHES: Mapping[str, Callable[[Canvas], None]] = {
    "horse": living.horse,
    "face": living.face,
    "animal_face": living.animal_face,
    "bed": made.bed,
    "church": made.church,
    "cat": living.cat,
    "car": made.car,
    "vehicle": made.vehicle,
}


def render(subject: str, seed: int, size: int = SIZE) -> Pixels:
    """Return the scene of a subject with this seed (not negative), uint8 size x size x 3; equal arguments, equal scene.

    Raises UsageError for a subject that is not one of SUBJECTS.
    """
    if subject not in SUBJECTS:
        raise UsageError(f"unknown subject {subject!r}; allowed: {', '.join(SUBJECTS)}")
    canvas = Canvas(size, np.random.default_rng([SUBJECTS.index(subject), seed]))
    _SKETCHES[subject](canvas)
    return canvas.photograph()


def scene_seed(purpose: str, index: int) -> int:
    """Return the 63-bit seed of the index-th scene for a purpose, such as "stylegan2/0"; purposes share no scenes."""
    return seed_for(f"scene/{purpose}", index)


def render_many(subjects: Sequence[int], purpose: str, size: int = SIZE) -> Pixels:
    """Return one scene for each index into SUBJECTS, uint8 N x size x size x 3, seeded by purpose and position."""
    scenes = np.empty((len(subjects), size, size, 3), np.uint8)
    for index, subject in enumerate(subjects):
        scenes[index] = render(SUBJECTS[subject], scene_seed(purpose, index), size)
    return scenes
