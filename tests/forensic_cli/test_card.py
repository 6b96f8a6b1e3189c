"""Tests of card: a card survives writing and reading, and nothing else is accepted as one."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import (
    CARD_VERSION,
    Decision,
    LikelihoodRatio,
    ModelCard,
    Preprocessing,
)
from forensic_cli.errors import ModelError
from toys import toy_card

TEXT = st.text(max_size=12)
FRACTION = st.floats(0, 1)
COUNTS = st.dictionaries(TEXT, st.dictionaries(TEXT, st.integers(0, 10**6), max_size=3), max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
COST = st.none() | st.floats(0, 9)
RATIOS = st.builds(
    LikelihoodRatio,
    slope=st.floats(0, 99),
    intercept=st.floats(-99, 99),
    lower=st.floats(-9, 0),
    upper=st.floats(0, 9),
    images_for=st.integers(0, 10**6),
    images_against=st.integers(0, 10**6),
    groups=st.integers(0, 99),
    cllr=COST,
    cllr_min=COST,
    cllr_cal=COST,
)
DECISIONS = st.builds(
    Decision,
    slope=st.floats(1e-3, 99),
    intercept=st.floats(-99, 99),
    temperature=st.floats(1e-3, 9999),
    generated_from=st.floats(0.5, 2),
    real_to=st.floats(-2, 0.5),
    name_from=st.floats(0, 2),
    shortlist=FRACTION,
    farthest=st.none() | st.floats(0, 99),
    generated=st.none() | RATIOS,
    ratios=st.dictionaries(st.sampled_from(["alpha", "beta"]), RATIOS),
    measured=st.dictionaries(TEXT, JSON, max_size=3),
)
RATIO = {"slope": 1, "intercept": 0, "lower": -1, "upper": 1}
CARDS = st.builds(
    ModelCard,
    name=TEXT,
    technique=TEXT,
    recipe=TEXT,
    labels=st.permutations(["real", "alpha", "beta", "unknown"]).map(tuple),
    preprocessing=st.builds(
        Preprocessing, st.sampled_from(["whole", "patches"]), st.integers(8, 4096), st.integers(1, 16)
    ),
    states=st.just(("lossless", "webp")),
    decisions=st.dictionaries(st.sampled_from(["any", "lossless", "webp"]), DECISIONS),
    validation=TEXT,
    data=COUNTS,
    sources=COUNTS,
    metrics=st.dictionaries(TEXT, JSON, max_size=3),
    robustness=st.dictionaries(TEXT, JSON, max_size=3),
    training=st.dictionaries(TEXT, JSON, max_size=3),
    limits=st.lists(TEXT, max_size=3).map(tuple),
    created=TEXT,
    genforensic=TEXT,
)


@settings(max_examples=80, deadline=None)
@given(CARDS)
def test_a_card_survives_its_json(card: ModelCard) -> None:
    assert ModelCard.from_json(card.to_json()) == card


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_card_with_any_field_replaced_is_a_card_or_a_model_error(data: st.DataObject) -> None:
    raw = json.loads(toy_card().to_json())
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(JSON)
    try:
        card = ModelCard.from_json(json.dumps(raw))
    except ModelError:
        return
    assert len(card.labels) >= 2
    assert ModelCard.from_json(card.to_json()) == card


def test_a_refused_card_is_described_in_one_line() -> None:
    raw = json.loads(toy_card().to_json())
    raw["preprocessing"]["line\nbreak"] = 1
    with pytest.raises(ModelError) as caught:
        ModelCard.from_json(json.dumps(raw))
    assert len(str(caught.value).splitlines()) == 1


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_text_is_not_a_card(text: str) -> None:
    with pytest.raises(ModelError):
        ModelCard.from_json(text)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "5", '"card"', "{}", "[" * 100_000], ids=lambda t: t[:6])
def test_other_json_is_not_a_card(text: str) -> None:
    with pytest.raises(ModelError):
        ModelCard.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": []},
        {"labels": ["real"]},
        {"labels": ["real", "real"]},
        {"labels": None},
        {"preprocessing": {"mode": "squeeze", "size": 32}},
        {"preprocessing": {"mode": "whole", "size": 0}},
        {"preprocessing": {"mode": "whole", "size": 32, "grid": 0}},
        {"preprocessing": {"mode": "whole", "size": 32, "gird": 2}},
        {"preprocessing": None},
        {"limits": None},
        {"name": None},
        {"technique": None},
        {"recipe": 5},
        {"data": ["alpha"]},
        {"metrics": "good"},
        {"states": []},
        {"decisions": ["any"]},
        {"decisions": {"lossless": {}}},
        {"decisions": {"any": None}},
        {"decisions": {"any": {"threshold": 0.5}}},
        {"decisions": {"any": {"slope": 0}}},
        {"decisions": {"any": {"temperature": 0}}},
        {"decisions": {"any": {"temperature": "hot"}}},
        {"decisions": {"any": {"intercept": float("nan")}}},
        {"decisions": {"any": {"generated_from": float("inf")}}},
        {"decisions": {"any": {"name_from": "0.5"}}},
        {"decisions": {"any": {"farthest": "far"}}},
        {"decisions": {"any": {"generated_from": 0.4, "real_to": 0.5}}},
        {"decisions": {"any": {"measured": ["good"]}}},
        {"decisions": {"any": {"generated": {}}}},
        {"decisions": {"any": {"ratios": ["alpha"]}}},
        {"decisions": {"any": {"ratios": {"alpha": {"slope": 1}}}}},
        {"decisions": {"any": {"ratios": {"gamma": RATIO}}}},
        {"decisions": {"any": {"ratios": {"real": RATIO}}}},
        {"decisions": {"any": {"ratios": {"alpha": {**RATIO, "slope": -1}}}}},
        {"decisions": {"any": {"ratios": {"alpha": {**RATIO, "lower": 0.5}}}}},
        {"decisions": {"any": {"generated": {**RATIO, "intercept": float("inf")}}}},
        {"decisions": {"any": {"generated": RATIO}}, "labels": ["alpha", "beta"]},
        {"validation": 5},
    ],
    ids=str,
)
def test_a_card_with_a_wrong_value_is_a_model_error(change: dict[str, Any]) -> None:
    raw = {**json.loads(toy_card().to_json()), **change}
    with pytest.raises(ModelError) as caught:
        ModelCard.from_json(json.dumps(raw))
    assert str(caught.value).startswith("the model card cannot be read (")


@pytest.mark.parametrize("field", ["name", "technique", "recipe", "labels", "preprocessing"])
def test_a_card_without_a_needed_field_is_a_model_error(field: str) -> None:
    raw = json.loads(toy_card().to_json())
    del raw[field]
    with pytest.raises(ModelError):
        ModelCard.from_json(json.dumps(raw))


def test_a_field_of_a_later_version_is_ignored() -> None:
    raw = {**json.loads(toy_card().to_json()), "added_later": [1]}
    assert ModelCard.from_json(json.dumps(raw)) == toy_card()


@pytest.mark.parametrize("version", [CARD_VERSION + 1, None, "1"])
def test_another_card_version_says_what_to_do(version: object) -> None:
    raw = {**json.loads(toy_card().to_json()), "card_version": version}
    with pytest.raises(ModelError) as caught:
        ModelCard.from_json(json.dumps(raw))
    assert str(caught.value) == (
        f"the model card has version {version!r}, but this genforensic reads version 2: "
        "export the run again with `genforensic export`"
    )


def test_a_state_has_its_own_decision_or_that_of_any() -> None:
    own, other = Decision(name_from=0.5), Decision(name_from=0.6)
    card = toy_card(states=("lossless", "webp"), decisions={"webp": own})
    assert (card.decision("webp"), card.decision("lossless"), card.decision("other")) == (own, None, None)
    card = toy_card(states=("lossless", "webp"), decisions={"webp": own, "any": other})
    assert (card.decision("webp"), card.decision("lossless"), card.decision("other")) == (own, other, other)


def test_what_a_card_may_name_is_neither_real_nor_unknown() -> None:
    assert toy_card(labels=("beta", "real", "unknown", "alpha")).generators == ("beta", "alpha")


def test_a_likelihood_ratio_by_hand() -> None:
    ratio = LikelihoodRatio(slope=2, intercept=math.log(10), lower=-1.5, upper=2.0)
    assert ratio.log10(0.5) == pytest.approx(1)
    assert ratio.log10(2 / 3) == pytest.approx(1 + 2 * math.log10(2))
    assert (ratio.log10(0.0), ratio.log10(1.0)) == (-1.5, 2.0)


@settings(max_examples=100, deadline=None)
@given(RATIOS, FRACTION, FRACTION)
def test_a_likelihood_ratio_is_bounded_and_rises_with_the_probability(one: LikelihoodRatio, p: float, q: float) -> None:
    low, high = sorted((p, q))
    assert one.lower <= one.log10(low) <= one.log10(high) <= one.upper
