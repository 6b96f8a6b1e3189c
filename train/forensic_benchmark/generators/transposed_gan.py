"""A miniature DCGAN: transposed convolutions and batch norm, the generator that is held out as unknown."""

import itertools
from collections.abc import Iterator, Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.adversarial import AdversarialGenerator, AdversarialSettings
from forensic_benchmark.generators.base import TrainingScenes

_LATENT = 48
_EMBEDDING = 16
_SETTLING_BATCHES = 50


class TransposedGan(AdversarialGenerator):
    """DCGAN at 32 x 32, its input noise beside an embedding of the subject.

    Source: Radford et al. 2016, "Unsupervised Representation Learning with Deep Convolutional GANs".
    """

    family: ClassVar[str] = "transposed_gan"
    updates: ClassVar[int] = 2500
    settings = AdversarialSettings(generator_rate=1e-4)

    def __init__(self, subjects: int = 8, widths: tuple[int, ...] = (128, 64, 32)) -> None:
        super().__init__()
        self.embedding = nn.Embedding(subjects, _EMBEDDING)
        layers: list[nn.Module] = [nn.ConvTranspose2d(_LATENT + _EMBEDDING, widths[0], 4, bias=False)]
        for before, after in itertools.pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh()]
        self.body = nn.Sequential(*layers)
        self._initialise()

    def generate(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE in [-1, 1] of the wanted subjects N, with gradients."""
        z = torch.randn(len(subjects), _LATENT, generator=rng)
        images: Tensor = self.body(torch.cat([z, self.embedding(subjects)], dim=1)[:, :, None, None])
        return images

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train for `updates` batches, then load the averaged weights and measure batch norm's statistics for them."""
        yield from super().fit(scenes, rng)
        self._settle(scenes.subjects, rng)

    def _initialise(self) -> None:
        for module in self.body:
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    @torch.no_grad()
    def _settle(self, subjects: Tensor, rng: torch.Generator) -> None:
        # Averaged weights have other statistics than any weights that were trained
        norms = [module for module in self.body if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        self.train()
        for _ in range(_SETTLING_BATCHES):
            chosen = torch.randint(len(subjects), (64,), generator=rng)
            self.generate(subjects[chosen], rng)
        self.eval()
