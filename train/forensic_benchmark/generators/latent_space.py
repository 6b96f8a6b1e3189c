"""Diffusion in the latents of an autoencoder, as latent_diffusion and lsgm share it."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.base import SIZE, TrainingScenes
from forensic_benchmark.generators.diffusion import ddim, diffusion_updates

LATENT_SIZE = SIZE // 4
"""Side of the latents."""
_BATCH = 32
_ENCODED_AT_ONCE = 128
_LR = 2e-3
_LIMIT = 4.0

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""images N x 3 x SIZE x SIZE -> mean and log deviation of latents, N x C x LATENT_SIZE x LATENT_SIZE."""


class LatentSpace(nn.Module):
    """A network that removes noise from latents, and the scale at which it sees them: mean 0, variance 1."""

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("centre", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))
        self.centre: Tensor
        self.spread: Tensor

    def fit(
        self, encode: Encode, scenes: TrainingScenes, updates: int, rng: torch.Generator
    ) -> Iterator[dict[str, float]]:
        """Measure the scale, then train the network on latents of the scenes and of their mirror images."""
        means, deviations = _encoded(encode, scenes)
        self.centre.copy_(means.mean((0, 2, 3))[:, None, None])
        self.spread.copy_((means.var((0, 2, 3)) + deviations.square().mean((0, 2, 3))).sqrt()[:, None, None])
        subjects = scenes.subjects.repeat(2)

        def draw() -> tuple[Tensor, Tensor]:
            chosen = torch.randint(len(means), (_BATCH,), generator=rng)
            noise = torch.randn((_BATCH, *means.shape[1:]), generator=rng)
            latents = means[chosen] + deviations[chosen] * noise
            return (latents - self.centre) / self.spread, subjects[chosen]

        yield from diffusion_updates(self.network, draw, updates, _LR, rng)

    def draw(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return latents N x C x LATENT_SIZE x LATENT_SIZE for a decoder."""
        latents = ddim(self.network, subjects, (len(self.centre), LATENT_SIZE, LATENT_SIZE), _LIMIT, rng)
        return latents * self.spread + self.centre


def split_gaussian(encoded: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and log deviation of N x 2 C x h x w, the latter kept within a factor of e^6 of 1."""
    mean, log_deviation = encoded.chunk(2, dim=1)
    return mean, log_deviation.clamp(-6, 6)


def divergence(mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Return the mean KL divergence of a latent number from a standard normal."""
    return (0.5 * (mean.square() + (2 * log_deviation).exp() - 1) - log_deviation).mean()


@torch.no_grad()
def _encoded(encode: Encode, scenes: TrainingScenes) -> tuple[Tensor, Tensor]:
    """Return means and deviations of the latents of all scenes and of their mirror images."""
    both = [scenes.images, scenes.images.flip(3)]
    parts = [encode(part.float() / 127.5 - 1) for images in both for part in torch.split(images, _ENCODED_AT_ONCE)]
    means, log_deviations = (torch.cat(part) for part in zip(*parts, strict=True))
    return means, log_deviations.exp()
