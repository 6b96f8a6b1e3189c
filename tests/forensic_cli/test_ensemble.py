"""Tests of ensemble: what fusion keeps, how ties fall, and what is said of an image and what is not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from forensic_cli.card import INCONCLUSIVE, NEVER, UNDECIDED, Decision, LikelihoodRatio
from forensic_cli.model import softmax
from forensic_cli.record import Verdict
from forensic_cli.verdict import (
    FUSIONS,
    MOST_CANDIDATES,
    decide,
    fuse_mean,
    fuse_vote,
    merge_ratios,
    predict,
    probabilities,
    shown_name,
    strength_of,
)
from toys import DECISION, toy_card

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


def answer(by_technique: dict[str, np.ndarray], decision: Decision | None = DECISION, fusion: str = "mean") -> Verdict:
    return decide(LABELS, by_technique, dict.fromkeys(by_technique, decision), fusion)


def test_a_tie_in_everything_goes_to_the_first_label() -> None:
    stacked = np.stack([p(0.2, 0.6, 0.2), p(0.6, 0.2, 0.2)])
    assert answer(dict(zip("ab", stacked, strict=True)), fusion="vote").label == "real"
    # Two generators in three are more than half: the first of them
    assert answer({"a": p(1 / 3, 1 / 3, 1 / 3)}).label == "alpha"
    assert answer({"a": p(1 / 2, 1 / 4, 1 / 4)}).label == "real"


def test_agreement_counts_the_techniques_that_say_the_same() -> None:
    by_technique = {"a": p(0.8, 0.1, 0.1), "b": p(0.7, 0.2, 0.1), "c": p(0.1, 0.8, 0.1)}
    verdict = answer(by_technique, Decision(generated_from=0.6, real_to=0.5))
    assert (verdict.verdict, verdict.agreement) == ("real", 0.666667)
    assert {name: one.label for name, one in verdict.techniques.items()} == {
        "a": "real",
        "b": "real",
        "c": "alpha",
    }
    assert verdict.scores == pytest.approx({"real": 1.6 / 3, "alpha": 1.1 / 3, "beta": 0.1}, abs=1e-6)


def test_the_mean_may_choose_a_label_that_no_technique_chose() -> None:
    by_technique = {"a": p(0.51, 0.0, 0.49), "b": p(0.0, 0.51, 0.49)}
    verdict = answer(by_technique, Decision(generated_from=0.7, name_from=0.6))
    assert (verdict.verdict, verdict.agreement) == ("beta", 0.0)


@pytest.mark.parametrize(
    ("scores", "headline", "verdict", "candidates"),
    [
        ((0.05, 0.9, 0.05), "generated", "alpha", ("alpha",)),
        ((0.1, 0.72, 0.18), "generated", "alpha", ("alpha", "beta")),
        ((0.1, 0.71, 0.19), "generated", INCONCLUSIVE, ("alpha", "beta")),
        ((0.11, 0.89, 0.0), UNDECIDED, INCONCLUSIVE, ()),
        ((0.89, 0.11, 0.0), UNDECIDED, INCONCLUSIVE, ()),
        ((0.9, 0.1, 0.0), "real", "real", ()),
        ((1.0, 0.0, 0.0), "real", "real", ()),
    ],
)
def test_the_answer_by_hand(
    scores: tuple[float, ...], headline: str, verdict: str, candidates: tuple[str, ...]
) -> None:
    """DECISION: generated from 0.9, real up to 0.1, a name from 0.8 of what the generators have, a list from 0.9."""
    given = answer({"a": p(*scores)})
    assert (given.headline, given.verdict, given.candidates) == (headline, verdict, candidates)
    assert given.p_generated == pytest.approx(1 - scores[0])


def test_the_label_unknown_names_no_generator_and_takes_its_share_of_the_list() -> None:
    labels = ("real", "alpha", "unknown")
    for scores, verdict, candidates in (
        (p(0.05, 0.05, 0.9), "unknown", ()),
        (p(0.05, 0.5, 0.45), INCONCLUSIVE, ()),
        (p(0.05, 0.9, 0.05), "alpha", ("alpha",)),
    ):
        given = decide(labels, {"a": scores}, {"a": DECISION})
        assert (given.headline, given.verdict, given.candidates) == ("generated", verdict, candidates)


def test_a_short_list_that_would_be_long_is_none() -> None:
    labels = ("real", *"abcde")
    even = np.array([0.0, *[1 / (MOST_CANDIDATES + 1)] * (MOST_CANDIDATES + 1), 0.0])
    assert decide(labels, {"a": even}, {"a": DECISION}).candidates == ()
    assert decide(labels, {"a": np.array([0.0, 0.4, 0.3, 0.25, 0.05, 0.0])}, {"a": DECISION}).candidates == (*"abc",)


def test_where_one_technique_does_not_answer_nothing_is_said() -> None:
    rows = {"a": p(0.01, 0.98, 0.01), "b": p(0.01, 0.98, 0.01)}
    ratio = LikelihoodRatio(1, 0, -2, 2)
    known = replace(DECISION, generated=ratio, ratios={"alpha": ratio})
    given = decide(LABELS, rows, {"a": known, "b": None}, name_from=0.0)
    assert (given.headline, given.verdict, given.candidates, given.p_generated) == (UNDECIDED, INCONCLUSIVE, (), None)
    assert given.strength is None
    assert (given.label, given.confidence) == ("alpha", 0.98)


def test_the_strictest_of_several_decisions_holds() -> None:
    rows = {"a": p(0.08, 0.82, 0.1), "b": p(0.08, 0.82, 0.1)}
    strict = replace(DECISION, generated_from=0.95)
    assert decide(LABELS, rows, {"a": DECISION, "b": DECISION}).headline == "generated"
    assert decide(LABELS, rows, {"a": DECISION, "b": strict}).headline == UNDECIDED
    rows = {"a": p(0.92, 0.04, 0.04), "b": p(0.92, 0.04, 0.04)}
    assert decide(LABELS, rows, {"a": DECISION, "b": DECISION}).headline == "real"
    assert decide(LABELS, rows, {"a": DECISION, "b": replace(DECISION, real_to=0.05)}).headline == UNDECIDED


def test_never_is_never_even_for_a_certain_image() -> None:
    given = answer({"a": p(0.0, 1.0, 0.0)}, Decision())
    assert (NEVER, given.headline, given.verdict) == (2.0, UNDECIDED, INCONCLUSIVE)
    assert answer({"a": p(1.0, 0.0, 0.0)}, Decision()).headline == UNDECIDED


@many
@given(STACKS, st.sampled_from(sorted(FUSIONS)), st.floats(0, 1), st.floats(0.5, 1), st.floats(0, 0.5))
def test_an_answer_is_consistent_in_itself(
    stacked: np.ndarray, fusion: str, name_from: float, generated_from: float, real_to: float
) -> None:
    labels = ("real", *labels_of(stacked)[1:])
    names = [f"technique{i}" for i in range(len(stacked))]
    decision = Decision(generated_from=generated_from, real_to=real_to, name_from=name_from)
    given = decide(labels, dict(zip(names, stacked, strict=True)), dict.fromkeys(names, decision), fusion)
    assert given.confidence == given.scores[given.label]
    if given.label == "real":
        assert given.p_generated <= 0.5
    else:
        assert given.confidence == max(given.scores[label] for label in labels[1:])
    assert given.p_generated == pytest.approx(1 - given.scores["real"], abs=2e-6)
    assert (given.headline == "real") == (given.verdict == "real")
    if given.headline == UNDECIDED:
        assert (given.verdict, given.candidates) == (INCONCLUSIVE, ())
    if given.verdict in labels[1:]:
        assert given.headline == "generated"
        assert given.scores[given.verdict] == max(given.scores[label] for label in labels[1:])
    assert set(given.candidates) <= set(labels[1:])
    assert len(given.candidates) <= MOST_CANDIDATES
    assert list(given.techniques) == names
    assert list(given.scores) == list(labels)
    same = sum(one.label == given.label for one in given.techniques.values())
    assert given.agreement == pytest.approx(same / len(names), abs=1e-6)


@many
@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32)))
def test_logits_become_a_probability_of_each_label(logits: np.ndarray) -> None:
    """With the numbers of an empty decision it is the softmax, whatever the labels' order."""
    card = toy_card(labels=("alpha", "real", "beta"))
    found = probabilities(card, Decision(), logits)
    assert found.sum(axis=1) == pytest.approx(np.ones(4), abs=1e-6)
    assert found == pytest.approx(softmax(logits), abs=1e-6)


