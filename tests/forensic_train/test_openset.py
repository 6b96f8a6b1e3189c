"""Tests of open-set measures: by hand, and against the pairs of images that they count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_train.openset import auroc, oscr, oscr_curve

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1), min_size=1, max_size=25).map(np.array)


def test_by_hand() -> None:
    known, unknown = np.array([0.9, 0.8, 0.3]), np.array([0.5, 0.1])
    assert auroc(known, unknown) == pytest.approx(5 / 6)
    assert oscr(known, np.array([True, True, True]), unknown) == pytest.approx(5 / 6)
    assert oscr(known, np.array([True, False, True]), unknown) == pytest.approx((1 + 0.5) / 3)
    false, right = oscr_curve(known, np.array([True, False, True]), unknown)
    assert false.tolist() == pytest.approx([0, 0, 0, 0.5, 0.5, 1])
    assert right.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3])


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES, st.integers(0, 2**32))
def test_the_area_counts_the_pairs_of_a_right_and_an_unknown_image(
    known: np.ndarray, unknown: np.ndarray, seed: int
) -> None:
    right = np.random.default_rng(seed).random(len(known)) < 0.6
    above = (known[:, None] > unknown[None]) + 0.5 * (known[:, None] == unknown[None])
    assert auroc(known, unknown) == pytest.approx(above.mean())
    area = oscr(known, right, unknown)
    assert area == pytest.approx((above * right[:, None]).mean())
    assert area <= min(auroc(known, unknown), right.mean()) + 1e-9


@pytest.mark.parametrize(("known", "unknown"), [([], [0.5]), ([0.5], [])])
def test_without_images_there_is_no_measure(known: list[float], unknown: list[float]) -> None:
    message = "open-set measures need images of known labels and of unknown generators"
    with pytest.raises(ValueError, match=message):
        auroc(np.array(known), np.array(unknown))
    with pytest.raises(ValueError, match=message):
        oscr(np.array(known), np.ones(len(known), bool), np.array(unknown))
