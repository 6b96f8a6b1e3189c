"""A miniature StyleGAN2: modulated convolutions from a learned constant, up-sampled with a short FIR filter."""

import itertools
import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.adversarial import AdversarialGenerator
from forensic_benchmark.generators.modulated import Mapping, ModulatedConvolution, StyledColours

_LATENT = 64
_TAPS = {"fir": (1.0, 3.0, 3.0, 1.0), "nearest": (1.0, 1.0)}


class Upsampling(nn.Module):
    """Doubling of a grid by zero insertion and a separable FIR filter, each channel alone.

    "fir" is the [1, 3, 3, 1] filter of Karras et al. 2020; "nearest" is [1, 1], which repeats every pixel.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in _TAPS:
            raise ValueError(f"unknown up-sampling {kind!r}: choose one of {', '.join(_TAPS)}")
        taps = torch.tensor(_TAPS[kind])
        # Zero insertion halves the mean along each side
        taps = taps * (2 / taps.sum())
        self.padding = len(taps) // 2 - 1
        self.register_buffer("kernel", taps[:, None] * taps[None, :], persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Up-sample x N x C x H x W to N x C x 2 H x 2 W."""
        return nn.functional.conv_transpose2d(x, self._kernels(x), stride=2, padding=self.padding, groups=x.shape[1])

    def smoothed(self, x: Tensor) -> Tensor:
        """Filter N x C x (2 H + 1) x (2 W + 1), from zero insertion and a 3 x 3 kernel, to N x C x 2 H x 2 W."""
        return nn.functional.conv2d(x, self._kernels(x), padding=self.padding, groups=x.shape[1])

    def _kernels(self, x: Tensor) -> Tensor:
        return self.kernel.expand(x.shape[1], 1, -1, -1)


class StyleGan2(AdversarialGenerator):
    """StyleGAN2 at 32 x 32. Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN".

    `upsampling` is the published "fir" or, to show what one operation does, "nearest".
    """

    family: ClassVar[str] = "stylegan2"
    updates: ClassVar[int] = 2200

    def __init__(
        self, subjects: int = 8, upsampling: str = "fir", widths: tuple[int, ...] = (96, 64, 32, 16), style: int = 64
    ) -> None:
        super().__init__()
        self.mapping = Mapping(subjects, _LATENT, style)
        self.upsampling = Upsampling(upsampling)
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.first = _NoisyLayer(widths[0], widths[0], style)
        self.first_colours = StyledColours(widths[0], style)
        pairs = list(itertools.pairwise(widths))
        self.doubling = nn.ModuleList(_NoisyLayer(before, after, style, stride=2) for before, after in pairs)
        self.refining = nn.ModuleList(_NoisyLayer(after, after, style) for _, after in pairs)
        self.colours = nn.ModuleList(StyledColours(after, style) for _, after in pairs)

    def generate(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE of the wanted subjects N, with gradients."""
        w = self.mapping(torch.randn(len(subjects), _LATENT, generator=rng), subjects)
        x = self.constant.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.first(x, w, rng, self.upsampling)
        image: Tensor = self.first_colours(x, w)
        for doubling, refining, colours in zip(self.doubling, self.refining, self.colours, strict=True):
            x = refining(doubling(x, w, rng, self.upsampling), w, rng, self.upsampling)
            image = self.upsampling(image) + colours(x, w)
        return image


class _NoisyLayer(nn.Module):
    def __init__(self, before: int, after: int, style: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(before, after, 3, style, stride)
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(after, 1, 1))

    def forward(self, x: Tensor, w: Tensor, rng: torch.Generator, upsampling: Upsampling) -> Tensor:
        x = self.convolution(x, w, math.sqrt(2))
        if self.convolution.stride == 2:
            x = upsampling.smoothed(x)
        noise = torch.randn(len(x), 1, *x.shape[2:], generator=rng)
        return nn.functional.leaky_relu(x + (noise * self.strength + self.bias), 0.2)
