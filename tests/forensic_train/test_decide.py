"""Tests of decisions: what they are chosen to, what they may say of sources that chose nothing, how a card tells it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.card import GENERATED, INCONCLUSIVE, NEVER, REAL, UNDECIDED, Decision, LikelihoodRatio, ModelCard
from forensic_cli.verdict import candidates_of, headline_of, probabilities, strictest, verdict_of
from forensic_train.card_markdown import card_markdown
from forensic_train.crossfit.scores import Scores
from forensic_train.decide import Answers, by_generator, by_source, fit_decisions, measure, nested_answers, silenced
from forensic_train.rows import Row
from forensic_train.signals import FORMS, ORIGINAL
from forensic_train.thresholds import (
    COVERED,
    LEAST_NAME,
    LEAST_SOURCES,
    RIGHT_HEADLINES,
    WRONG_PHOTOGRAPHS,
    Entries,
    fit_decision,
    state_entries,
    with_ratios,
)
from forensic_train.weights import source_weights
from toys import toy_card

LABELS = ("real", "alpha", "beta", "gamma")
CARD = toy_card(labels=LABELS, decisions={})


def judged(
    logits: np.ndarray, truth: Sequence[str], sources: Sequence[str], distances: np.ndarray | None = None
) -> Entries:
    far = np.zeros(len(truth), np.float32) if distances is None else distances.astype(np.float32)
    labels, names = np.array(truth), np.array(sources)
    weights = source_weights(labels, names)
    return Entries(logits.astype(np.float32), far, labels, names, weights, np.full(len(labels), ORIGINAL))


def draw(seed: int, lead: float, sources: int = 6, images: int = 20) -> Entries:
    """Draw logits of which the true label's are `lead` standard deviations above the others."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(LABELS, sources * images)
    names = [f"{label} {i // images % sources}" for i, label in enumerate(truth)]
    return judged(rng.normal(0, 1, (len(truth), 4)) + lead * (truth[:, None] == np.array(LABELS)), truth, names)


def headline_scores(generated: Sequence[float], real: Sequence[float]) -> Entries:
    """Return images whose logits say how much they look generated, each from one of five sources on its side."""
    truth = ["alpha"] * len(generated) + [REAL] * len(real)
    logits = np.array([[-score, 0.0, -9.0, -9.0] for score in (*generated, *real)])
    return judged(logits, truth, [f"{label} {i % 5}" for i, label in enumerate(truth)])


def headlines(decision: Decision, entries: Entries) -> np.ndarray:
    return np.array([headline_of(scores, strictest([decision])) for scores in rows(decision, entries)])


def verdicts(decision: Decision, entries: Entries) -> np.ndarray:
    limits = strictest([decision])
    return np.array([verdict_of(headline_of(s, limits), s, limits) for s in rows(decision, entries)])


def rows(decision: Decision, entries: Entries) -> list[dict[str, float]]:
    found = probabilities(CARD, decision, entries.logits)
    return [dict(zip(LABELS, row.tolist(), strict=True)) for row in found]


def appended(*parts: Entries) -> Entries:
    """Join entries and weigh them anew."""
    joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "truth", "sources")]
    return judged(joined[0], joined[1].tolist(), joined[2].tolist())


# The thresholds


@pytest.mark.parametrize("lead", [8, 60])
def test_scores_that_separate_everything_are_answered_from_one_half_on(lead: float) -> None:
    """However far apart: a threshold that rounds to 1 would be one that no probability reaches."""
    entries = draw(0, lead)
    decision = fit_decision(CARD, entries)
    assert max(decision.names_from.values()) < NEVER
    assert (headlines(decision, entries) == np.where(entries.truth == REAL, REAL, GENERATED)).all()
    assert (verdicts(decision, entries) == entries.truth).all()


def test_scores_that_are_all_the_same_answer_nothing() -> None:
    decision = fit_decision(CARD, headline_scores([0.3] * 40, [0.3] * 40))
    assert (decision.generated_from, decision.real_to) == (NEVER, -NEVER)
    assert set(decision.names_from.values()) == {NEVER}


