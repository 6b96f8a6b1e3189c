"""A miniature StyleGAN3: Fourier features, modulated convolutions, and nonlinearities between low-pass filters."""

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from forensic_benchmark.generators.adversarial import AdversarialGenerator
from forensic_benchmark.generators.base import SIZE
from forensic_benchmark.generators.modulated import Mapping, ModulatedConvolution, ScaledLinear, StyledColours

_LATENT = 64
_TAPS = 6
_MARGIN = 1
_FIRST_CUTOFF = 2.0
_HEADROOM = 1.14


@dataclass(frozen=True)
class Band:
    """What a feature map may contain; frequencies in cycles per image."""

    cutoff: float
    """Where the low-pass filter lets half of the amplitude through."""
    stop: float
    """From where on the filter lets little through."""

    @property
    def rate(self) -> int:
        """Samples per image side: the power of two that holds `stop`, at most SIZE."""
        return int(2 ** math.ceil(math.log2(min(2 * self.stop, SIZE)) - 1e-9))

    @property
    def half_width(self) -> float:
        """Half of the transition between what passes and what is stopped."""
        return max(self.stop, self.rate / 2) - self.cutoff


def bands(layers: int) -> list[Band]:
    """Return the bands of the input and of every layer's output; they grow geometrically.

    Source: Karras et al. 2021, section 3.2; with one critically sampled layer and less headroom, for `layers` are few.
    """
    shares = [layer / layers for layer in range(layers + 1)]
    cutoffs = [_FIRST_CUTOFF * (SIZE / 2 / _FIRST_CUTOFF) ** share for share in shares]
    return [Band(cutoff, cutoff * _HEADROOM) for cutoff in cutoffs]


def low_pass(factor: int, rate: int, band: Band) -> Tensor:
    """Return _TAPS * `factor` taps, of sum 1, that low-pass a line of `rate` samples per image side to `band`.

    A sinc under a Kaiser window; `factor` is the ratio of `rate` and the coarser rate beside it. Source: Karras et al.
    2021, appendix C, which takes the window's shape from the width of the transition.
    """
    span = _TAPS * factor / rate
    times = _positions(_TAPS * factor, rate)
    window = torch.special.i0(_kaiser_shape(band, span) * (1 - (2 * times / span).square()).sqrt())
    taps = torch.sinc(2 * band.cutoff * times) * window
    normalised: Tensor = (taps / taps.sum()).float()
    return normalised


def _positions(samples: int, rate: int) -> Tensor:
    return (torch.arange(samples, dtype=torch.float64) + 0.5 - samples / 2) / rate


def _kaiser_shape(band: Band, span: float) -> float:
    attenuation = 2.285 * math.pi * span * 2 * band.half_width + 7.95
    if attenuation > 50:
        return 0.1102 * (attenuation - 8.7)
    over = max(attenuation - 21, 0)
    return float(0.5842 * over**0.4 + 0.07886 * over)


