"""Tests of likelihood ratios: their costs and bounds against the `lir` package, and what they may claim."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_train.likelihood import cllr, cllr_min, elub, held_ratios, likelihood_ratios, measure_ratios
from toys import toy_card

LABELS = ("real", "alpha", "beta")


def normals(rng: np.random.Generator, n1: int, n0: int, shift: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    ratios = np.concatenate([rng.normal(shift, scale, n1), rng.normal(-shift, scale, n0)]).round(3)
    return ratios, np.arange(n1 + n0) < n1


def scored(seed: int, images: int, groups: int = 4, labels: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw calibrated probabilities of images whose labels follow them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, labels))
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    exponents = np.exp(logits)
    names = [f"subject{name}" for name in rng.integers(0, groups, images)]
    return exponents / exponents.sum(axis=1, keepdims=True), targets, names


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


def test_ratios_of_calibrated_probabilities_are_their_odds_without_the_prior() -> None:
    probabilities, targets, groups = scored(0, 6000)
    for label, one in likelihood_ratios(probabilities, targets, groups, LABELS).items():
        # one of three labels: prior odds of 1 to 2 are taken off the odds
        assert (one.slope, one.intercept) == pytest.approx((1, np.log(2)), abs=0.15), label
        assert one.groups == 4
        assert one.cllr is not None
        assert one.cllr_min is not None
        assert 0.3 < one.cllr_min <= one.cllr < 0.8
        assert one.cllr_cal == pytest.approx(one.cllr - one.cllr_min, abs=2e-6)


def test_the_number_of_images_of_the_other_labels_does_not_change_a_ratio() -> None:
    probabilities, targets, groups = scored(0, 6000)
    chosen = (targets != 2) | (np.arange(6000) % 10 == 0)
    thinned = likelihood_ratios(
        probabilities[chosen], targets[chosen], [g for g, c in zip(groups, chosen, strict=True) if c], LABELS
    )
    whole = likelihood_ratios(probabilities, targets, groups, LABELS)
    assert thinned["alpha"].images_against < whole["alpha"].images_against - 1000
    for p in (0.05, 0.3, 0.7):
        assert thinned["alpha"].log10(p) == pytest.approx(whole["alpha"].log10(p), abs=0.1)


def test_scores_that_say_nothing_give_ratios_that_say_nothing() -> None:
    rng = np.random.default_rng(2)
    probabilities = rng.dirichlet([2, 2, 2], 600)
    ratios = likelihood_ratios(probabilities, rng.integers(0, 3, 600), ["a", "b", "c"] * 200, LABELS)
    assert len(ratios) == 3
    for one in ratios.values():
        assert abs(one.log10(0.01)) < 0.3
        assert abs(one.log10(0.99)) < 0.3
        assert one.cllr == pytest.approx(1, abs=0.06)


def test_scores_that_mislead_give_no_evidence_at_all() -> None:
    targets = np.arange(90) % 3
    probabilities = np.where(np.eye(3)[targets] > 0, 0.1, 0.45)
    for one in likelihood_ratios(probabilities, targets, ["a", "b"] * 45, LABELS).values():
        assert (one.slope, one.intercept, one.log10(0.1), one.log10(0.9)) == (0, 0, 0, 0)


def test_perfect_separation_is_still_bounded_by_the_number_of_images() -> None:
    targets = np.repeat([0, 1, 2], 30)
    probabilities = np.where(np.eye(3)[targets] > 0, 0.9998, 0.0001)
    for one in likelihood_ratios(probabilities, targets, ["a", "b", "c"] * 30, LABELS).values():
        assert -np.log10(31) <= one.lower <= one.log10(0.0) < 0 < one.log10(1.0) <= one.upper <= np.log10(61)
        assert one.upper > 1.2


def test_a_group_that_differs_is_seen_in_the_cost() -> None:
    """Left out, a subject that the model gets wrong costs more than it does in a fit that has seen it."""
    targets = np.repeat([0, 1], 100)
    groups = ["a", "b"] * 100
    right = np.where(np.arange(200) % 2 == 0, 0.95, 0.2)
    probabilities = np.where(np.eye(2)[targets] > 0, right[:, None], 1 - right[:, None])
    one = likelihood_ratios(probabilities, targets, groups, LABELS[:2])["real"]
    assert one.groups == 2
    assert one.cllr is not None
    assert one.cllr > 1
    assert one.upper == 0


def test_a_label_of_one_group_is_measured_on_parts_drawn_by_chance() -> None:
    probabilities, targets, _ = scored(4, 400)
    ratios = likelihood_ratios(
        probabilities, targets, [f"only {k}" if k == 1 else f"{i % 2}" for i, k in enumerate(targets)], LABELS
    )
    assert {label: one.groups for label, one in ratios.items()} == {"real": 3, "alpha": 0, "beta": 3}
    assert ratios["alpha"].cllr is not None


def test_labels_with_few_images_and_the_label_unknown_get_no_ratio() -> None:
    probabilities, targets, groups = scored(5, 500, labels=4)
    few = (targets != 3) | (np.cumsum(targets == 3) < 10)
    names = [g for g, chosen in zip(groups, few, strict=True) if chosen]
    labels = ("real", "unknown", "alpha", "beta")
    ratios = likelihood_ratios(probabilities[few], targets[few], names, labels)
    assert set(ratios) == {"real", "alpha"}
    assert ratios["real"].images_against == int((targets[few] == 2).sum() + (targets[few] == 3).sum())


def test_ratios_are_measured_on_other_images_too() -> None:
    labels = ("real", "unknown", "beta")
    made, fresh = scored(6, 3000), scored(7, 3000)
    card = toy_card(labels=labels, likelihood_ratios=likelihood_ratios(*made, labels))
    costs = measure_ratios(card, fresh[0], fresh[1])
    assert set(costs) == {"real", "beta"}
    for label, one in costs.items():
        fitted = card.likelihood_ratios[label].cllr
        assert fitted is not None
        assert one.cllr == pytest.approx(fitted, abs=0.06)
        assert one.cllr_cal == pytest.approx(one.cllr - one.cllr_min)
        assert one.images_for + one.images_against == int((fresh[1] != 1).sum())
    ratios, positive, _ = held_ratios(card, "beta", fresh[0], fresh[1])
    assert ratios.max() <= card.likelihood_ratios["beta"].upper
    assert positive.sum() == (fresh[1] == 2).sum()
    # without images of the label there is nothing to measure
    assert set(measure_ratios(card, fresh[0][fresh[1] == 0], fresh[1][fresh[1] == 0])) == set()
