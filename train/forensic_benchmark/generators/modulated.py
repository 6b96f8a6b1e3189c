"""Layers that the style-based generators share: scaled weights, the mapping network, modulated convolutions."""

import itertools
import math

import torch
from torch import Tensor, nn

_SLOPE = 0.2


class ScaledLinear(nn.Module):
    """Linear map N x `inputs` -> N x `outputs` whose weights are stored at unit variance and scaled when used.

    Every weight then moves by the same relative amount per update. Source: Karras et al. 2018 (progressive growing),
    equalized learning rate; `rate` slows a layer down, as the mapping network needs (Karras et al. 2019).
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.scale = rate / math.sqrt(inputs)
        self.rate = rate
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))

    def forward(self, x: Tensor) -> Tensor:
        """Map x N x `inputs`."""
        return nn.functional.linear(x, self.weight * self.scale, self.bias * self.rate)


class ScaledConvolution(nn.Module):
    """Convolution with a bias whose weights are stored at unit variance and scaled when used, as ScaledLinear."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.scale = 1 / (kernel * math.sqrt(before))
        self.stride = stride
        self.padding = (kernel - 1) // 2
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x N x `before` x H x W."""
        return nn.functional.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class Mapping(nn.Module):
    """Mapping network: a subject N and noise z N x `latent` -> style w N x `width`.

    Source: Karras et al. 2019 (style-based generator); the class enters as a normalised embedding beside z.
    """

    def __init__(self, subjects: int, latent: int, width: int, layers: int = 2, rate: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(subjects, latent))
        widths = [2 * latent, *[width] * layers]
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(ScaledLinear(before, after, rate=rate) for before, after in pairs)

    def forward(self, z: Tensor, subjects: Tensor) -> Tensor:
        """Return w for noise N x `latent` and subjects N (int64)."""
        w = torch.cat([_unit(z), _unit(self.embedding[subjects])], dim=1)
        for layer in self.layers:
            w = activated(layer(w))
        return w


class ModulatedConvolution(nn.Module):
    """Convolution whose input channels are scaled by styles made from w, and whose output is brought back to unit size.

    Scaling the images before and after one shared convolution equals convolving each image with weights of its own.
    Source: Karras et al. 2020 (StyleGAN2), equations 1 and 3. With `stride` 2 it is a transposed convolution
    H x W -> (2 H + kernel - 2) x (2 W + kernel - 2): zero insertion and convolution, without the low-pass filter.
    """

    def __init__(self, before: int, after: int, kernel: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.styles = ScaledLinear(width, before, bias=1.0)
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))

    def forward(self, x: Tensor, w: Tensor, gain: float = 1.0) -> Tensor:
        """Convolve x N x `before` x H x W in the style w N x `width`; `gain` multiplies the result."""
        styles = self.styles(w)
        scaled = x * styles[:, :, None, None]
        if self.stride == 1:
            y = nn.functional.conv2d(scaled, self.weight, padding=self.weight.shape[2] // 2)
        else:
            y = nn.functional.conv_transpose2d(scaled, self.weight.transpose(0, 1), stride=self.stride)
        return y * (demodulation(self.weight, styles) * gain)[:, :, None, None]


class StyledColours(nn.Module):
    """1 x 1 modulated convolution to three colours, not demodulated. Source: Karras et al. 2020 (tRGB)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.scale = 1 / math.sqrt(before)
        self.styles = ScaledLinear(width, before, bias=1.0)
        self.weight = nn.Parameter(torch.randn(3, before, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Return colours N x 3 x H x W of features N x `before` x H x W."""
        scaled = x * (self.styles(w) * self.scale)[:, :, None, None]
        return nn.functional.conv2d(scaled, self.weight, self.bias)


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return the factors N x out that bring weights out x in x k x k, scaled by styles N x in, to unit norm."""
    energy = weight.square().sum(dim=(2, 3))
    return (styles.square() @ energy.t() + 1e-8).rsqrt()


def activated(x: Tensor) -> Tensor:
    """Apply the leaky ReLU (slope 0.2) that keeps the variance of unit Gaussian input about the same."""
    return nn.functional.leaky_relu(x, _SLOPE) * math.sqrt(2)


def _unit(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
