"""Tests of card: what is written is read back, and nothing else passes for a card."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import (
    CARD_VERSION,
    Calibration,
    ConformalSets,
    LikelihoodRatio,
    ModelCard,
    Preprocessing,
    SetFigures,
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
QUANTILES = st.dictionaries(TEXT, FRACTION, max_size=3)
SETS = st.builds(
    ConformalSets,
    quantiles=st.fixed_dictionaries({"0.90": QUANTILES}, optional={"0.50": QUANTILES}),
    default=st.just("0.90"),
    images=st.integers(0, 10**6),
    note=TEXT,
    measured=st.dictionaries(st.just("0.90"), st.builds(SetFigures, FRACTION, FRACTION, st.floats(0, 9))),
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
CARDS = st.builds(
    ModelCard,
    name=TEXT,
    technique=TEXT,
    recipe=TEXT,
    labels=st.lists(TEXT, min_size=2, max_size=6, unique=True).map(tuple),
    preprocessing=st.builds(
        Preprocessing, st.sampled_from(["whole", "patches"]), st.integers(8, 4096), st.integers(1, 16)
    ),
    calibration=st.builds(
        Calibration, st.floats(1e-3, 9999), st.integers(0, 10**6), st.none() | FRACTION, st.none() | FRACTION
    ),
    threshold=FRACTION,
    sets=st.none() | SETS,
    likelihood_ratios=st.dictionaries(TEXT, RATIOS, max_size=3),
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
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"threshold": None},
        {"preprocessing": {"mode": "squeeze", "size": 32}},
        {"preprocessing": {"mode": "whole", "size": 0}},
        {"preprocessing": {"mode": "whole", "size": 32, "grid": 0}},
        {"preprocessing": {"mode": "whole", "size": 32, "gird": 2}},
        {"preprocessing": None},
        {"calibration": {"temperature": 0}},
        {"calibration": {"temperature": -1}},
        {"calibration": {"temperature": "hot"}},
        {"calibration": {"temperature": float("nan")}},
        {"limits": None},
        {"name": None},
        {"technique": None},
        {"recipe": 5},
        {"data": ["alpha"]},
        {"metrics": "good"},
        {"sets": {}},
        {"sets": {"quantiles": {"0.90": {"real": 0.5}}, "default": "0.80"}},
        {"sets": {"quantiles": {"0.90": {"real": 1.5}}}},
        {"sets": {"quantiles": {"0.90": {"real": "0.5"}}}},
        {"sets": {"quantiles": {"0.90": [0.5]}}},
        {"sets": {"quantiles": {"90": {"real": 0.5}}, "default": "90"}},
        {"sets": {"quantiles": {"most": {"real": 0.5}}, "default": "most"}},
        {"sets": {"quantiles": {"0.90": {}}, "measured": {"0.90": {"coverage": 1}}}},
        {"likelihood_ratios": ["alpha"]},
        {"likelihood_ratios": {"alpha": {"slope": 1}}},
        {"likelihood_ratios": {"alpha": {"slope": -1, "intercept": 0, "lower": -1, "upper": 1}}},
        {"likelihood_ratios": {"alpha": {"slope": 1, "intercept": 0, "lower": 0.5, "upper": 1}}},
        {"likelihood_ratios": {"alpha": {"slope": 1, "intercept": float("inf"), "lower": -1, "upper": 1}}},
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
        f"the model card has version {version!r}, this genforensic reads 1: "
        "export the run again with `genforensic export`"
    )


def test_a_card_from_before_sets_and_ratios_is_read() -> None:
    raw = json.loads(toy_card().to_json())
    for name in ("sets", "likelihood_ratios", "validation"):
        del raw[name]
    assert ModelCard.from_json(json.dumps(raw)) == toy_card()


def test_a_set_holds_the_labels_within_their_quantiles_and_no_other() -> None:
    sets = ConformalSets({"0.90": {"real": 0.5, "alpha": 0.75}, "0.50": {"real": 0.25, "alpha": 0.25}})
    assert sets.members({"real": 0.5, "alpha": 0.25, "unknown": 0.25}, "0.90") == ("real", "alpha")
    assert sets.members({"real": 0.5, "alpha": 0.25, "unknown": 0.25}, "0.50") == ()
    assert sets.members({"alpha": 0.9, "real": 0.1}, "0.90") == ("alpha",)


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
