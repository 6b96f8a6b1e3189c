"""Log power spectra of a patch as a fixed layer, and the whitening and the gate that are fitted to them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

WINDOW = 32
"""Side of the windows whose spectra are averaged, in pixels; they overlap by half."""
_FLOOR = 0.1
_VARIANCE_FLOOR = 1e-3
_STANDARD_FLOOR = 1e-3
_GATE_STRENGTH = 0.01
# ITU-R BT.601, full range, as in JPEG
LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


class Spectrum(nn.Module):
    """Mean log power spectra of the median residual's luma and chroma over half-overlapping windows of a patch.

    Welch's method with the logarithm before the mean: smooth windows, where the picture hides a fingerprint least,
    count as much as textured ones. The DFT is two matrix products, so it exports everywhere. Powers at
    +f and -f of one axis are added, so that mirroring hardly matters.
    """

    bins = WINDOW // 2 + 1
    planes = 3

    def __init__(self) -> None:
        super().__init__()
        self.width = self.planes * self.bins**2
        positions = torch.arange(WINDOW, dtype=torch.float64)
        angles = 2 * math.pi / WINDOW * positions[:, None] * torch.arange(self.bins)
        taper = torch.hann_window(WINDOW, dtype=torch.float64)[:, None]
        self.register_buffer("cosines", (taper * torch.cos(angles)).float(), persistent=False)
        self.register_buffer("sines", (taper * torch.sin(angles)).float(), persistent=False)
        self.register_buffer("colours", torch.tensor(LUMA_CHROMA), persistent=False)
        self.cosines: Tensor
        self.sines: Tensor
        self.colours: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return log spectra N x (3 x 17 x 17) of images N x 3 x S x S in [0, 1]; S is a multiple of 32."""
        pixels = images * 255
        residual = (self.colours @ (pixels - median3(pixels)).flatten(2)).reshape(images.shape)
        windows = _windows(residual, 3)  # N x 3 x S x windows x 32
        power = self._column_power(windows @ self.cosines) + self._column_power(windows @ self.sines)
        return torch.log(power + _FLOOR).mean(dim=(2, 4)).flatten(1)

    def _column_power(self, rows: Tensor) -> Tensor:
        """Transform along columns: N x 3 x S x windows x bins -> powers N x 3 x windows x bins x windows x bins."""
        columns = _windows(rows.flatten(3), 2)
        power = (self.cosines.T @ columns).square() + (self.sines.T @ columns).square()
        unfolded: Tensor = power.reshape(*power.shape[:4], -1, self.bins)
        return unfolded


def median3(images: Tensor) -> Tensor:
    """Return the 3 x 3 median of every channel of N x C x H x W, borders repeated, by minima and maxima alone.

    The median of nine is the median of: the largest of the columns' minima, the median of their medians, and the
    smallest of their maxima.
    """
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")
    height, width = images.shape[2], images.shape[3]
    low, middle, high = _sort3(*(padded[:, :, i : i + height] for i in range(3)))
    lows, middles, highs = ([part[:, :, :, j : j + width] for j in range(3)] for part in (low, middle, high))
    largest = torch.maximum(torch.maximum(lows[0], lows[1]), lows[2])
    smallest = torch.minimum(torch.minimum(highs[0], highs[1]), highs[2])
    return _median(largest, _median(*middles), smallest)


def whitening(spectra: Tensor, components: int) -> tuple[Tensor, Tensor]:
    """Return the centre D and weights D x C that turn spectra N x D into C principal components of variance 1.

    Components that the samples cannot support (fewer samples than C) come out as zero.
    """
    values = spectra.double()
    mean, deviation = values.mean(dim=0), values.std(dim=0) + _STANDARD_FLOOR
    standard = (values - mean) / deviation
    variances, vectors = torch.linalg.eigh(standard.T @ standard / len(standard))
    chosen = vectors.flip(1)[:, :components] / torch.sqrt(variances.flip(0)[:components].clamp(min=0) + _VARIANCE_FLOOR)
    return mean.float(), (chosen / deviation[:, None]).float()


def compression_gate(signal: Tensor, compressed: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights C and bias of a logistic regression (scikit-learn) on signal N x C.

    `compressed` N: 1 yes, 0 no, -1 unknown and left out. Without examples of both the gate stays at one half.
    """
    from sklearn.linear_model import LogisticRegression

    known = (compressed >= 0).numpy()
    features, flags = signal.numpy()[known].astype(np.float64), compressed.numpy()[known]
    if len(set(flags.tolist())) < 2:
        return torch.zeros(signal.shape[1]), torch.zeros(())
    fitted = LogisticRegression(C=_GATE_STRENGTH, class_weight="balanced", max_iter=300).fit(features, flags)
    return torch.tensor(fitted.coef_[0], dtype=torch.float32), torch.tensor(fitted.intercept_[0], dtype=torch.float32)


def _windows(x: Tensor, axis: int) -> Tensor:
    """Cut an axis of length S into half-overlapping windows of 32: S becomes (S / 16 - 1) x 32."""
    before, length, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    inner = x.narrow(axis, WINDOW // 2, length - WINDOW)
    whole = x.reshape(*before, length // WINDOW, WINDOW, *after)
    between = inner.reshape(*before, length // WINDOW - 1, WINDOW, *after)
    return torch.cat([whole, between], dim=axis)


def _sort3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    return a, b, c


def _median(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))
