"""The convolutional autoencoder of latent diffusion and of VQGAN, and the adversarial loss that sharpens it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.base import TrainingScenes
from forensic_benchmark.generators.unet import ResidualBlock
from forensic_train.techniques.base import Stepper

_SHARPENED_FROM = 0.5
"""Share of the updates after which the adversarial loss joins."""
_ADVERSARIAL = 0.05
_BATCH = 16
_LR = 2e-3
_JUDGE_LR = 1e-3


class ImageEncoder(nn.Module):
    """Images -> latents at a quarter of the size; halves with convolutions of stride 2."""

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for before, after in pairwise(widths):
            layers += [ResidualBlock(before, before), nn.Conv2d(before, after, 3, stride=2, padding=1)]
        self.body = nn.Sequential(*layers, ResidualBlock(widths[-1], widths[-1]), nn.Conv2d(widths[-1], latent, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return N x latent x H / 4 x W / 4 for three widths."""
        encoded: Tensor = self.body(images)
        return encoded


class ImageDecoder(nn.Module):
    """Latents -> images; doubles by repeating the nearest pixel and a 3 x 3 convolution after it.

    Source: Esser et al. 2021, "Taming Transformers", and Rombach et al. 2022, whose decoders are the same.
    """

    def __init__(self, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(latent, widths[0], 3, padding=1), ResidualBlock(widths[0], widths[0])]
        for before, after in pairwise(widths):
            layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)]
            layers.append(ResidualBlock(after, after))
        end = [nn.GroupNorm(8, widths[-1]), nn.SiLU(), nn.Conv2d(widths[-1], 3, 3, padding=1)]
        self.body = nn.Sequential(*layers, *end)

    def forward(self, latents: Tensor) -> Tensor:
        """Return N x 3 x 4 h x 4 w for three widths."""
        images: Tensor = self.body(latents)
        return images


class PatchDiscriminator(nn.Sequential):
    """Real or rebuilt, for overlapping patches (Isola et al. 2017)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__(
            *(nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GroupNorm(8, 2 * width), nn.LeakyReLU(0.2)),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )


def autoencoder_updates(
    encoder: nn.Module,
    bottleneck: Callable[[Tensor], tuple[Tensor, Tensor]],
    decoder: nn.Module,
    scenes: TrainingScenes,
    updates: int,
    rng: torch.Generator,
) -> Iterator[dict[str, float]]:
    """Train an autoencoder: absolute error, the bottleneck's own loss, and later a hinge loss against patches.

    `bottleneck` turns what the encoder says into what the decoder gets, and a loss of its own. Yields the losses of
    each of `updates`. Source: Esser et al. 2021, without the perceptual loss, which needs a pretrained network.
    """
    judge = PatchDiscriminator()
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=_LR, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, updates, eta_min=_LR / 20)
    stepper = Stepper(optimiser, schedule, 0.0, parameters)
    judged = list(judge.parameters())
    rival = Stepper(torch.optim.Adam(judged, lr=_JUDGE_LR, betas=(0.5, 0.9)), None, 0.0, judged)
    for update in range(updates):
        images, _ = scenes.batch(_BATCH, rng)
        latents, own = bottleneck(encoder(images))
        rebuilt = decoder(latents)
        error = nn.functional.l1_loss(rebuilt, images)
        loss = error + own
        losses = {"rebuilt": error.item(), "bottleneck": own.item()}
        sharpened = update >= _SHARPENED_FROM * updates
        if sharpened:
            loss = loss - _ADVERSARIAL * judge(rebuilt).mean()
        stepper.step([loss])
        if sharpened:
            losses["discriminator"] = _judge_update(judge, rival, images, rebuilt.detach())
        yield losses


def _judge_update(judge: nn.Module, rival: Stepper, images: Tensor, rebuilt: Tensor) -> float:
    """Take one step of the hinge loss and return it."""
    loss = nn.functional.relu(1 - judge(images)).mean() + nn.functional.relu(1 + judge(rebuilt)).mean()
    rival.step([loss])
    return float(loss.item())
