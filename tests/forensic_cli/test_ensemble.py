"""Tests of ensemble: what fusion keeps, how ties fall, and when a verdict is inconclusive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forensic_cli.card import ConformalSets, LikelihoodRatio
from forensic_cli.ensemble import (
    FUSIONS,
    INCONCLUSIVE,
    UNKNOWN,
    decide,
    fuse_mean,
    fuse_vote,
    judge,
    merge_ratios,
    merge_sets,
    predict,
)
from toys import toy_card

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


# Sets and ratios


@pytest.mark.parametrize(
    ("label", "confidence", "candidates", "verdict"),
    [
        ("alpha", 0.7, None, "alpha"),
        ("alpha", 0.6, None, INCONCLUSIVE),
        ("alpha", 0.7, ("alpha",), "alpha"),
        ("alpha", 0.6, ("alpha",), INCONCLUSIVE),
        ("alpha", 0.9, ("real", "alpha"), INCONCLUSIVE),
        ("alpha", 0.9, ("real",), INCONCLUSIVE),
        ("alpha", 0.9, (), UNKNOWN),
        ("alpha", 0.1, (), UNKNOWN),
        (UNKNOWN, 0.9, ("alpha",), UNKNOWN),
        (UNKNOWN, 0.1, None, UNKNOWN),
    ],
)
def test_the_verdict_rule(label: str, confidence: float, candidates: tuple[str, ...] | None, verdict: str) -> None:
    assert judge(label, confidence, 0.7, candidates) == verdict


def test_a_label_stays_in_the_merged_set_where_half_of_the_sets_hold_it() -> None:
    sets = [("real", "beta"), ("beta",), ("real", "alpha"), ("beta",)]
    assert merge_sets(LABELS, sets) == ("real", "beta")
    assert merge_sets(LABELS, sets[:3]) == ("real", "beta")
    assert merge_sets(LABELS, sets[:1]) == sets[0]
    assert merge_sets(LABELS, [(), ("alpha",), ()]) == ()


def test_the_merged_ratio_is_the_most_cautious_one_and_0_where_signs_differ() -> None:
    ratios = [{"real": 1.5, "alpha": -2.0, "beta": 0.5}, {"real": 0.5, "alpha": -1.0, "beta": -0.1}, {"real": 2.0}]
    assert merge_ratios(LABELS, ratios) == {"real": 0.5, "alpha": -1.0, "beta": 0.0}
    assert merge_ratios(LABELS, [{"real": 1.0}, {"real": 0.0}]) == {"real": 0.0}
    assert merge_ratios(LABELS, [{}, {}]) == {}


@many
@given(st.lists(st.dictionaries(st.sampled_from(LABELS), st.floats(-3, 3)), min_size=1, max_size=4))
def test_a_merged_ratio_claims_no_more_than_any_technique(ratios: list[dict[str, float]]) -> None:
    merged = merge_ratios(LABELS, ratios)
    assert set(merged) == {label for one in ratios for label in one}
    for label, value in merged.items():
        for one in ratios:
            if label in one:
                assert abs(value) <= abs(one[label])
                assert value * one[label] >= 0


def test_cards_bring_sets_and_ratios_into_the_verdict() -> None:
    def card(real: float, intercept: float) -> object:
        quantiles = {"0.90": {"real": real, "alpha": 0.8, "beta": 0.5}, "0.50": dict.fromkeys(LABELS, 0.1)}
        ratio = LikelihoodRatio(0, intercept, -1, 1)
        return toy_card(sets=ConformalSets(quantiles), likelihood_ratios={"alpha": ratio})

    rows = {"a": p(0.7, 0.25, 0.05), "b": p(0.6, 0.15, 0.25)}
    cards = {"a": card(0.35, np.log(10) / 2), "b": card(0.35, np.log(10) / 4)}
    answer = decide(LABELS, rows, "mean", 0.5, cards, "0.90")  # type: ignore[arg-type]
    assert (answer.verdict, answer.label, answer.candidates) == (INCONCLUSIVE, "real", ("real", "alpha"))
    assert answer.techniques["a"].candidates == ("real", "alpha")
    assert answer.techniques["b"].candidates == ()
    assert (dict(answer.techniques["a"].log10_lr), dict(answer.log10_lr)) == ({"alpha": 0.5}, {"alpha": 0.25})
    assert decide(LABELS, rows, "mean", 0.5, cards, "0.50").verdict == UNKNOWN  # type: ignore[arg-type]
    assert decide(LABELS, rows, "mean", 0.5).verdict == "real"


def test_a_technique_without_sets_has_no_say_in_the_set() -> None:
    rows = {"a": p(0.2, 0.7, 0.1), "b": p(0.2, 0.7, 0.1)}
    cards = {"a": toy_card(), "b": toy_card(sets=ConformalSets({"0.90": {"real": 0.1, "alpha": 0.5, "beta": 0.1}}))}
    answer = decide(LABELS, rows, "mean", 0.5, cards, "0.90")
    assert (answer.verdict, answer.candidates) == ("alpha", ("alpha",))
