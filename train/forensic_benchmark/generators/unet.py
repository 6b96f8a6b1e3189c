"""A small U-Net with the operations of guided diffusion, for pixels and for latents."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

_GROUPS = 8
_FREQUENCIES = 16


class UNet(nn.Module):
    """Residual blocks with scale-and-shift conditioning; up and down by 2 happens inside residual blocks.

    Source: Dhariwal and Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (ADM): nearest x2 and average
    pooling within the residual block, AdaGN of time and class, attention at the smallest size.
    """

    def __init__(self, channels: int, widths: Sequence[int], subjects: int) -> None:
        super().__init__()
        wide = 4 * widths[0]
        self.time = nn.Sequential(nn.Linear(2 * _FREQUENCIES, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.subject = nn.Embedding(subjects, wide)
        self.start = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for before, after in pairwise(widths):
            self.down.append(ResidualBlock(before, before, wide))
            self.down.append(ResidualBlock(before, after, wide, "down"))
            self.up.insert(0, ResidualBlock(2 * before, before, wide))
            self.up.insert(0, ResidualBlock(2 * after, before, wide, "up"))
        self.middle = nn.ModuleList([ResidualBlock(widths[-1], widths[-1], wide) for _ in range(2)])
        self.attention = Attention(widths[-1])
        self.end = nn.Sequential(_norm(widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels, 3, padding=1))

    def forward(self, noisy: Tensor, level: Tensor, subjects: Tensor) -> Tensor:
        """Predict from noisy N x C x H x W, noise levels N in [0, 1] and subjects N."""
        condition = self.time(_waves(level)) + self.subject(subjects)
        x = self.start(noisy)
        kept = []
        for block in self.down:
            x = block(x, condition)
            kept.append(x)
        x = self.middle[1](self.attention(self.middle[0](x, condition)), condition)
        for block in self.up:
            x = block(torch.cat([x, kept.pop()], dim=1), condition)
        predicted: Tensor = self.end(x)
        return predicted


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution twice beside a shortcut; the condition scales and shifts the second norm."""

    def __init__(self, before: int, after: int, condition: int = 0, resample: str = "") -> None:
        super().__init__()
        self.resample = resample
        self.first_norm, self.second_norm = _norm(before), _norm(after)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        self.condition = nn.Linear(condition, 2 * after) if condition else None
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return N x `after` x H x W, half or twice the size where the block resamples."""
        h = self.first(resample(nn.functional.silu(self.first_norm(x)), self.resample))
        h = self.second_norm(h)
        if self.condition is not None and condition is not None:
            scale, shift = self.condition(condition)[:, :, None, None].chunk(2, dim=1)
            h = h * (1 + scale) + shift
        added: Tensor = self.shortcut(resample(x, self.resample)) + self.second(nn.functional.silu(h))
        return added


class Attention(nn.Module):
    """Self-attention over positions, added to its input."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.attend = nn.MultiheadAttention(channels, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return N x C x H x W."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        found = self.attend(tokens, tokens, tokens, need_weights=False)[0]
        added: Tensor = x + found.transpose(1, 2).reshape(x.shape)
        return added


def resample(x: Tensor, how: str) -> Tensor:
    """Halve by averaging, double by repeating the nearest pixel, or leave the size."""
    if how == "down":
        return nn.functional.avg_pool2d(x, 2)
    return nn.functional.interpolate(x, scale_factor=2, mode="nearest") if how == "up" else x


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels)


def _waves(level: Tensor) -> Tensor:
    """Return sines and cosines N x 32 of noise levels."""
    octaves = torch.exp(torch.linspace(0, math.log(1000), _FREQUENCIES, device=level.device))
    angles = level[:, None] * octaves
    return torch.cat([angles.sin(), angles.cos()], dim=1)
