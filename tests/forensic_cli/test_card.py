"""Tests of card: what is written is read back, and nothing else passes for a card."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import CARD_VERSION, Calibration, ModelCard, Preprocessing
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