def test_predict_names_probabilities_in_label_order() -> None:
    one = predict(LABELS, p(0.1, 0.2, 0.7), None)
    assert (one.label, one.confidence, one.p_generated) == ("beta", 0.7, 0.9)
    assert dict(one.scores) == {"real": 0.1, "alpha": 0.2, "beta": 0.7}


# Ratios, and words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (None, None),
        (-3.0, "no support"),
        (0.3, "no support"),
        (0.302, "weak support"),
        (0.999, "weak support"),
        (1.0, "moderate support"),
        (2.0, "moderately strong support"),
        (3.0, "strong support"),
        (4.0, "very strong support"),
        (6.0, "extremely strong support"),
        (99.0, "extremely strong support"),
    ],
)
def test_the_words_of_a_ratio(ratio: float | None, words: str | None) -> None:
    """ENFSI 2015: 2 to 10 is weak, 10 to 100 moderate, and so on."""
    assert strength_of("generated", "alpha", {} if ratio is None else {"alpha": ratio}) == words


@pytest.mark.parametrize(
    ("headline", "verdict", "ratios", "words"),
    [
        ("generated", "alpha", {"real": -3.5, "alpha": 1.5}, "moderate support"),
        ("generated", "alpha", {"real": -1.5, "alpha": 3.5}, "moderate support"),
        ("generated", "alpha", {"real": -1.5}, "moderate support"),
        ("generated", INCONCLUSIVE, {"real": -2.5, "alpha": 5.0}, "moderately strong support"),
        ("real", "real", {"real": 2.5, "alpha": 5.0}, "moderately strong support"),
        (UNDECIDED, INCONCLUSIVE, {"real": 2.5, "alpha": 5.0}, None),
        (UNDECIDED, "alpha", {"alpha": 5.0}, "very strong support"),
        ("generated", "alpha", {}, None),
    ],
)
def test_a_row_is_as_strong_as_the_weaker_of_its_statements(
    headline: str, verdict: str, ratios: dict[str, float], words: str | None
) -> None:
    assert strength_of(headline, verdict, ratios) == words


