"""Tests of likelihood ratios: their costs and bounds against the `lir` package, and what they may claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import LikelihoodRatio
from forensic_train.likelihood import LEAST_IMAGES, LEAST_SOURCES, cllr, cllr_min, elub, fit_ratio
from forensic_train.weights import source_weights


def normals(rng: np.random.Generator, n1: int, n0: int, shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    ratios = np.concatenate([rng.normal(shift, scale, n1), rng.normal(-shift, scale, n0)]).round(3)
    return ratios, np.arange(n1 + n0) < n1


def scored(seed: int, images: int, sources: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw calibrated probabilities of a statement, for which images it is true, and each image's source."""
    rng = np.random.default_rng(seed)
    share = 1 / (1 + np.exp(-rng.normal(0, 3, images)))
    positive = rng.random(images) < share
    return share, positive, np.array([f"{side} {rng.integers(sources)}" for side in positive])


def fitted(share: np.ndarray, positive: np.ndarray, sources: np.ndarray) -> LikelihoodRatio | None:
    return fit_ratio(share, positive, source_weights(np.where(positive, "alpha", "beta"), sources), sources)


# Values of lir 1.3.1 (Netherlands Forensic Institute), run once on these draws:
# lir.metrics.cllr, lir.metrics.cllr_min, lir.algorithms.bayeserror.elub
LIR = [
    ((60, 150, 1.0, 1.0), (0.644689, 0.551034, -0.9, 1.25)),
    ((25, 25, 0.2, 0.6), (1.08621, 0.856587, -0.15, 0.34)),
    ((300, 80, 2.5, 1.2), (0.050672, 0.017634, -2.29, 1.78)),
    ((40, 40, -0.3, 0.8), (2.096386, 0.987386, 0.0, 0.0)),
    ((10, 500, 3.0, 0.5), (0.003201, 0.0, -1.04, 2.56)),
]


def test_costs_and_bounds_are_those_of_lir() -> None:
    rng = np.random.default_rng(8)
    for shape, expected in LIR:
        ratios, positive = normals(rng, *shape)
        found = (cllr(ratios, positive), cllr_min(ratios, positive), *elub(ratios, positive))
        assert found == pytest.approx(expected, abs=2e-6)


def test_the_cost_by_hand() -> None:
    positive = np.array([True, False])
    assert cllr(np.zeros(2), positive) == pytest.approx(1)
    assert cllr(np.array([np.inf, -np.inf]), positive) == 0
    # log2(1 + 1/3) for the one, log2(1 + 1) for the other
    assert cllr(np.array([np.log10(3), 0]), positive) == pytest.approx((np.log2(4 / 3) + 1) / 2)
    assert cllr_min(np.array([0.0, 0.0]), positive) == pytest.approx(1)
    assert cllr_min(np.array([0.1, 0.0]), positive) == pytest.approx(0)


RATIOS = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.floats(-4, 4), min_size=n, max_size=n), st.lists(st.floats(-4, 4), min_size=1, max_size=40)
    )
)


@settings(max_examples=100, deadline=None)
@given(RATIOS)
def test_bounds_enclose_0_and_claim_no_more_than_there_are_images(parts: tuple[list[float], list[float]]) -> None:
    ratios, positive = np.array(parts[0] + parts[1]), np.arange(len(parts[0]) + len(parts[1])) < len(parts[0])
    lower, upper = elub(ratios, positive)
    assert -np.log10(len(parts[0]) + 1) - 1e-9 <= lower <= 0 <= upper <= np.log10(len(parts[1]) + 1) + 1e-9


@settings(max_examples=100, deadline=None)
@given(RATIOS)
def test_no_monotone_calibration_costs_less_than_the_least(parts: tuple[list[float], list[float]]) -> None:
    ratios, positive = np.array(parts[0] + parts[1]), np.arange(len(parts[0]) + len(parts[1])) < len(parts[0])
    least = cllr_min(ratios, positive)
    for scale, shift in ((1, 0), (0.5, 0.2), (0, 0), (2, -1)):
        assert 0 <= least <= cllr(scale * ratios + shift, positive) + 1e-9


def test_weights_count_as_copies_in_the_costs() -> None:
    ratios, positive = normals(np.random.default_rng(1), 12, 30, 0.8, 1.0)
    weights = np.where(np.arange(42) % 3 == 0, 2.0, 1.0)
    copied = np.concatenate([ratios, ratios[weights == 2]])
    sides = np.concatenate([positive, positive[weights == 2]])
    assert cllr(ratios, positive, weights) == pytest.approx(cllr(copied, sides))
    assert cllr_min(ratios, positive, weights) == pytest.approx(cllr_min(copied, sides))
    # Uneven weights are less evidence than as many equal images
    assert elub(ratios, positive, np.where(positive, 1, 7.0)) == elub(ratios, positive)
    assert elub(ratios, positive, np.where(np.arange(42) == 41, 50.0, 1))[1] < elub(ratios, positive)[1]


