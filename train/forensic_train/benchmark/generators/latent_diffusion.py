"""latent_diffusion in miniature: diffusion in the latents of an autoencoder."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from forensic_train.benchmark.generators.autoencoder import ImageDecoder, ImageEncoder, autoencoder_updates
from forensic_train.benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_train.benchmark.generators.diffusion import ddim, diffusion_updates
from forensic_train.benchmark.generators.unet import UNet

_LATENT = 4
_WIDTHS = (16, 32, 48)
_KL_WEIGHT = 1e-4
_AUTOENCODER_UPDATES = 1500
_DIFFUSION_UPDATES = 1500
_BATCH = 32
_LR = 2e-3
_LIMIT = 4.0


class LatentDiffusion(MiniatureGenerator):
    """A KL autoencoder (f 4) and a U-Net on its latents. Source: Rombach et al. 2022."""

    family = "latent_diffusion"
    updates = _AUTOENCODER_UPDATES + _DIFFUSION_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        self.decoder = ImageDecoder(_LATENT, _WIDTHS[::-1])
        self.network = UNet(_LATENT, (48, 64), subjects)
        self.register_buffer("scale", torch.ones(()))
        self.scale: Tensor

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder, then the diffusion of its latents."""
        encoder = ImageEncoder(2 * _LATENT, _WIDTHS)

        def rebuild(images: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_variance = encoder(images).chunk(2, dim=1)
            log_variance = log_variance.clamp(-20, 10)
            noise = torch.randn(mean.shape, generator=rng)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
            return self.decoder(mean + (0.5 * log_variance).exp() * noise), _KL_WEIGHT * kl

        def draw() -> tuple[Tensor, Tensor]:
            images, subjects = scenes.batch(_BATCH, rng)
            with torch.no_grad():
                return encoder(images).chunk(2, dim=1)[0] * self.scale, subjects

        yield from autoencoder_updates([encoder, self.decoder], rebuild, scenes, _AUTOENCODER_UPDATES, rng)
        self.scale.copy_(1 / torch.cat([draw()[0] for _ in range(8)]).std())
        yield from diffusion_updates(self.network, draw, _DIFFUSION_UPDATES, _LR, rng)

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        latents = ddim(self.network, subjects, (_LATENT, SIZE // 4, SIZE // 4), _LIMIT, rng)
        images: Tensor = self.decoder(latents / self.scale)
        return images
