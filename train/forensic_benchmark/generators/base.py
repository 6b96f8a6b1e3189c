"""What every miniature generator has: a family, a fixed number of updates, and images of a wanted subject."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

SIZE = 32
"""Side of every scene and every generated image, in pixels."""


@dataclass(frozen=True)
class TrainingScenes:
    """The scenes that one generator is trained on."""

    images: Tensor
    """uint8, N x 3 x SIZE x SIZE."""
    subjects: Tensor
    """int64, N: index into scenes.SUBJECTS."""

    def batch(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` scenes with replacement: float32 in [-1, 1], half of them mirrored; and their subjects."""
        chosen = torch.randint(len(self.images), (count,), generator=rng)
        images = self.images[chosen].float() / 127.5 - 1
        mirrored = torch.rand(count, generator=rng) < 0.5
        images[mirrored] = images[mirrored].flip(3)
        return images, self.subjects[chosen]


class MiniatureGenerator(nn.Module):
    """A small class-conditional generator. Its parameters and buffers are all that sampling needs.

    Nothing is planted: what tells families apart is what their published operations leave in their images.
    """

    family: ClassVar[str]
    """Name of the paper's generator."""
    updates: ClassVar[int]
    """Batches of its training, all stages together."""

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train from the initial weights; yields the losses of each of the `updates` batches.

        All random numbers come from `rng`. What ends in the parameters is what sampling uses (averaged weights).
        """
        raise NotImplementedError

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return float32 images N x 3 x SIZE x SIZE, about [-1, 1], of the wanted subjects N (int64)."""
        raise NotImplementedError

    def diagnostics(self) -> Mapping[str, float]:
        """Return figures of the family itself, such as the share of a codebook that is used."""
        return {}


def to_pixels(images: Tensor) -> Tensor:
    """Round float images N x 3 x H x W in [-1, 1] to uint8 N x H x W x 3; the one way in which all families do it."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