class FilteredNonlinearity(nn.Module):
    """Leaky ReLU at twice the larger rate, between low-pass filters: from one band's samples to the next band's.

    Source: Karras et al. 2021, section 2 and figure 4b. The filters are separable, each channel alone.
    """

    def __init__(self, before: Band, after: Band, margin: int = _MARGIN) -> None:
        super().__init__()
        fine = 2 * max(before.rate, after.rate)
        self.up, self.down = fine // before.rate, fine // after.rate
        # A margin that the coarser rate has is wider than needed at the finer rate
        self.crop = self.down * margin * (after.rate // before.rate - 1)
        self.register_buffer("raising", low_pass(self.up, fine, before) * self.up, persistent=False)
        self.register_buffer("lowering", low_pass(self.down, fine, after), persistent=False)
        self.raising: Tensor
        self.lowering: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return features N x C x S' x S' of features N x C x S x S, S with margins."""
        lowered: Tensor = self._lowered(nn.functional.leaky_relu(self._raised(x), 0.2))
        return lowered

    def _raised(self, x: Tensor) -> Tensor:
        padding = (_TAPS - 1) * self.up // 2 + self.crop
        across, down = _sides(self.raising, x.shape[1])
        x = nn.functional.conv_transpose2d(x, across, None, (1, self.up), (0, padding), groups=x.shape[1])
        return nn.functional.conv_transpose2d(x, down, None, (self.up, 1), (padding, 0), groups=x.shape[1])

    def _lowered(self, x: Tensor) -> Tensor:
        padding = (_TAPS - 1) * self.down // 2
        across, down = _sides(self.lowering, x.shape[1])
        x = nn.functional.conv2d(x, across, None, (1, self.down), (0, padding), groups=x.shape[1])
        return nn.functional.conv2d(x, down, None, (self.down, 1), (padding, 0), groups=x.shape[1])


def _sides(taps: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    return taps.expand(channels, 1, 1, -1), taps[:, None].expand(channels, 1, -1, 1)


class FourierInput(nn.Module):
    """Waves of random frequencies below a band's cutoff, shifted and rotated by w, mixed by a learned matrix.

    Source: Karras et al. 2021, section 3 (configurations B and H).
    """

    def __init__(self, channels: int, band: Band, style: int, margin: int = _MARGIN) -> None:
        super().__init__()
        radius = band.cutoff * torch.rand(channels).sqrt()
        angle = 2 * math.pi * torch.rand(channels)
        self.register_buffer("frequencies", torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1))
        self.register_buffer("phases", torch.rand(channels))
        line = _positions(band.rate + 2 * margin, band.rate).float()
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=0)
        self.register_buffer("grid", grid, persistent=False)
        self.frequencies: Tensor
        self.phases: Tensor
        self.grid: Tensor
        self.pose = ScaledLinear(style, 4)
        nn.init.zeros_(self.pose.weight)
        self.mixing = nn.Parameter(torch.randn(channels, channels))

    def forward(self, w: Tensor) -> Tensor:
        """Return features N x C x S x S for styles N x `style`."""
        pose = self.pose(w)
        turn = nn.functional.normalize(pose[:, :2] + self.pose.weight.new_tensor([1.0, 0.0]), dim=1)
        cos, sin = turn[:, :1], turn[:, 1:]
        down, across = self.frequencies[:, 0], self.frequencies[:, 1]
        turned = torch.stack([cos * down - sin * across, sin * down + cos * across], dim=2)
        phases = self.phases + torch.einsum("ncd,nd->nc", turned, pose[:, 2:])
        waves = torch.einsum("ncd,dhw->nchw", turned, self.grid) + phases[:, :, None, None]
        mixing = self.mixing / math.sqrt(self.mixing.shape[1])
        return torch.einsum("oc,nchw->nohw", mixing, torch.sin(2 * math.pi * waves))


class StyleGan3(AdversarialGenerator):
    """StyleGAN3-T at 32 x 32. Source: Karras et al. 2021, "Alias-Free Generative Adversarial Networks"."""

    family: ClassVar[str] = "stylegan3"
    updates: ClassVar[int] = 1500

    def __init__(self, subjects: int = 8, widths: tuple[int, ...] = (64, 64, 64, 32, 16, 16), style: int = 64) -> None:
        super().__init__()
        self.mapping = Mapping(subjects, _LATENT, style)
        allowed = bands(len(widths) - 1)
        self.waves = FourierInput(widths[0], allowed[0], style)
        channels = itertools.pairwise(widths)
        steps = itertools.pairwise(allowed)
        self.layers = nn.ModuleList(
            _FilteredLayer(*pair, style, FilteredNonlinearity(*step))
            for pair, step in zip(channels, steps, strict=False)
        )
        self.colours = StyledColours(widths[-1], style)

    def generate(self, subjects: Tensor, rng: torch.Generator) -> Tensor:
        """Return images N x 3 x SIZE x SIZE of the wanted subjects N, with gradients."""
        w = self.mapping(torch.randn(len(subjects), _LATENT, generator=rng), subjects)
        x = self.waves(w).contiguous(memory_format=torch.channels_last)
        for layer in self.layers:
            x = layer(x, w)
        image: Tensor = self.colours(x, w)
        return image[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


class _FilteredLayer(nn.Module):
    def __init__(self, before: int, after: int, style: int, nonlinearity: FilteredNonlinearity) -> None:
        super().__init__()
        self.convolution = ModulatedConvolution(before, after, 3, style)
        self.bias = nn.Parameter(torch.zeros(after, 1, 1))
        self.nonlinearity = nonlinearity

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        y: Tensor = self.nonlinearity(self.convolution(x, w, math.sqrt(2)) + self.bias)
        return y