def test_scores_of_chance_answer_next_to_nothing() -> None:
    shares = [(nested_answers(CARD, draw(seed, 0)).headlines != UNDECIDED).mean() for seed in range(4)]
    assert max(shares) < 0.1


def test_scores_that_speak_against_their_own_statement_answer_nothing() -> None:
    rng = np.random.default_rng(0)
    entries = headline_scores(rng.normal(-3, 1, 60).tolist(), rng.normal(3, 1, 60).tolist())
    decision = fit_decision(CARD, entries)
    assert (headlines(decision, entries) == UNDECIDED).mean() > 0.97


def test_what_only_some_generated_images_show_gives_a_headline_on_that_side_alone() -> None:
    entries = headline_scores([5] * 20 + [0] * 20, [0] * 40)
    decision = fit_decision(CARD, entries)
    assert decision.real_to == -NEVER
    assert headlines(decision, entries).tolist() == [GENERATED] * 20 + [UNDECIDED] * 60


def test_what_only_some_photographs_show_gives_a_headline_on_that_side_alone() -> None:
    entries = headline_scores([0] * 40, [0] * 20 + [-5] * 20)
    decision = fit_decision(CARD, entries)
    assert decision.generated_from == NEVER
    assert set(decision.names_from.values()) == {NEVER}
    assert headlines(decision, entries).tolist() == [UNDECIDED] * 60 + [REAL] * 20


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6), st.integers(0, 2))
def test_hardly_any_photograph_is_called_generated_and_hardly_any_headline_is_wrong(
    seed: int, lead: float, digits: int
) -> None:
    """Rounded logits have many ties, which no threshold can divide."""
    drawn = draw(seed, lead, images=12)
    entries = replace(drawn, logits=drawn.logits.round(digits)).at(np.arange(len(drawn))[:: 1 - seed % 2 * 2])
    called = headlines(fit_decision(CARD, entries), entries)
    real, weights = entries.truth == REAL, entries.weights
    assert weights[real & (called == GENERATED)].sum() <= WRONG_PHOTOGRAPHS * weights[real].sum() + 1e-9
    for headline, right in ((GENERATED, ~real), (REAL, real)):
        here = called == headline
        if here.any():
            assert weights[here & right].sum() / weights[here].sum() >= RIGHT_HEADLINES - 1e-9


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 6))
def test_names_are_right_and_more_probable_than_all_others_together(seed: int, lead: float) -> None:
    entries = draw(seed, lead, images=12)
    decision = fit_decision(CARD, entries)
    assert min(decision.names_from.values()) >= LEAST_NAME
    called = verdicts(decision, entries)
    named = np.isin(called, CARD.generators)
    assert set(headlines(decision, entries)[named]) <= {GENERATED}
    if named.any():
        right = entries.weights[named & (called == entries.truth)].sum()
        assert right / entries.weights[named].sum() >= 0.94


@pytest.mark.parametrize("lead", [0.5, 1.5, 3.0])
def test_short_lists_hold_the_generator_as_often_as_promised(lead: float) -> None:
    entries = draw(3, lead)
    decision = fit_decision(CARD, entries)
    lists = [candidates_of(scores, strictest([decision])) for scores in rows(decision, entries)]
    holds = np.array([label in short for label, short in zip(entries.truth, lists, strict=True)])
    known = entries.truth != REAL
    assert entries.weights[known & holds].sum() / entries.weights[known].sum() >= COVERED
    assert max(map(len, lists)) <= 3


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_scale_of_the_generators_logits(scale: float) -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (6000, 4))
    truth = np.array(LABELS)[1 + (true[:, 1:] + rng.gumbel(size=(6000, 3))).argmax(axis=1)]  # a draw from softmax(true)
    decision = fit_decision(CARD, judged(true * scale, truth.tolist(), [f"{i % 9}" for i in range(6000)]))
    assert decision.temperature == pytest.approx(scale, rel=0.06)


