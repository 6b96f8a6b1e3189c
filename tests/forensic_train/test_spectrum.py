"""The spectral layer against OpenCV and numpy, and what is fitted to it."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forensic_train.encoders import SpectralEncoder
from forensic_train.network import Network
from forensic_train.spectrum import Spectrum, compression_gate, median3, whitening


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(3, 20), st.integers(3, 20))))
def test_the_median_is_opencvs(plane: np.ndarray) -> None:
    found = median3(torch.from_numpy(plane.astype(np.float32))[None, None])[0, 0].numpy()
    assert np.array_equal(found, cv2.medianBlur(plane, 3))


def test_the_spectrum_is_the_mean_log_power_of_hann_windows() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    residual = pixels.astype(np.float64) - cv2.medianBlur(pixels, 3)
    luma = residual @ [0.299, 0.587, 0.114]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(32) / 32)
    logs = []
    for top in (0, 16, 32):
        for left in (0, 16, 32):
            power = np.abs(np.fft.fft2(luma[top : top + 32, left : left + 32] * hann * hann[:, None])) ** 2
            mirrored = power[(-np.arange(32)) % 32]
            logs.append(np.log((power + mirrored)[:17, :17] / 2 + 0.1))
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    found = Spectrum()(images)[0, : 17 * 17].reshape(17, 17).numpy()
    assert found == pytest.approx(np.mean(logs, axis=0), abs=2e-3)


def test_whitening_leaves_uncorrelated_components_of_variance_one() -> None:
    rng = np.random.default_rng(0)
    spectra = torch.from_numpy(rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12)) + 5).float()
    centre, weights = whitening(spectra, 4)
    white = ((spectra - centre) @ weights).numpy()
    assert white.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-3)
    assert np.cov(white.T) == pytest.approx(np.eye(4), abs=0.02)


def test_the_gate_tells_compressed_from_uncompressed_and_leaves_out_what_is_unknown() -> None:
    rng = np.random.default_rng(0)
    signal = torch.from_numpy(rng.normal(size=(300, 3)).astype(np.float32))
    flags = (signal[:, 0] > 0).long()
    flags[:100] = -1
    weights, bias = compression_gate(signal, flags)
    known = flags >= 0
    assert float((((signal @ weights + bias) > 0)[known] == flags[known].bool()).float().mean()) > 0.95
    weights, bias = compression_gate(signal, torch.zeros(300, dtype=torch.long))
    assert not weights.any()
    assert not bias.any()


def test_an_encoder_that_is_prepared_tells_flat_from_noisy_patches() -> None:
    rng = np.random.default_rng(0)
    smooth = torch.from_numpy(rng.normal(128, 1, (12, 64, 64, 3)).clip(0, 255).astype(np.uint8))
    noisy = torch.from_numpy(rng.normal(128, 20, (12, 64, 64, 3)).clip(0, 255).astype(np.uint8))
    network = Network(SpectralEncoder(components=4), 2)
    network.prepare([(smooth, torch.zeros(12)), (noisy, torch.ones(12))])
    features = network.features(torch.cat([smooth, noisy]), torch.zeros(24, dtype=torch.int64))
    assert tuple(features.shape) == (24, 10)
    assert torch.isfinite(features).all()
    gate = features[:, -1].detach()
    assert gate[:12].max() < gate[12:].min()
