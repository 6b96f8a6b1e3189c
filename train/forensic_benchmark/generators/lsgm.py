"""lsgm in miniature: a variational autoencoder of NVAE's cells, and diffusion of its latents."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from forensic_benchmark.generators.base import MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.latent_space import LatentSpace
from forensic_benchmark.generators.nvae import LatentDecoder, LatentEncoder, Upsampling, vae_updates
from forensic_benchmark.generators.unet import UNet

_AUTOENCODER_UPDATES = 1100
_DIFFUSION_UPDATES = 1400
_LATENT = 8
_WIDTHS = (24, 40, 64)
_SCORE_WIDTHS = (32, 48)


class Lsgm(MiniatureGenerator):
    """Draws latents 8 x 8 by the probability-flow equation of a diffusion; the likelihood's mean is the image.

    Source: Vahdat et al. 2021, "Score-based Generative Modeling in Latent Space"; in two stages, at one scale.
    """

    family = "lsgm"
    updates = _AUTOENCODER_UPDATES + _DIFFUSION_UPDATES

    def __init__(self, subjects: int = 8, upsampling: Upsampling = "bilinear") -> None:
        super().__init__()
        self.decoder = LatentDecoder(_LATENT, _WIDTHS[::-1], upsampling)
        self.space = LatentSpace(UNet(_LATENT, _SCORE_WIDTHS, subjects), _LATENT)
        # About a third faster on a CPU; changes no result but for rounding
        self.to(memory_format=torch.channels_last)
        self.eval()

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder, then the diffusion of its latents."""
        encoder = LatentEncoder(_LATENT, _WIDTHS).to(memory_format=torch.channels_last)
        yield from vae_updates(encoder, self.decoder, scenes, _AUTOENCODER_UPDATES, rng)
        yield from self.space.fit(encoder, scenes, _DIFFUSION_UPDATES, rng)

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        images: Tensor = self.decoder(self.space.draw(subjects, rng))
        return images
