"""Recipes: network, views, augmentation and optimizer defaults. A new recipe is one more entry in RECIPES."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from forensic_cli.card import Preprocessing
from forensic_cli.errors import UsageError
from forensic_cli.images.header import Pixels
from forensic_train.augment import Augmented, augment_patch, augment_whole
from forensic_train.encoders import ResidualEncoder, ResNet50, SpectralEncoder, StateEncoder
from forensic_train.network import Encoder


@dataclass(frozen=True)
class Recipe:
    """What is trained, independent of the technique."""

    name: str
    """Name on the command line and in model cards."""
    preprocessing: Preprocessing
    """How an image becomes views, in every scan and in training without augmentation."""
    encoder: Callable[[], Encoder]
    """Makes an encoder with fresh weights."""
    samples: int = 0
    """Views of every training image that the fixed part of the encoder is fitted to before training."""
    augment: Callable[[Pixels, int, np.random.Generator], Augmented] | None = None
    """pixels, view size, random numbers -> one training view; None: the view of the whole image, unchanged."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of the settings of techniques that train the encoder."""


PAPER = Recipe("paper", Preprocessing("whole", 224), ResNet50)
"""PAPER to the letter."""
PAPER_AUGMENTED = replace(PAPER, name="paper-augmented", augment=augment_whole)
"""Not of PAPER: its network, trained on random crops that are mirrored and compressed at random."""

NATIVE = Recipe(
    "native",
    Preprocessing("patches", 128, grid=3, align=32),
    StateEncoder,
    settings={
        "epochs": 120,
        "batch_size": 128,
        "lr": 2e-3,
        "weight_decay": 0.1,
        "label_smoothing": 0.05,
        "schedule": "onecycle",
        "clip_norm": 2.0,
        "source_balance": 0.5,
    },
)
"""Patches at native resolution, measured in every state that an image may be in; their mean is judged by state."""

RESIDUAL = Recipe(
    "residual",
    Preprocessing("patches", 128, grid=3),
    ResidualEncoder,
    0,
    augment_patch,
    {
        "epochs": 30,
        "batch_size": 32,
        "lr": 3e-3,
        "weight_decay": 0.05,
        "label_smoothing": 0.05,
        "schedule": "onecycle",
        "clip_norm": 2.0,
    },
)
"""Patches at native resolution and a shallow convolutional network on high-pass residuals."""

SMALL = 32
"""Side of the images of the tutorial and of the benchmark, in pixels."""

NATIVE_SMALL = Recipe(
    "native-32",
    Preprocessing("patches", SMALL, grid=1),
    SpectralEncoder,
    4,
    augment_patch,
    settings={**NATIVE.settings, "epochs": 6, "batch_size": 64, "weight_decay": 0.05, "source_balance": 0.0},
)
"""Log spectra of images of 32 pixels, which have room for one window only."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (NATIVE, RESIDUAL, PAPER, PAPER_AUGMENTED, NATIVE_SMALL)
}
"""Every recipe by its name; a run of the benchmark adds its own."""


def find_recipe(name: str) -> Recipe:
    """Return a recipe. Raises UsageError with the allowed names."""
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is not known; allowed: {', '.join(RECIPES)}")
    return RECIPES[name]
