"""What is measured of a patch before anything is learned: spectra, co-occurrences and DCT coefficients, as one layer.

Each is a way of looking at what is left when the picture itself is taken away, and each survives other processing:
spectra show the periods of an up-sampling, co-occurrences the fine order of neighbouring pixels and channels, the
coefficients of 8 x 8 blocks what a JPEG leaves of both. Their means over an image's patches are its signal.
"""

import math

import torch
from torch import Tensor, nn

from forensic_train.spectrum import LUMA_CHROMA, Spectrum

_LEVELS = 5
_TRIPLES = _LEVELS**3
_STEPS = (1.0, 4.0)
"""Grey levels that a second difference is divided by before it is rounded to -2 ... 2."""
_BLOCK = 8
_SMALL = 0.5
"""Coefficients below this count as zero ..."""
_RAMP = 0.1
"""... by degrees over this range, so that no rounding error of a device decides it."""


class Cooccurrences(nn.Module):
    """How often each triple of neighbouring second differences occurs, along rows and columns, truncated at 2 steps.

    Of luma and two colour differences each, and of red, green and blue at one place. Square roots of the shares, whose
    noise does not depend on the share. Source: SPAM (Pevny et al. 2010) and SRM (Fridrich and Kodovsky 2012).
    """

    width = len(_STEPS) * (3 + 1) * _TRIPLES

    def forward(self, images: Tensor) -> Tensor:
        """Return N x 1000 of images N x 3 x S x S with values 0 to 255."""
        red, green, blue = images[:, 0], images[:, 1], images[:, 2]
        planes = torch.stack([(red + 2 * green + blue) / 4, red - green, blue - green], dim=1)
        across, down, colours = _second(planes, 3), _second(planes, 2), _second(images, 3)
        shares = []
        for step in _STEPS:
            rows, columns = _levels(across, step), _levels(down, step)
            triples = torch.cat(
                [
                    _triple(rows[..., :-2], rows[..., 1:-1], rows[..., 2:]).flatten(2),
                    _triple(columns[..., :-2, :], columns[..., 1:-1, :], columns[..., 2:, :]).flatten(2),
                ],
                dim=2,
            )
            shares.append(_shares(triples.flatten(0, 1)).reshape(images.shape[0], -1))
            levels = _levels(colours, step)
            shares.append(_shares(_triple(levels[:, 0], levels[:, 1], levels[:, 2]).flatten(1)))
        return torch.sqrt(torch.cat(shares, dim=1))


class BlockCoefficients(nn.Module):
    """Statistics of the 64 coefficients of 8 x 8 blocks (DCT-II) of luma and chroma, on the grid of a JPEG.

    Of each coefficient: log mean size, share below one half, log kurtosis, mean log size.
    """

    width = 3 * 4 * _BLOCK**2

    def __init__(self) -> None:
        super().__init__()
        frequency = torch.arange(_BLOCK, dtype=torch.float64)
        scale = torch.where(frequency == 0, 1 / _BLOCK, 2 / _BLOCK).sqrt()
        basis = scale[:, None] * torch.cos(math.pi * (2 * frequency + 1) * frequency[:, None] / (2 * _BLOCK))
        kernels = torch.einsum("ui,vj->uvij", basis, basis).reshape(_BLOCK**2, 1, _BLOCK, _BLOCK)
        self.register_buffer("kernels", kernels.float(), persistent=False)
        self.register_buffer("colours", torch.tensor(LUMA_CHROMA), persistent=False)
        self.register_buffer("offset", torch.tensor([128.0, 0.0, 0.0]), persistent=False)
        self.kernels: Tensor
        self.colours: Tensor
        self.offset: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return N x 768 of images N x 3 x S x S with values 0 to 255; S is a multiple of 8."""
        planes = self.colours @ images.flatten(2)
        # A constant only moves the first coefficient, and a JPEG's lies at 128
        planes = (planes - self.offset[:, None]).reshape(-1, 1, *images.shape[2:])
        sizes = nn.functional.conv2d(planes, self.kernels, stride=_BLOCK).flatten(2).abs()
        mean, power = sizes.mean(dim=2), sizes.square().mean(dim=2)
        statistics = [
            torch.log(mean + 0.05),
            ((_SMALL + _RAMP / 2 - sizes) / _RAMP).clamp(0, 1).mean(dim=2),
            torch.log((power + 0.01) / (mean.square() + 0.01)),
            torch.log(sizes + 0.1).mean(dim=2),
        ]
        return torch.cat(statistics, dim=1).reshape(images.shape[0], -1)


class Measurements(nn.Module):
    """All of it: images N x 3 x S x S in [0, 1] -> N x `width`, block after block of `blocks`."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum, self.cooccurrences, self.coefficients = Spectrum(), Cooccurrences(), BlockCoefficients()
        self.blocks = (self.spectrum.width, self.cooccurrences.width, self.coefficients.width)
        self.width = sum(self.blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the measurements of each image; S is a multiple of 32."""
        # Whole numbers again on every device: half a step is a tie, which a rounding error would decide
        grey = torch.round(images * 255)
        return torch.cat([self.spectrum(images), self.cooccurrences(grey), self.coefficients(grey)], dim=1)


def _second(images: Tensor, axis: int) -> Tensor:
    """Return second differences along an axis, two shorter."""
    length = images.shape[axis]
    before, here, after = (images.narrow(axis, start, length - 2) for start in range(3))
    return before - 2 * here + after


def _levels(differences: Tensor, step: float) -> Tensor:
    return torch.clamp(torch.round(differences / step), -2, 2) + 2


def _triple(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return (first * _LEVELS**2 + second * _LEVELS + third).long()


def _shares(triples: Tensor) -> Tensor:
    """Return N x 125 shares of codes N x P."""
    count = torch.zeros(triples.shape[0], _TRIPLES, device=triples.device)
    return count.scatter_add(1, triples, torch.ones_like(triples, dtype=torch.float32)) / triples.shape[1]