# Sources


@pytest.mark.parametrize("label", ["real", "alpha"])
def test_a_source_weighs_the_same_however_many_images_it_has(label: str) -> None:
    first = replace(draw(5, 1.5), distances=np.random.default_rng(1).random(480).astype(np.float32))
    copied = np.concatenate([np.arange(480), *[np.flatnonzero(first.sources == f"{label} 2")] * 9])
    many = first.at(copied)
    many = replace(many, weights=source_weights(many.truth, many.sources))
    few, often = fit_decision(CARD, first), fit_decision(CARD, many)
    for name in ("slope", "intercept", "temperature", "generated_from", "real_to", "name_from", "shortlist"):
        assert getattr(often, name) == pytest.approx(getattr(few, name), abs=1e-3), name
    assert often.farthest == few.farthest
    assert (verdicts(few, first) == verdicts(often, first)).all()


def test_weights_are_even_over_sources_labels_and_sides() -> None:
    truth = np.array(["real"] * 3 + ["alpha"] * 4 + ["beta"])
    weights = source_weights(truth, np.array(["a", "a", "b", "c", "c", "c", "d", "c"]))
    assert weights == pytest.approx([1 / 4, 1 / 4, 1 / 2, 1 / 12, 1 / 12, 1 / 12, 1 / 4, 1 / 2])


def test_a_source_of_photographs_is_never_judged_by_a_decision_that_it_chose() -> None:
    """All of one source looks generated: known to a decision it stops headlines, unknown to it it is called so."""
    entries = draw(0, 6)
    odd = entries.sources == "real 3"
    entries.logits[odd] = entries.logits[entries.sources == "beta 1"] + 3
    assert not (headlines(fit_decision(CARD, entries), entries)[odd] == GENERATED).any()
    answers = nested_answers(CARD, entries)
    assert (answers.headlines[odd] == GENERATED).all()
    assert measure(CARD, answers)["real_called_generated"] == pytest.approx(1 / 6, abs=0.01)


def test_a_generators_source_whose_scores_are_inverted_is_judged_wrongly() -> None:
    entries = draw(1, 6)
    odd = entries.sources == "alpha 2"
    entries.logits[odd] *= -1
    entries.logits[odd, 0] += 12
    answers = nested_answers(CARD, entries)
    assert (answers.headlines[odd] == REAL).all()
    assert (answers.tops[odd] == REAL).all()
    lines = {(label, source): line for label, source, *line in by_source({"any": answers})}
    assert lines["alpha", "alpha 2"] == [20, "0.00", "0.00", "1.00", "0.00", "0.00"]
    assert lines["beta", "beta 2"][:2] == [20, "1.00"]


def test_every_image_is_answered_for_and_only_generated_ones_are_named() -> None:
    for lead in (1.0, 2.0, 4.0):
        answers = nested_answers(CARD, draw(7, lead))
        assert set(answers.tops.tolist()) <= set(LABELS)
        named = np.isin(answers.verdicts, CARD.generators)
        assert set(answers.headlines[named].tolist()) <= {GENERATED}
        assert set(answers.verdicts[answers.headlines == UNDECIDED].tolist()) <= {INCONCLUSIVE}
        assert set(answers.verdicts[answers.headlines == REAL].tolist()) <= {REAL}


def test_a_picture_beyond_the_farthest_is_undecided() -> None:
    entries = draw(2, 8)
    distances = np.random.default_rng(0).random(480).astype(np.float32)
    places = np.flatnonzero(entries.sources == "gamma 4")
    distances[places[::2]] = 5
    far = replace(entries, distances=distances)
    decision = fit_decision(CARD, entries.at(np.arange(480)))
    assert decision.farthest is None  # no distance was measured
    answers, near = nested_answers(CARD, far), nested_answers(CARD, entries)
    assert answers.headlines[places].tolist() == [UNDECIDED, GENERATED] * 10
    assert answers.verdicts[places].tolist() == [INCONCLUSIVE, "gamma"] * 10
    assert set(near.headlines[places].tolist()) == {GENERATED}


