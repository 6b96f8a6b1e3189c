"""lsgm in miniature: a variational autoencoder of NVAE's cells, and diffusion of its latents."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from forensic_train.benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_train.benchmark.generators.diffusion import ddim, diffusion_updates
from forensic_train.benchmark.generators.nvae import LatentDecoder, LatentEncoder, vae_updates
from forensic_train.benchmark.generators.unet import UNet

_AUTOENCODER_UPDATES = 1400
_DIFFUSION_UPDATES = 2000
_LATENT = 8
_WIDTHS = (16, 40, 64)
_SCORE_WIDTHS = (32, 48)
_BATCH = 32
_LR = 2e-3
_LIMIT = 4.0


class Lsgm(MiniatureGenerator):
    """Draws latents 8 x 8 by the probability-flow equation of a diffusion; the likelihood's mean is the image.

    Source: Vahdat et al. 2021, "Score-based Generative Modeling in Latent Space"; in two stages, at one scale.
    """

    family = "lsgm"
    updates = _AUTOENCODER_UPDATES + _DIFFUSION_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        self.decoder = LatentDecoder(_LATENT, _WIDTHS[::-1])
        self.score = UNet(_LATENT, _SCORE_WIDTHS, subjects)
        self.register_buffer("centre", torch.zeros(_LATENT, 1, 1))
        self.register_buffer("spread", torch.ones(_LATENT, 1, 1))
        self.centre: Tensor
        self.spread: Tensor
        # About a third faster on a CPU; changes no result but for rounding
        self.to(memory_format=torch.channels_last)
        self.eval()

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder, then the diffusion of its latents, scaled to mean 0 and variance 1."""
        encoder = LatentEncoder(_LATENT, _WIDTHS).to(memory_format=torch.channels_last)
        yield from vae_updates(encoder, self.decoder, scenes, _AUTOENCODER_UPDATES, rng)
        means, deviations = _encoded(encoder, scenes)
        self.centre.copy_(means.mean((0, 2, 3))[:, None, None])
        self.spread.copy_((means.var((0, 2, 3)) + deviations.square().mean((0, 2, 3))).sqrt()[:, None, None])
        subjects = scenes.subjects.repeat(2)

        def draw_latents() -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(means), (_BATCH,), generator=rng)
            noise = torch.randn((_BATCH, *means.shape[1:]), generator=rng)
            latents = means[chosen] + deviations[chosen] * noise
            return (latents - self.centre) / self.spread, subjects[chosen]

        yield from diffusion_updates(self.score, draw_latents, _DIFFUSION_UPDATES, _LR, rng)

    @torch.no_grad()
    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        latents = ddim(self.score, subjects, (_LATENT, SIZE // 4, SIZE // 4), _LIMIT, rng)
        images: Tensor = self.decoder(latents * self.spread + self.centre)
        return images


@torch.no_grad()
def _encoded(encoder: LatentEncoder, scenes: TrainingScenes) -> tuple[Tensor, Tensor]:
    """Return means and deviations of the latents of all scenes and of their mirror images."""
    both = [scenes.images, scenes.images.flip(3)]
    parts = [encoder(part.float() / 127.5 - 1) for images in both for part in torch.split(images, 4 * _BATCH)]
    means, log_deviations = (torch.cat(part) for part in zip(*parts, strict=True))
    return means, log_deviations.exp()