def test_ratios_of_calibrated_probabilities_are_their_odds() -> None:
    ratio = fitted(*scored(0, 6000))
    assert ratio is not None
    assert (ratio.slope, ratio.intercept) == pytest.approx((1, 0), abs=0.1)
    assert (ratio.groups, ratio.images_for + ratio.images_against) == (12, 6000)
    assert ratio.cllr is not None
    assert ratio.cllr_min is not None
    assert 0.3 < ratio.cllr_min <= ratio.cllr < 0.8
    assert ratio.cllr_cal == pytest.approx(ratio.cllr - ratio.cllr_min, abs=2e-6)


def test_the_number_of_images_on_a_side_does_not_change_a_ratio() -> None:
    share, positive, sources = scored(0, 6000)
    chosen = positive | (np.arange(6000) % 10 == 0)
    thinned, whole = fitted(share[chosen], positive[chosen], sources[chosen]), fitted(share, positive, sources)
    assert thinned is not None
    assert whole is not None
    assert thinned.images_against < whole.images_against - 2000
    for p in (0.1, 0.3, 0.7):
        assert thinned.log10(p) == pytest.approx(whole.log10(p), abs=0.1)


def test_a_source_counts_the_same_however_many_images_it_has() -> None:
    share, positive, sources = scored(1, 600)
    copied = np.concatenate([np.arange(600), *[np.flatnonzero(sources == "True 3")] * 9])
    once, often = fitted(share, positive, sources), fitted(share[copied], positive[copied], sources[copied])
    assert once is not None
    assert often is not None
    assert (often.slope, often.intercept, often.cllr) == pytest.approx(
        (once.slope, once.intercept, once.cllr), abs=0.02
    )


@pytest.mark.parametrize("seed", range(5))
def test_scores_that_say_nothing_give_no_ratio(seed: int) -> None:
    share, positive, sources = scored(seed, 600)
    assert fitted(np.random.default_rng(seed).permutation(share), positive, sources) is None
    assert fitted(np.full(600, 0.5), positive, sources) is None


def test_scores_that_mislead_give_no_ratio() -> None:
    share, positive, sources = scored(2, 600)
    assert fitted(1 - share, positive, sources) is None


def test_perfect_separation_is_still_bounded_by_the_number_of_images() -> None:
    positive = np.arange(90) < 30
    sources = np.array([f"{i % 3} {i < 30}" for i in range(90)])
    ratio = fitted(np.where(positive, 0.9998, 0.0001), positive, sources)
    assert ratio is not None
    assert -np.log10(31) <= ratio.lower <= ratio.log10(0.0) < 0 < ratio.log10(1.0) <= ratio.upper <= np.log10(61)
    assert ratio.upper > 1.2
    assert ratio.cllr is not None
    assert ratio.cllr < 0.1


def test_sources_that_differ_from_each_other_cost_the_ratio() -> None:
    """Half of the sources are judged rightly, half wrongly: a fit that had seen them all would be of some use."""
    positive = np.arange(400) < 200
    sources = np.array([f"{i % 4} {i < 200}" for i in range(400)])
    rng = np.random.default_rng(0)
    share = np.clip(np.where(positive, 0.8, 0.2) + rng.normal(0, 0.05, 400), 0.01, 0.99)
    assert fitted(share, positive, sources) is not None
    wrong = np.arange(400) % 4 < 2
    assert fitted(np.where(wrong, 1 - share, share), positive, sources) is None


@pytest.mark.parametrize("side", [True, False])
def test_too_few_images_or_sources_on_a_side_give_no_ratio(side: bool) -> None:
    positive = np.arange(200) < 100
    for images, sources, is_given in (
        (LEAST_IMAGES, LEAST_SOURCES, True),
        (LEAST_IMAGES - 1, LEAST_SOURCES, False),
        (100, LEAST_SOURCES - 1, False),
        (0, 0, False),
    ):
        here = positive == side
        chosen = ~here | (np.cumsum(here) <= images)
        names = np.array([f"{flag} {i % (sources or 1) if flag == side else i % 8}" for i, flag in enumerate(positive)])
        share = np.where(positive, 0.95, 0.05)
        assert (fitted(share[chosen], positive[chosen], names[chosen]) is not None) == is_given, (images, sources)
