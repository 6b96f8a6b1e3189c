"""Augmentation: any image becomes one patch, and the random numbers alone decide which."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_train.augment import augment_patch, augment_whole


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


def test_whole_images_are_cropped_mirrored_and_compressed() -> None:
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[..., 0] = np.arange(90) * 2  # red grows to the right
    views = [augment_whole(pixels, 32, np.random.default_rng(seed)) for seed in range(200)]
    assert {view.pixels.shape for view in views} == {(32, 32, 3)}
    rises = [int(view.pixels[16, -1, 0]) > int(view.pixels[16, 0, 0]) for view in views]
    assert 60 < sum(rises) < 140
    assert 30 < sum(view.compressed for view in views) < 90
    ranges = [int(np.ptp(view.pixels[..., 0].astype(int))) for view in views if not view.compressed]
    assert min(ranges) > 178 * 0.55  # at least half of the area, so more than half of the width
    again = augment_whole(pixels, 32, np.random.default_rng(7)).pixels
    assert np.array_equal(again, views[7].pixels)


def test_an_image_of_any_size_gives_a_view() -> None:
    for height, width in ((1, 1), (1, 300), (7, 5)):
        view = augment_whole(np.full((height, width, 3), 9, np.uint8), 32, np.random.default_rng(0))
        assert view.pixels.shape == (32, 32, 3)