@pytest.mark.parametrize(
    ("verdict", "candidates", "words"),
    [
        ("alpha", ("alpha",), "alpha"),
        ("unknown", (), "unknown generator"),
        ("real", (), ""),
        (INCONCLUSIVE, (), ""),
        (INCONCLUSIVE, ("a",), "perhaps a"),
        (INCONCLUSIVE, ("a", "b"), "a or b"),
        (INCONCLUSIVE, ("a", "b", "c"), "a, b or c"),
    ],
)
def test_what_an_answer_names(verdict: str, candidates: tuple[str, ...], words: str) -> None:
    assert shown_name(verdict, candidates) == words


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


def test_decisions_bring_ratios_into_the_verdict() -> None:
    def decision(intercept: float) -> Decision:
        ratio = LikelihoodRatio(0, intercept, -1, 1)
        return replace(DECISION, generated=ratio, ratios={"alpha": ratio})

    rows = {"a": p(0.05, 0.9, 0.05), "b": p(0.05, 0.85, 0.1)}
    given = decide(LABELS, rows, {"a": decision(np.log(10) / 2), "b": decision(np.log(10) / 4)})
    assert dict(given.techniques["a"].log10_lr) == {"alpha": 0.5, "real": -0.5}
    assert dict(given.log10_lr) == {"real": -0.25, "alpha": 0.25}
    assert (given.generated_log10_lr, given.strength) == (0.25, "no support")
    opposed = decide(LABELS, rows, {"a": decision(1.0), "b": decision(-1.0)})
    assert json.dumps([opposed.generated_log10_lr, opposed.log10_lr["real"]]) == "[0.0, 0.0]"  # and not -0.0
