"""Measurements of an image as fixed layers, before anything is learned; their means over its patches are its signal.

Each is a way of looking at what is left when the picture itself is taken away, and each survives other processing:
spectra show the periods of an up-sampling, co-occurrences the fine order of neighbouring pixels and channels, the
coefficients of 8 x 8 blocks what a JPEG leaves of both, and periodic patterns what repeats itself all over the image.
"""

import math

import torch
from torch import Tensor, nn

from forensic_train.spectrum import LUMA_CHROMA, Spectrum

_LEVELS = 5
_TRIPLES = _LEVELS**3
_STEPS = (1.0, 4.0)
"""Grey levels by which second differences are divided before they are rounded to -2 ... 2."""
_BLOCK = 8
_SMALL = 0.5
"""Coefficients below this count as zero ..."""
_RAMP = 0.1
"""... gradually over this range, so that rounding errors of a device do not matter."""
_SIGMA, _RADIUS = 2.5, 7
"""Standard deviation and radius of the Gaussian behind the coarse residual, in pixels."""
_FINE, _COARSE = 6.0, 15.0
"""Grey levels to which residuals are clipped, so that edges do not hide a pattern."""
_SCALES = (1, 2, 4)
"""Factors by which the image is shrunk before co-occurrences are counted."""
_LEAST_LINE = 0.05
"""Power relative to chance below which a line is ignored."""
_SILENCE = 1.0
"""Power added to that of single tiles, because blank tiles have none."""
_LEAST_SHARE = 1e-3
"""Share of repeated power that counts as chance."""


class Cooccurrences(nn.Module):
    """How often each triple of neighbouring second differences occurs, along rows and columns, truncated at 2 steps.

    Counted for luma and two colour differences, and for red, green and blue at the same place. The result is the square
    roots of the shares, because their noise does not depend on the share.
    Source: SPAM (Pevny et al. 2010) and SRM (Fridrich and Kodovsky 2012).
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

    For each coefficient: log mean magnitude, share below one half, log kurtosis, mean log magnitude.
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
        # A constant only shifts the first coefficient; JPEG subtracts 128 as well
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


class Residuals(nn.Module):
    """Residuals of luma and chroma against a 3 x 3 mean and a Gaussian, clipped so that edges do not hide a pattern.

    Each blur is a product with a matrix on either side (borders repeated), which is faster than a convolution here.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float64)
        bell = torch.exp(-(offsets**2) / (2 * _SIGMA**2))
        self.register_buffer("mean", _blur_matrix(torch.ones(3, dtype=torch.float64), side), persistent=False)
        self.register_buffer("bell", _blur_matrix(bell, side), persistent=False)
        self.register_buffer("colours", torch.tensor(LUMA_CHROMA), persistent=False)
        self.mean: Tensor
        self.bell: Tensor
        self.colours: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return both residuals, each N x 3 x S x S, of images N x 3 x S x S with values 0 to 255."""
        planes = (self.colours @ images.flatten(2)).reshape(images.shape)
        fine, coarse = (planes - blur @ planes @ blur.T for blur in (self.mean, self.bell))
        return fine.clamp(-_FINE, _FINE), coarse.clamp(-_COARSE, _COARSE)


def _blur_matrix(kernel: Tensor, side: int) -> Tensor:
    """Return the S x S matrix that blurs a column by a kernel of odd length, scaled to a sum of 1."""
    matrix = torch.zeros(side, side, dtype=torch.float64)
    for offset, weight in enumerate(kernel / kernel.sum(), start=-(len(kernel) // 2)):
        places = (torch.arange(side) + offset).clamp(0, side - 1)
        matrix[torch.arange(side), places] += weight
    return matrix.float()


class PeriodicPattern(nn.Module):
    """The share of a residual's power, at each frequency, that repeats in phase in every tile of 32 x 32 pixels.

    A decoder that up-samples leaves a pattern with a period of its factor, in the same phase all over the image. Tiles
    are averaged with their signs before the power is taken: the picture averages out, the pattern stays, even where a
    JPEG has buried it in every single tile. Patches must begin at multiples of 32. Source: averaged residuals as
    fingerprints (Marra et al. 2019), their power relative to that of single tiles (synchronous averaging).
    """

    side = 32
    bins = side // 2 + 1
    planes = 2 * 3
    raw_width = planes * (side**2 + bins**2)
    width = planes * bins**2

    def __init__(self) -> None:
        super().__init__()
        angles = 2 * math.pi / self.side * torch.arange(self.side, dtype=torch.float64)[:, None]
        angles = angles * torch.arange(self.bins)
        self.register_buffer("cosines", torch.cos(angles).float(), persistent=False)
        self.register_buffer("sines", torch.sin(angles).float(), persistent=False)
        self.cosines: Tensor
        self.sines: Tensor

    def forward(self, residual: Tensor) -> Tensor:
        """Return the mean tile and the mean power of single tiles, N x `raw_width`, of residuals N x 6 x S x S.

        Both may be averaged over an image's patches before finish().
        """
        count, rows = residual.shape[0], residual.shape[2] // self.side
        tiles = residual.reshape(count, self.planes, rows, self.side, rows, self.side).transpose(3, 4)
        power = self._power(tiles).mean(dim=(2, 3))
        return torch.cat([tiles.mean(dim=(2, 3)).flatten(1), power.flatten(1)], dim=1)

    def finish(self, raw: Tensor) -> Tensor:
        """Return N x `width`: log shares of the repeated power, relative to the mean of each plane."""
        tiles, single = torch.split(raw, [self.planes * self.side**2, self.planes * self.bins**2], dim=1)
        repeated = self._power(tiles.reshape(-1, self.planes, self.side, self.side))
        share = repeated / (single.reshape(repeated.shape) + _SILENCE)
        logarithms = torch.log(share + _LEAST_SHARE).flatten(2)
        return (logarithms - logarithms.mean(dim=2, keepdim=True)).flatten(1)

    def _power(self, tiles: Tensor) -> Tensor:
        """Return the powers (..., 17, 17) of tiles (..., 32, 32); those at +f and -f of one axis are added."""
        turned = self.cosines.T @ tiles, self.sines.T @ tiles
        parts = [(half @ wave).square() for half in turned for wave in (self.cosines, self.sines)]
        return parts[0] + parts[1] + parts[2] + parts[3]


class LineSpectra(nn.Module):
    """Log power spectra of the mean row and the mean column of a patch, from the coarse residual of luma and chroma.

    Lines that a decoder or resizing leaves along an axis add up, whatever their period; PeriodicPattern sees only
    those of a tile.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, bins = side, side // 2 + 1
        self.width = 2 * 3 * bins
        positions = torch.arange(self.side, dtype=torch.float64)
        angles = 2 * math.pi / self.side * positions[:, None] * torch.arange(bins)
        taper = torch.hann_window(self.side, dtype=torch.float64)[:, None]
        self.register_buffer("cosines", (taper * torch.cos(angles)).float(), persistent=False)
        self.register_buffer("sines", (taper * torch.sin(angles)).float(), persistent=False)
        self.cosines: Tensor
        self.sines: Tensor

    def forward(self, residual: Tensor) -> Tensor:
        """Return N x `width` of residuals N x 3 x S x S, relative to the power that chance would leave."""
        chance = self.side * (residual.square().mean(dim=(2, 3), keepdim=True) + _SILENCE / 16)
        lines = torch.stack([residual.mean(dim=2), residual.mean(dim=3)], dim=2) * math.sqrt(self.side)
        lines = lines - lines.mean(dim=3, keepdim=True)
        power = (lines @ self.cosines).square() + (lines @ self.sines).square()
        return torch.log(power / chance + _LEAST_LINE).flatten(1)


