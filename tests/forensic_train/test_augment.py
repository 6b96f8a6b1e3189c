"""Augmentation: any image becomes one patch, and the random numbers alone decide which."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_train.augment import augment_patch


@settings(max_examples=120, deadline=None)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    size=st.sampled_from([8, 32, 128]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_image_becomes_one_patch(height: int, width: int, size: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    before = pixels.copy()
    patch = augment_patch(pixels, size, np.random.default_rng(seed)).pixels
    assert (patch.dtype, patch.shape) == (np.uint8, (size, size, 3))
    assert patch.flags.c_contiguous
    assert np.array_equal(patch, augment_patch(pixels, size, np.random.default_rng(seed)).pixels)
    assert np.array_equal(pixels, before)


def test_another_seed_gives_another_patch() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    patches = {augment_patch(pixels, 32, np.random.default_rng(seed)).pixels.tobytes() for seed in range(20)}
    assert len(patches) == 20


def test_most_patches_are_pixels_of_the_image_unchanged() -> None:
    """Compression, blur, noise and colours each touch a minority: fingerprints must be seen as they are."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    known = {tuple(pixel) for pixel in pixels.reshape(-1, 3)}
    untouched = 0
    for seed in range(200):
        patch = augment_patch(pixels, 16, np.random.default_rng(seed)).pixels
        untouched += {tuple(pixel) for pixel in patch.reshape(-1, 3)} <= known
    # .9 * .97 * .97 * (1 - .2 - .03) = .65 of 200 are 130; five standard deviations are 34
    assert 96 <= untouched <= 164