# States


def scores_of(parts: Sequence[tuple[str, Entries]], forms: int = 1) -> Scores:
    """Return scores of images in the named states, in so many equal forms, the labels in another order."""
    order = [2, 0, 3, 1]
    whole = [np.concatenate([getattr(part, name) for _, part in parts]) for name in ("logits", "truth", "sources")]
    images = tuple(
        Row(Path(f"{i}.png"), label, "", source=source)
        for i, (label, source) in enumerate(zip(whole[1].tolist(), whole[2].tolist(), strict=True))
    )
    states = np.array([state for state, part in parts for _ in range(len(part))])
    return Scores(
        "baseline",
        tuple(LABELS[k] for k in order),
        images,
        np.zeros(len(images), np.int64),
        FORMS[:forms],
        np.repeat(states[:, None], forms, axis=1),
        np.repeat(whole[0][:, None, order], forms, axis=1),
        np.zeros((len(images), forms), np.float32),
    )


def of_sources(entries: Entries, label: str, count: int) -> Entries:
    """Return entries with the first `count` sources of a label alone."""
    names = [f"{label} {i}" for i in range(count)]
    return entries.at((entries.truth != label) | np.isin(entries.sources, names))


STATES = ("jpeg", "webp", "lossless")


@pytest.fixture(scope="module")
def decided() -> ModelCard:
    """Return a card of three states: good scores, scores of chance, and too few sources of photographs."""
    card = replace(CARD, states=STATES, validation="960 toys.")
    few = of_sources(draw(12, 4), REAL, LEAST_SOURCES - 1)
    scores = scores_of([("jpeg", draw(10, 4)), ("webp", draw(11, 0)), ("lossless", few)], forms=2)
    return replace(card, decisions=fit_decisions(card, scores))


def test_every_state_is_decided_by_its_own_images(decided: ModelCard) -> None:
    assert set(decided.decisions) == {"jpeg", "webp"}
    good, bad = decided.decisions["jpeg"], decided.decisions["webp"]
    assert set(good.measured) == set(bad.measured) == {"all forms", "as found", FORMS[1]}
    found = good.measured["as found"]
    assert (found["images"], found["sources"], found["labels"]) == (480, 24, 4)
    assert good.measured["all forms"]["images"] == 960
    assert good.measured[FORMS[1]]["images"] == 480
    assert found["auroc"] > 0.98
    assert found["decided"] > 0.8
    assert found["decided_right"] > 0.95
    assert found["named_right"] > 0.9
    low, high = found["intervals"]["decided"]
    assert low <= found["decided"] <= high
    assert bad.measured["as found"]["decided"] < 0.1
    assert 0.35 < bad.measured["as found"]["auroc"] < 0.65


@pytest.mark.parametrize(
    ("label", "count", "answered"),
    [(REAL, LEAST_SOURCES, True), (REAL, LEAST_SOURCES - 1, False), (REAL, 0, False)],
)
def test_a_state_with_too_few_sources_of_photographs_is_not_answered_for(
    label: str, count: int, answered: bool
) -> None:
    decisions = fit_decisions(CARD, scores_of([("any", of_sources(draw(0, 5, images=5), label, count))]))
    assert set(decisions) == ({"any"} if answered else set())


def test_a_state_with_too_few_sources_of_generated_images_is_not_answered_for() -> None:
    entries = draw(0, 5, images=5)
    for count in (LEAST_SOURCES - 1, LEAST_SOURCES):
        some = entries.at((entries.truth == REAL) | np.isin(entries.sources, [f"alpha {i}" for i in range(count)]))
        assert bool(fit_decisions(CARD, scores_of([("any", some)]))) == (count == LEAST_SOURCES)


