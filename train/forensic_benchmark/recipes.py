"""The benchmark's own recipes: those of the paper and of the residuals at the size of its images."""

from collections.abc import Mapping
from dataclasses import replace

from forensic_cli.card import Preprocessing
from forensic_train.augment import augment_patch
from forensic_train.encoders import SmallResNet
from forensic_train.recipes import PAPER, RESIDUAL, SMALL, Recipe

PAPER_SMALL = replace(
    PAPER,
    name="paper-32",
    preprocessing=Preprocessing("whole", SMALL),
    encoder=SmallResNet,
    settings={"epochs": 5, "batch_size": 16},
)
"""The paper's recipe for the benchmark: whole images of 32 pixels, a ResNet of their size, fewer and larger updates."""

AUGMENTED_SMALL = replace(
    PAPER_SMALL,
    name="augmented-32",
    preprocessing=Preprocessing("patches", SMALL, grid=1),
    augment=augment_patch,
)
"""The paper's network and updates for the benchmark, on the native recipe's augmented views."""

RESIDUAL_SMALL = replace(
    RESIDUAL,
    name="residual-32",
    preprocessing=Preprocessing("patches", SMALL, grid=1),
    settings={**RESIDUAL.settings, "epochs": 8},
)
"""The residual recipe for the benchmark."""

BENCHMARK_RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe for recipe in (PAPER_SMALL, AUGMENTED_SMALL, RESIDUAL_SMALL)
}
"""By name; the fourth recipe that the benchmark trains is `native-32` of forensic_train."""