class Measurements(nn.Module):
    """All measurements: patches N x 3 x S x S in [0, 1] -> N x `raw_width`, averaged per image -> `width`, in blocks.

    `side`: S, a multiple of 32.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.spectrum, self.cooccurrences, self.coefficients = Spectrum(), Cooccurrences(), BlockCoefficients()
        self.residuals, self.lines, self.pattern = Residuals(side), LineSpectra(side), PeriodicPattern()
        counted = [self.cooccurrences.width] * len(_SCALES)
        plain = [self.spectrum.width, *counted, self.coefficients.width, self.lines.width]
        self._plain = sum(plain)
        self.blocks = (*plain, self.pattern.width)
        self.raw_width = self._plain + self.pattern.raw_width
        self.width = sum(self.blocks)

    def forward(self, images: Tensor) -> Tensor:
        """Return the measurements of each patch that may be averaged over an image."""
        # Whole numbers on every device, because rounding errors would decide ties at half a step
        grey = torch.round(images * 255)
        counted = [self.cooccurrences(_shrunk(grey, scale)) for scale in _SCALES]
        fine, coarse = self.residuals(grey)
        return torch.cat(
            [
                self.spectrum(images),
                *counted,
                self.coefficients(grey),
                self.lines(coarse),
                self.pattern(torch.cat([fine, coarse], dim=1)),
            ],
            dim=1,
        )

    def finish(self, raw: Tensor) -> Tensor:
        """Return the measurements M x `width` of M images, given the means over their patches, M x `raw_width`."""
        plain, pattern = raw[:, : self._plain], raw[:, self._plain :]
        return torch.cat([plain, self.pattern.finish(pattern)], dim=1)


def _shrunk(grey: Tensor, scale: int) -> Tensor:
    """Return whole grey levels of images at 1 / `scale` of their size: where a JPEG leaves more of them."""
    return grey if scale == 1 else torch.round(nn.functional.avg_pool2d(grey, scale))


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
