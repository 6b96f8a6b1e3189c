"""Spectra of images as pictures and gates need them: by radius, and of the residual in two dimensions."""

import numpy as np
import numpy.typing as npt

Spectrum = npt.NDArray[np.float64]
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def radial_spectrum(images: npt.NDArray[np.uint8]) -> Spectrum:
    """Return the mean power of luma of images N x S x S x 3 at each whole radius, S / 2 + 1 of them (Hann window)."""
    size = images.shape[1]
    power = mean_power(images @ _LUMA)
    across = np.fft.fftfreq(size, 1 / size)
    radius = np.hypot(across[:, None], across[None, :]).round().astype(int).ravel()
    counted = np.bincount(radius)[: size // 2 + 1]
    return np.asarray(np.bincount(radius, power.ravel())[: size // 2 + 1] / counted)


def residual_spectrum(images: npt.NDArray[np.uint8]) -> Spectrum:
    """Return log10 of the mean power of the median residual's luma, S x S, zero frequency in the middle."""
    import torch

    from forensic_train.spectrum import median3

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    residual = (pixels - median3(pixels)).permute(0, 2, 3, 1).numpy() @ _LUMA
    return np.asarray(np.log10(np.fft.fftshift(mean_power(residual)) + 1e-3))


def mean_power(planes: npt.NDArray[np.float64]) -> Spectrum:
    """Return the mean over images N x S x S of the squared Fourier amplitude, mean removed, under a Hann window."""
    size = planes.shape[1]
    taper = np.hanning(size + 2)[1:-1]
    window = taper[:, None] * taper[None, :]
    centred = planes - planes.mean(axis=(1, 2), keepdims=True)
    return np.asarray((np.abs(np.fft.fft2(centred * window)) ** 2).mean(axis=0))
