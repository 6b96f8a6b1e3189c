"""The picture of a residual's spectrum: what is left of an image when its content is taken out, by frequency."""

from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.preprocess import Pixels, even_origins, pad

Power: TypeAlias = npt.NDArray[np.float64]
"""Mean log power, WINDOW x WINDOW, frequency 0 in the middle."""

WINDOW = 64
"""Side of the windows whose spectra are averaged, in pixels; they overlap by up to a half."""
_MOST_WINDOWS = 16
"""Along one side."""
_FLOOR = 0.1
_LUMA = np.array([0.299, 0.587, 0.114])
_DARKEST, _BRIGHTEST = 2.0, 99.7
"""Percentiles of a spectrum that become black and white."""


def residual_spectrum(pixels: Pixels) -> Power:
    """Average the log power spectra of the luma of (image - its 3 x 3 median) over windows of the image."""
    padded = pad(pixels, WINDOW)
    residual = (padded.astype(np.float64) - cv2.medianBlur(padded, 3)) @ _LUMA
    taper = np.outer(np.hanning(WINDOW), np.hanning(WINDOW))
    total, count = np.zeros((WINDOW, WINDOW)), 0
    for top in _origins(residual.shape[0]):
        for left in _origins(residual.shape[1]):
            window = residual[top : top + WINDOW, left : left + WINDOW] * taper
            total += np.log(np.abs(np.fft.fft2(window)) ** 2 + _FLOOR)
            count += 1
    return np.asarray(np.fft.fftshift(total / count), np.float64)


def spectrum_png(power: Power) -> bytes:
    """Return a spectrum as a grey PNG, stretched from its darkest to its brightest frequencies."""
    low, high = np.percentile(power, [_DARKEST, _BRIGHTEST])
    grey = np.clip((power - low) / max(high - low, 1e-9) * 255, 0, 255).round().astype(np.uint8)
    return bytes(cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1])


def _origins(length: int) -> list[int]:
    return even_origins(length, WINDOW, min(_MOST_WINDOWS, 2 * (length // WINDOW) - 1))