def test_a_model_without_real_names_generators_and_has_no_headline() -> None:
    card = toy_card(labels=LABELS[1:], decisions={})
    entries = draw(0, 5)
    entries = entries.at(entries.truth != REAL)
    scores = scores_of([("any", entries)])
    scores = replace(scores, labels=LABELS[1:], logits=entries.logits[:, None, 1:])
    (decision,) = fit_decisions(card, scores).values()
    assert (decision.generated_from, decision.generated) == (NEVER, None)
    figures = decision.measured["all forms"]
    assert figures["named_right"] > 0.95
    assert (figures["decided"], figures["auroc"], figures["real_called_generated"]) == (0, None, None)


def test_entries_are_in_the_cards_order_of_labels() -> None:
    entries = draw(0, 3)
    found = state_entries(CARD, scores_of([("jpeg", entries)]))["any"]
    assert np.array_equal(found.logits, entries.logits)
    assert found.truth.tolist() == entries.truth.tolist()


# Likelihood ratios


def test_ratios_are_given_for_what_is_better_than_silence_and_for_nothing_else(decided: ModelCard) -> None:
    good, bad = decided.decisions["jpeg"], decided.decisions["webp"]
    assert set(good.ratios) == {"alpha", "beta", "gamma"}
    assert good.generated is not None
    assert good.generated.cllr is not None
    assert good.generated.cllr < 0.3
    assert good.generated.lower < 0 < good.generated.upper <= np.log10(961)
    assert (bad.ratios, bad.generated) == ({}, None)


def test_the_headline_may_have_a_ratio_where_no_generator_has_one() -> None:
    entries = draw(4, 0)
    entries.logits[entries.truth == REAL, 0] += 6
    decision = with_ratios(CARD, fit_decision(CARD, entries), entries)
    assert decision.generated is not None
    assert decision.ratios == {}


# Figures


def test_headlines_that_a_decision_never_gives_are_taken_back() -> None:
    easy = draw(3, 6)
    answers = nested_answers(CARD, easy)
    answers.headlines[easy.truth == "gamma"] = REAL
    taken = silenced(answers, Decision(generated_from=0.5))
    assert (taken.headlines[answers.headlines == REAL] == UNDECIDED).all()
    assert (taken.verdicts[answers.headlines == REAL] == INCONCLUSIVE).all()
    assert (taken.headlines == GENERATED).sum() == (answers.headlines == GENERATED).sum() > 0


def test_the_figures_by_hand() -> None:
    truth = ["real"] * 4 + ["alpha"] * 4 + ["beta"] * 2
    answers = Answers(
        judged(np.zeros((10, 4)), truth, ["a", "a", "b", "b", "c", "c", "d", "d", "c", "e"]),
        np.array([REAL, REAL, UNDECIDED, GENERATED, *[GENERATED] * 3, REAL, GENERATED, UNDECIDED]),
        np.array([REAL, REAL, INCONCLUSIVE, "alpha", "alpha", "beta", INCONCLUSIVE, REAL, "beta", INCONCLUSIVE]),
        np.array(["real", "real", "real", "alpha", "alpha", "beta", "alpha", "real", "beta", "beta"]),
        np.array([0.1, 0.1, 0.4, 0.9, 0.9, 0.9, 0.9, 0.1, 0.9, 0.6]),
    )
    figures = measure(CARD, answers)
    wanted = {
        "images": 10,
        "sources": 5,
        "labels": 3,
        "macro_recall": (3 / 4 + 2 / 4 + 1) / 3,
        # each real image weighs 1/4, each of alpha 1/8, each of beta 1/4
        "auroc": 5 / 8 * (3 / 4 + 1 / 8) + 1 / 4 * 3 / 4 + 1 / 8 * 1 / 4,
        "decided": (3 / 4 + 4 / 8 + 1 / 4) / 2,
        "decided_right": (2 / 4 + 3 / 8 + 1 / 4) / (3 / 4 + 4 / 8 + 1 / 4),
        "real_called_generated": 1 / 4,
        "real_found": 2 / 4,
        "generated_called_real": 1 / 8,
        "generated_found": 3 / 8 + 1 / 4,
        "named": 2 / 8 + 1 / 4,
        "named_right": (1 / 8 + 1 / 4) / (1 / 4 + 2 / 8 + 1 / 4),
        # bins of .1, .4, .6 and .9
        "ece": (abs(1 / 8 - 0.1 * 5 / 8) + 0.4 / 4 + 0.4 / 4 + abs(5 / 8 - 0.9 * 7 / 8)) / 2,
    }
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted, abs=1e-4)
    for name, (low, high) in figures["intervals"].items():
        assert 0 <= low <= high <= 1, name
    lines = list(by_generator({"any": answers}))
    assert lines[0] == ["any", "alpha", 4, 2, "0.50", "0.75", "0.25", "0.25", "0.25"]
    assert lines[2] == ["any", "real", 4, 2, "0.75", "0.50", "0.25", "0.00", "0.25"]
    first = next(by_source({"any": answers, "other": answers}))
    assert first == ["alpha", "c", 4, "0.50", "1.00", "0.00", "0.50", "0.50"]


