"""The variational autoencoder of LSGM: residual cells of NVAE at one latent scale.

Source: Vahdat and Kautz 2020, "NVAE: A Deep Hierarchical Variational Autoencoder".
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.base import TrainingScenes
from forensic_benchmark.generators.latent_space import divergence, split_gaussian
from forensic_train.techniques.base import Stepper

_BATCH = 16
_LR = 3e-3
_KL_WEIGHT = 1e-4
"""Of the mean KL divergence a latent number beside the mean absolute error a pixel."""
_KL_WARM_UP = 0.3
"""Share of the updates in which the KL weight rises from nothing."""
_EXPANSION = 3


Upsampling = Literal["bilinear", "nearest"]
"""Of the shortcuts; NVAE's is bilinear."""


class UpSkip(nn.Module):
    """The shortcut of an up-sampling cell: x 2, bilinear with corners aligned or nearest, then a 1 x 1 convolution."""

    def __init__(self, before: int, after: int, upsampling: Upsampling) -> None:
        super().__init__()
        self.mix = nn.Conv2d(before, after, 1)
        self.up = nn.Upsample(scale_factor=2, mode=upsampling, align_corners=True if upsampling == "bilinear" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Return N x `after` x 2 H x 2 W."""
        mixed: Tensor = self.mix(self.up(x))
        return mixed


class SqueezeExcite(nn.Module):
    """Scales channels by gates that read their means. Source: Hu et al. 2018."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        few = max(channels // 8, 4)
        self.gates = nn.Sequential(nn.Linear(channels, few), nn.ReLU(), nn.Linear(few, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return N x C x H x W."""
        gated: Tensor = x * self.gates(x.mean((2, 3)))[:, :, None, None]
        return gated


class Cell(nn.Module):
    """NVAE's generative cell: wide depthwise 5 x 5 convolution between two 1 x 1, beside a shortcut."""

    def __init__(self, before: int, after: int, up: Upsampling | None = None) -> None:
        super().__init__()
        wide = _EXPANSION * after
        self.shortcut = UpSkip(before, after, up) if up else nn.Identity()
        self.body = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="nearest") if up else nn.Identity(),
            *(nn.BatchNorm2d(before), nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU()),
            *(nn.Conv2d(wide, wide, 5, padding=2, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.SiLU()),
            *(nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after), SqueezeExcite(after)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return N x `after` x H x W, twice the size where the cell goes up."""
        added: Tensor = self.shortcut(x) + self.body(x)
        return added


class LatentEncoder(nn.Module):
    """Images N x 3 x H x W -> mean and log deviation of latents, each N x latent x H / 4 x W / 4 for three widths."""

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for before, after in pairwise(widths):
            layers += [_norm_and_convolution(before, before, 1), _norm_and_convolution(before, after, 2)]
        self.body = nn.Sequential(*layers, Cell(widths[-1], widths[-1]), nn.Conv2d(widths[-1], 2 * latent, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two tensors; the deviation is kept within a factor of e^6 of 1."""
        return split_gaussian(self.body(images))


class LatentDecoder(nn.Sequential):
    """Latents N x latent x h x w -> the mean of the images, N x 3 x 4 h x 4 w for three widths."""

    def __init__(self, latent: int, widths: Sequence[int], upsampling: Upsampling = "bilinear") -> None:
        layers: list[nn.Module] = [nn.Conv2d(latent, widths[0], 3, padding=1), Cell(widths[0], widths[0])]
        for before, after in pairwise(widths):
            layers.append(Cell(before, after, upsampling))
        super().__init__(*layers, nn.SiLU(), nn.Conv2d(widths[-1], 3, 3, padding=1))


def vae_updates(
    encoder: LatentEncoder, decoder: LatentDecoder, scenes: TrainingScenes, updates: int, rng: torch.Generator
) -> Iterator[dict[str, float]]:
    """Train by absolute error (a Laplace likelihood) and a KL term that warms up; yields the losses.

    Encoder and decoder end in evaluation mode.
    """
    encoder.train()
    decoder.train()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adamax(parameters, lr=_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates, eta_min=_LR / 50)
    stepper = Stepper(optimiser, schedule, 1.0, parameters)
    for update in range(updates):
        images, _ = scenes.batch(_BATCH, rng)
        mean, log_deviation = encoder(images)
        latents = mean + log_deviation.exp() * torch.randn(mean.shape, generator=rng)
        error = nn.functional.l1_loss(decoder(latents), images)
        kl = divergence(mean, log_deviation)
        loss = error + _KL_WEIGHT * min(1.0, (update + 1) / (_KL_WARM_UP * updates)) * kl
        stepper.step([loss])
        yield {"rebuilt": error.item(), "kl": kl.item()}
    encoder.eval()
    decoder.eval()


def _norm_and_convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(before), nn.SiLU(), nn.Conv2d(before, after, 3, stride=stride, padding=1))
