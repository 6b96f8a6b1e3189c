"""latent_diffusion in miniature: diffusion in the latents of an autoencoder."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from forensic_benchmark.generators.autoencoder import ImageDecoder, ImageEncoder, autoencoder_updates
from forensic_benchmark.generators.base import MiniatureGenerator, TrainingScenes
from forensic_benchmark.generators.latent_space import LatentSpace, divergence, split_gaussian
from forensic_benchmark.generators.unet import UNet

_LATENT = 4
_ENCODER_WIDTHS = (16, 32, 48)
_DECODER_WIDTHS = (48, 32, 24)
_KL_WEIGHT = 1e-4
_AUTOENCODER_UPDATES = 900
_DIFFUSION_UPDATES = 1400


class LatentDiffusion(MiniatureGenerator):
    """A KL autoencoder (f 4) and a U-Net on its latents. Source: Rombach et al. 2022."""

    family = "latent_diffusion"
    updates = _AUTOENCODER_UPDATES + _DIFFUSION_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        self.decoder = ImageDecoder(_LATENT, _DECODER_WIDTHS)
        self.space = LatentSpace(UNet(_LATENT, (32, 48), subjects), _LATENT)
        # Faster on a CPU; changes no result but for rounding
        self.to(memory_format=torch.channels_last)

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder, then the diffusion of its latents."""
        encoder = ImageEncoder(2 * _LATENT, _ENCODER_WIDTHS).to(memory_format=torch.channels_last)

        def bottleneck(encoded: Tensor) -> tuple[Tensor, Tensor]:
            mean, log_deviation = split_gaussian(encoded)
            kl = divergence(mean, log_deviation)
            noise = torch.randn(mean.shape, generator=rng)
            return mean + log_deviation.exp() * noise, _KL_WEIGHT * kl

        yield from autoencoder_updates(encoder, bottleneck, self.decoder, scenes, _AUTOENCODER_UPDATES, rng)
        yield from self.space.fit(lambda images: split_gaussian(encoder(images)), scenes, _DIFFUSION_UPDATES, rng)

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        images: Tensor = self.decoder(self.space.draw(subjects, rng))
        return images