# The card


def test_decisions_survive_the_cards_json(decided: ModelCard) -> None:
    assert ModelCard.from_json(decided.to_json()) == decided
    assert json.loads(decided.to_json())["decisions"]["jpeg"]["ratios"]["alpha"]["cllr"] < 1


def test_the_card_tells_of_every_state_in_words(decided: ModelCard) -> None:
    text = card_markdown(decided, "toy.onnx")
    assert "images in any other state stay `undecided`" in text
    assert "## Validation\n\n960 toys." in text
    for state, decision in decided.decisions.items():
        for forms, figures in decision.measured.items():
            low, high = figures["intervals"]["auroc"]
            silent = " (gives no answer)" if decision.is_silent else ""
            start = f"| {state}, {forms}{silent} | {figures['images']} | 24 |"
            (line,) = [line for line in text.splitlines() if line.startswith(start)]
            assert f"| {figures['auroc']:.2f} ({low:.2f}–{high:.2f}) |" in line
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {state} | ") and line.count("|") == 7]
        assert line.endswith(f"| {decision.shortlist:.2f} | – |")
    assert "\n| lossless" not in text


def test_the_card_tells_thresholds_and_ratios() -> None:
    ratio = LikelihoodRatio(1.0, 0.0, -1.25, 1.5, 30, 60, 4, 0.5, 0.375, 0.125)
    decisions = {
        "jpeg": Decision(
            generated_from=0.75, real_to=0.25, name_from=0.5, names_from={"alpha": 0.6}, farthest=3.5, generated=ratio
        ),
        "webp": Decision(real_to=0.125, ratios={"beta": replace(ratio, cllr=None, cllr_min=None, cllr_cal=None)}),
    }
    text = card_markdown(replace(CARD, states=STATES, decisions=decisions), "toy.onnx")
    for line in (
        "Names one of: real, alpha, beta, gamma.",
        "| jpeg | 0.7500 | 0.2500 | alpha 0.60, others 0.50 | 0.90 | 3.50 |",
        "| webp | never | 0.1250 | never | 0.90 | – |",
        "| jpeg, generated / real | -1.25 | +1.50 | 0.500 | 0.375 | 0.125 | 30 | 60 | 4 |",
        "| webp, beta | -1.25 | +1.50 | – | – | – | 30 | 60 | 4 |",
    ):
        assert line in text.splitlines()


def test_the_card_says_what_it_has_nothing_of() -> None:
    text = card_markdown(replace(CARD, decisions={"any": Decision()}), "toy.onnx")
    assert "No likelihood ratio is clearly better than none on left-out sources, so none is given." in text
    assert "| any | never | never | never | 0.90 | – |" in text.splitlines()
    bare = card_markdown(CARD, "toy.onnx")
    assert "No images were set aside to choose thresholds: the answer to every image is `undecided`." in bare
    assert "## Thresholds" not in bare
    assert "## Likelihood ratios" not in bare
