"""Tests of ensemble: what fusion keeps, how ties fall, and when a verdict is inconclusive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forensic_cli.ensemble import FUSIONS, INCONCLUSIVE, decide, fuse_mean, fuse_vote, predict

LABELS = ("real", "alpha", "beta")
shapes = st.tuples(st.integers(1, 5), st.integers(2, 6))
STACKS = shapes.flatmap(lambda shape: hnp.arrays(np.float64, shape, elements=st.floats(0.01, 1))).map(
    lambda raw: raw / raw.sum(axis=1, keepdims=True)
)
many = settings(max_examples=100, deadline=None)


def p(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def labels_of(stacked: np.ndarray) -> tuple[str, ...]:
    return tuple(f"label{k}" for k in range(stacked.shape[1]))


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@many
@given(STACKS)
def test_every_fusion_gives_probabilities_within_those_fused(fusion: str, stacked: np.ndarray) -> None:
    fused = FUSIONS[fusion](stacked)
    assert fused.shape == (stacked.shape[1],)
    assert fused.sum() == pytest.approx(1)
    assert (fused >= stacked.min(axis=0) - 1e-12).all()
    assert (fused <= stacked.max(axis=0) + 1e-12).all()


@pytest.mark.parametrize("fusion", sorted(FUSIONS))
@many
@given(STACKS)
def test_one_technique_or_several_equal_ones_are_fused_to_themselves(fusion: str, stacked: np.ndarray) -> None:
    assert FUSIONS[fusion](stacked[:1]) == pytest.approx(stacked[0])
    assert FUSIONS[fusion](np.repeat(stacked[:1], 3, axis=0)) == pytest.approx(stacked[0])


@many
@given(STACKS, st.randoms(use_true_random=False))
def test_the_order_of_the_techniques_does_not_change_the_mean(stacked: np.ndarray, random: object) -> None:
    order = list(range(len(stacked)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert fuse_mean(stacked[order]) == pytest.approx(fuse_mean(stacked))


@many
@given(STACKS)
def test_a_vote_goes_to_a_label_that_nobody_outvotes(stacked: np.ndarray) -> None:
    counts = np.bincount(stacked.argmax(axis=1), minlength=stacked.shape[1])
    assert counts[fuse_vote(stacked).argmax()] == counts.max()


def test_mean_and_vote_differ_where_one_is_sure_and_two_are_not() -> None:
    stacked = np.stack([p(0.9, 0.1, 0.0), p(0.4, 0.6, 0.0), p(0.45, 0.55, 0.0)])
    assert fuse_mean(stacked) == pytest.approx([1.75 / 3, 1.25 / 3, 0])
    assert fuse_vote(stacked) == pytest.approx([0.425, 0.575, 0])


def test_a_tied_vote_goes_to_the_higher_mean() -> None:
    stacked = np.stack([p(0.7, 0.2, 0.1), p(0.05, 0.9, 0.05)])
    assert fuse_vote(stacked) == pytest.approx([0.05, 0.9, 0.05])
    assert fuse_vote(stacked[::-1]) == pytest.approx([0.05, 0.9, 0.05])


def test_a_tie_in_everything_goes_to_the_first_label() -> None:
    stacked = np.stack([p(0.2, 0.6, 0.2), p(0.6, 0.2, 0.2)])
    assert decide(LABELS, dict(zip("ab", stacked, strict=True)), "vote", 0).label == "real"
    assert decide(LABELS, {"a": p(1 / 3, 1 / 3, 1 / 3)}, "mean", 0).label == "real"


def test_agreement_counts_the_techniques_that_say_the_same() -> None:
    by_technique = {"a": p(0.8, 0.1, 0.1), "b": p(0.7, 0.2, 0.1), "c": p(0.1, 0.8, 0.1)}
    verdict = decide(LABELS, by_technique, "mean", 0.5)
    assert (verdict.verdict, verdict.agreement) == ("real", 0.666667)
    assert {name: one.label for name, one in verdict.techniques.items()} == {
        "a": "real",
        "b": "real",
        "c": "alpha",
    }
    assert verdict.scores == pytest.approx({"real": 1.6 / 3, "alpha": 1.1 / 3, "beta": 0.1}, abs=1e-6)


def test_the_mean_may_choose_a_label_that_no_technique_chose() -> None:
    by_technique = {"a": p(0.51, 0.0, 0.49), "b": p(0.0, 0.51, 0.49)}
    verdict = decide(LABELS, by_technique, "mean", 0.4)
    assert (verdict.verdict, verdict.agreement) == ("beta", 0.0)


@pytest.mark.parametrize(
    ("threshold", "verdict"), [(0.0, "alpha"), (0.7, "alpha"), (0.700001, INCONCLUSIVE), (1.0, INCONCLUSIVE)]
)
def test_below_the_threshold_a_verdict_is_inconclusive(threshold: float, verdict: str) -> None:
    answer = decide(LABELS, {"a": p(0.2, 0.7, 0.1)}, "mean", threshold)
    assert answer.verdict == verdict
    assert (answer.label, answer.confidence, answer.agreement) == ("alpha", 0.7, 1.0)


@many
@given(STACKS, st.sampled_from(sorted(FUSIONS)), st.floats(0, 1))
def test_a_verdict_is_consistent_in_itself(stacked: np.ndarray, fusion: str, threshold: float) -> None:
    labels = labels_of(stacked)
    names = [f"technique{i}" for i in range(len(stacked))]
    answer = decide(labels, dict(zip(names, stacked, strict=True)), fusion, threshold)
    assert answer.confidence == answer.scores[answer.label] == max(answer.scores.values())
    assert answer.verdict == (answer.label if answer.confidence >= threshold else INCONCLUSIVE)
    assert list(answer.techniques) == names
    assert list(answer.scores) == list(labels)
    same = sum(one.label == answer.label for one in answer.techniques.values())
    assert answer.agreement == pytest.approx(same / len(names), abs=1e-6)


def test_predict_names_probabilities_in_label_order() -> None:
    one = predict(LABELS, p(0.1, 0.2, 0.7))
    assert (one.label, one.confidence) == ("beta", 0.7)
    assert dict(one.scores) == {"real": 0.1, "alpha": 0.2, "beta": 0.7}
