"""lsgm in miniature: a variational autoencoder of NVAE cells, and a score model of its latents."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from forensic_train.benchmark.generators.base import SIZE, MiniatureGenerator, TrainingScenes
from forensic_train.benchmark.generators.diffusion import ddim, diffusion_updates
from forensic_train.benchmark.generators.unet import UNet

_LATENT = 8
_WIDTHS = (24, 32, 48)
_KL_WEIGHT = 1e-3
_WARM_UP = 300
_AUTOENCODER_UPDATES = 1200
_SCORE_UPDATES = 1500
_BATCH = 32
_LR = 2e-3
_LIMIT = 4.0
_EXPANSION = 2


class Lsgm(MiniatureGenerator):
    """A variational autoencoder of NVAE cells and diffusion in its latents; the decoder's mean is the image.

    Source: Vahdat, Kreis and Kautz 2021; cells of Vahdat and Kautz 2020 (NVAE). One scale of latents instead of many.
    """

    family = "lsgm"
    updates = _AUTOENCODER_UPDATES + _SCORE_UPDATES

    def __init__(self, subjects: int = 8) -> None:
        super().__init__()
        top = _WIDTHS[::-1]
        self.decoder = nn.Sequential(
            nn.Conv2d(_LATENT, top[0], 1),
            *(Cell(top[0], top[0]), Cell(top[0], top[1], "up")),
            *(Cell(top[1], top[1]), Cell(top[1], top[2], "up")),
            *(Cell(top[2], top[2]), nn.BatchNorm2d(top[2]), nn.SiLU(), nn.Conv2d(top[2], 3, 3, padding=1)),
        )
        self.network = UNet(_LATENT, (48, 64), subjects)
        self.register_buffer("scale", torch.ones(()))
        self.scale: Tensor

    def fit(self, scenes: TrainingScenes, rng: torch.Generator) -> Iterator[Mapping[str, float]]:
        """Train the autoencoder with a growing weight of the divergence, then the score model."""
        encoder = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, padding=1),
            *(Cell(_WIDTHS[0], _WIDTHS[0]), Cell(_WIDTHS[0], _WIDTHS[1], "down")),
            *(Cell(_WIDTHS[1], _WIDTHS[1]), Cell(_WIDTHS[1], _WIDTHS[2], "down")),
            *(Cell(_WIDTHS[2], _WIDTHS[2]), nn.Conv2d(_WIDTHS[2], 2 * _LATENT, 1)),
        )
        self.train()
        yield from self._autoencoder(encoder, scenes, rng)
        self.eval()
        encoder.eval()

        def draw() -> tuple[Tensor, Tensor]:
            images, subjects = scenes.batch(_BATCH, rng)
            with torch.no_grad():
                return encoder(images).chunk(2, dim=1)[0] * self.scale, subjects

        self.scale.copy_(1 / torch.cat([draw()[0] for _ in range(8)]).std())
        yield from diffusion_updates(self.network, draw, _SCORE_UPDATES, _LR, rng)

    def _autoencoder(
        self, encoder: nn.Module, scenes: TrainingScenes, rng: torch.Generator
    ) -> Iterator[Mapping[str, float]]:
        parameters = [*encoder.parameters(), *self.decoder.parameters()]
        optimiser = torch.optim.Adamax(parameters, lr=_LR)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _AUTOENCODER_UPDATES, eta_min=_LR / 20)
        for update in range(_AUTOENCODER_UPDATES):
            images, _ = scenes.batch(_BATCH, rng)
            mean, log_variance = encoder(images).chunk(2, dim=1)
            log_variance = log_variance.clamp(-20, 10)
            noise = torch.randn(mean.shape, generator=rng)
            rebuilt = self.decoder(mean + (0.5 * log_variance).exp() * noise)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
            error = nn.functional.l1_loss(rebuilt, images)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(error + min(1.0, update / _WARM_UP) * _KL_WEIGHT * kl)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            yield {"rebuilt": error.item(), "kl": kl.item()}

    def sample(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE."""
        latents = ddim(self.network, subjects, (_LATENT, SIZE // 4, SIZE // 4), _LIMIT, rng)
        images: Tensor = self.decoder(latents / self.scale)
        return images


class Cell(nn.Module):
    """A generative cell of NVAE: expand, depthwise 5 x 5, squeeze and excite; a bilinear shortcut where it doubles."""

    def __init__(self, before: int, after: int, resample: str = "") -> None:
        super().__init__()
        wide = _EXPANSION * before
        stride = 2 if resample == "down" else 1
        self.up = nn.Upsample(scale_factor=2, mode="nearest") if resample == "up" else nn.Identity()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(before), nn.Conv2d(before, wide, 1), nn.BatchNorm2d(wide), nn.SiLU()),
            nn.Conv2d(wide, wide, 5, stride, padding=2, groups=wide),
            *(nn.BatchNorm2d(wide), nn.SiLU(), nn.Conv2d(wide, after, 1), nn.BatchNorm2d(after)),
            SqueezeExcite(after),
        )
        self.shortcut = _shortcut(before, after, resample)

    def forward(self, x: Tensor) -> Tensor:
        """Return N x `after` x H x W, half or twice the size where the cell resamples."""
        added: Tensor = self.shortcut(x) + 0.1 * self.body(self.up(x))
        return added


class SqueezeExcite(nn.Module):
    """Scales channels by what their means say (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(4, channels // 4)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Return N x C x H x W."""
        scaled: Tensor = x * self.gate(x.mean(dim=(2, 3)))[:, :, None, None]
        return scaled


def _shortcut(before: int, after: int, resample: str) -> nn.Module:
    if resample == "up":
        up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        return nn.Sequential(up, nn.Conv2d(before, after, 1))
    if resample == "down":
        return nn.Conv2d(before, after, 2, stride=2)
    return nn.Identity()
