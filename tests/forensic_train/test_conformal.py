"""Tests of conformal sets: the coverage that they promise, in every group, and what a small group does to them."""

from itertools import pairwise

import numpy as np
import pytest
from forensic_train.conformal import LEVELS, conformal_sets, corrected_quantile
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = ("real", "alpha", "beta")


def draw(seed: int, images: int, groups: int, skew: float = 0.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw calibrated probabilities of images whose labels follow them, the later groups harder by `skew`."""
    rng = np.random.default_rng(seed)
    names = rng.integers(0, groups, images)
    logits = rng.normal(0, 1.5, (images, 3)) / (1 + skew * names[:, None])
    targets = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    exponents = np.exp(logits)
    return exponents / exponents.sum(axis=1, keepdims=True), targets, [f"subject{name}" for name in names]


def covered(sets: object, probabilities: np.ndarray, targets: np.ndarray, level: str) -> np.ndarray:
    rows = [dict(zip(LABELS, row, strict=True)) for row in probabilities]
    return np.array(
        [LABELS[k] in sets.members(row, level) for row, k in zip(rows, targets, strict=True)]  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(
    ("count", "level", "expected"),
    [(9, "0.90", 0.9), (8, "0.90", 1.0), (19, "0.95", 0.95), (18, "0.95", 1.0), (99, "0.99", 0.99), (9, "0.70", 0.7)],
)
def test_the_corrected_quantile_by_hand(count: int, level: str, expected: float) -> None:
    # nonconformities 1/(n+1), ..., n/(n+1): the corrected quantile at a level is the level itself
    scores = np.arange(count, 0, -1) / (count + 1)
    assert corrected_quantile(scores, level) == pytest.approx(expected, abs=1e-6)


def test_no_images_rule_nothing_out() -> None:
    assert {corrected_quantile(np.zeros(0), level) for level in LEVELS} == {1.0}
    sets = conformal_sets(np.array([[0.9, 0.05, 0.05]] * 12), np.zeros(12, np.int64), ["a"] * 12, LABELS)
    assert sets.members({"real": 0.9, "alpha": 0.0, "beta": 0.1}, "0.90") == ("real", "alpha", "beta")
    assert sets.quantiles["0.90"]["real"] == pytest.approx(0.1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(LEVELS), st.integers(1, 60))
def test_a_new_score_is_within_the_quantile_as_often_as_promised(seed: int, level: str, count: int) -> None:
    """Exchangeable scores: the guarantee is the level, whatever n; 400 draws leave 4.5 standard errors."""
    scores = np.random.default_rng(seed).random((400, count + 1))
    quantiles = [corrected_quantile(row[:-1], level) for row in scores]
    share = np.mean(scores[:, -1] <= quantiles)
    wanted = float(level)
    assert share >= wanted - 4.5 * np.sqrt(wanted * (1 - wanted) / 400)


def test_every_label_is_covered_in_the_hardest_group() -> None:
    sets = conformal_sets(*draw(0, 6000, 3, skew=1.0), LABELS)
    probabilities, targets, groups = draw(1, 6000, 3, skew=1.0)
    for level in LEVELS:
        holds = covered(sets, probabilities, targets, level)
        for name in set(groups):
            for k in range(3):
                here = holds[(np.array(groups) == name) & (targets == k)]
                assert here.mean() >= float(level) - 0.05


def test_one_quantile_for_all_groups_would_not_cover_the_hardest() -> None:
    """The reason for the worst over groups: without names for them the promise fails in one of them."""
    nonconformity = np.concatenate([np.linspace(0, 0.2, 80), np.linspace(0.5, 0.7, 20)])
    probabilities = np.stack([1 - nonconformity, nonconformity / 2, nonconformity / 2], axis=1)
    targets, names = np.zeros(100, np.int64), ["easy"] * 80 + ["hard"] * 20
    shares = []
    for groups in (["all"] * 100, names):
        sets = conformal_sets(probabilities, targets, groups, LABELS)
        shares.append(covered(sets, probabilities, targets, "0.80")[80:].mean())
    assert shares[0] < 0.1
    assert shares[1] >= 0.8


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 120), st.integers(1, 5))
def test_a_higher_coverage_never_takes_a_label_out(seed: int, images: int, groups: int) -> None:
    probabilities, targets, names = draw(seed, images, groups)
    sets = conformal_sets(probabilities, targets, names, LABELS)
    for label in LABELS:
        quantiles = [sets.quantiles[level][label] for level in LEVELS]
        assert quantiles == sorted(quantiles)
        assert quantiles[0] >= 0
        assert quantiles[-1] <= 1
    for row in draw(seed + 1, 20, 1)[0]:
        found = [set(sets.members(dict(zip(LABELS, row, strict=True)), level)) for level in LEVELS]
        assert all(small <= large for small, large in pairwise(found))


def test_a_group_of_few_images_is_pooled_and_does_not_open_every_set() -> None:
    good = np.array([[0.9, 0.1]] * 30)
    alone = conformal_sets(good, np.zeros(30, np.int64), ["a"] * 30, ("real", "alpha"))
    bad = np.array([[0.2, 0.8]] * 3)
    mixed = conformal_sets(np.vstack([good, bad]), np.zeros(33, np.int64), ["a"] * 30 + ["b"] * 3, ("real", "alpha"))
    assert alone.quantiles["0.90"]["real"] == pytest.approx(0.1)
    # three of 33 are a tenth: at 0.90 they begin to count, at 0.80 they do not
    assert (mixed.quantiles["0.80"]["real"], mixed.quantiles["0.90"]["real"]) == pytest.approx((0.1, 0.8))
    apart = conformal_sets(
        np.vstack([good, bad, bad, bad, bad]), np.zeros(42, np.int64), ["a"] * 30 + list("bcde") * 3, ("real", "alpha")
    )
    assert apart.quantiles["0.50"]["real"] == pytest.approx(0.8)


def test_the_label_unknown_has_no_quantile_and_its_images_do_not_count() -> None:
    probabilities, targets, groups = draw(3, 300, 2)
    sets = conformal_sets(probabilities, targets, groups, ("real", "unknown", "beta"), "0.80", "300 draws.")
    assert set(sets.quantiles["0.80"]) == {"real", "beta"}
    assert (sets.images, sets.default, sets.note) == (int((targets != 1).sum()), "0.80", "300 draws.")


def test_the_figures_are_those_of_left_out_groups() -> None:
    easy, hard = np.array([[0.9, 0.1]] * 20), np.array([[0.6, 0.4]] * 20)
    targets = np.zeros(40, np.int64)
    sets = conformal_sets(np.vstack([easy, hard]), targets, ["easy"] * 20 + ["hard"] * 20, ("real", "alpha"))
    # the easy group's quantile misses every hard image; nothing is known of alpha, so that it is always in
    measured = sets.measured["0.90"]
    assert (measured.coverage, measured.worst_coverage, measured.size) == (0.5, 0.0, 1.5)
    assert conformal_sets(easy, targets[:20], ["easy"] * 20, ("real", "alpha")).measured == {}
