"""guided_diffusion in miniature: a U-Net that removes noise from pixels, step by step."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from forensic_benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.diffusion import ddim, diffusion_updates
from forensic_benchmark.generators.unet import UNet

_BATCH = 16
_LR = 2e-3


class GuidedDiffusion(MiniatureGenerator):
    """Pixel-space diffusion. Source: Dhariwal and Nichol 2021."""

    family = "guided_diffusion"
    updates = 1200

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        # Faster on a CPU; changes no result but for rounding
        self.network = UNet(3, (16, 32, 48, 64), subjects).to(memory_format=torch.channels_last)

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train on noisy pixels."""
        yield from diffusion_updates(self.network, lambda: scenes.batch(_BATCH, rng), self.updates, _LR, rng)

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        return ddim(self.network, subjects, (3, SIZE, SIZE), 1.0, rng)
