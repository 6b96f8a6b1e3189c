"""Tests of what held-out images give a card, and of how the card, the evaluation and the pictures tell it."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from forensic_train.calibrate import LEAST_THRESHOLD, calibrate, calibrated
from forensic_train.pictures import reliability, tippett
from PIL import Image

from forensic_cli.card import ConformalSets, LikelihoodRatio, ModelCard, SetFigures
from forensic_cli.model import softmax
from forensic_train.card_markdown import card_markdown
from forensic_train.evaluate import Evaluation, Scored, named_images
from forensic_train.evaluation_report import as_json, as_markdown, draw_calibration
from forensic_train.likelihood import measure_ratios
from forensic_train.metrics import Metrics
from toys import toy_card

LABELS = ("real", "alpha", "unknown", "beta")
DESCRIBED = "900 draws."


def draw(seed: int, images: int = 900, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Draw logits that are `scale` times too large, the labels behind them, and the subject of each image."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2, (images, 4))
    targets = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    return (true * scale).astype(np.float32), targets, [f"subject{n}" for n in rng.integers(0, 3, images)]


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return calibrated(toy_card(labels=LABELS), *draw(0), DESCRIBED)


def test_held_out_images_give_a_card_everything_at_once(card: ModelCard) -> None:
    assert card.calibration.temperature == pytest.approx(2, rel=0.1)
    assert card.calibration.ece_after is not None
    assert card.calibration.ece_before is not None
    assert card.calibration.ece_after < card.calibration.ece_before / 2
    assert LEAST_THRESHOLD <= card.threshold < 1
    assert card.sets is not None
    assert (card.sets.note, card.validation) == (DESCRIBED, DESCRIBED)
    known = {"real", "alpha", "beta"}
    assert {frozenset(one) for one in card.sets.quantiles.values()} == {frozenset(known)}
    assert set(card.likelihood_ratios) == known
    assert ModelCard.from_json(card.to_json()) == card


def test_the_sets_and_ratios_of_a_card_hold_on_other_images(card: ModelCard) -> None:
    logits, targets, _ = draw(1, 3000)
    probabilities = softmax(logits, card.calibration.temperature)
    assert card.sets is not None
    for level in card.sets.quantiles:
        sets = [card.sets.members(dict(zip(LABELS, row, strict=True)), level) for row in probabilities]
        for k in (0, 1, 3):
            holds = [LABELS[k] in one for one, target in zip(sets, targets, strict=True) if target == k]
            assert np.mean(holds) >= float(level) - 0.05
        assert "unknown" not in {label for one in sets for label in one}
    for cost in measure_ratios(card, probabilities, targets).values():
        assert cost.cllr < 0.8
        assert cost.cllr_cal < 0.05


def test_without_held_out_images_the_card_stays_as_it_is() -> None:
    bare = toy_card()
    assert calibrated(bare, np.zeros((0, 3), np.float32), np.zeros(0, np.int64), [], "none") is bare


def test_few_held_out_images_leave_every_verdict_open() -> None:
    logits = (np.eye(3)[[0, 1, 2, 0]] * 6).astype(np.float32)
    found = calibrated(toy_card(), logits, np.array([0, 1, 2, 0]), ["", "", "", ""], "4 draws.")
    assert found.sets is not None
    assert set(found.sets.quantiles["0.90"].values()) == {1.0}
    assert found.likelihood_ratios == {}
    assert not named_images(found, softmax(logits)).any()


def test_a_balanced_temperature_does_not_depend_on_how_many_images_a_generator_has() -> None:
    logits, targets, _ = draw(2, 2000)
    sure = np.where((targets == 0)[:, None], logits * 4, logits)  # one generator is far too sure
    often = np.concatenate([np.arange(2000), *[np.flatnonzero(targets == 0)] * 9])
    balanced = [calibrate(sure[i], targets[i], balanced=True).temperature for i in (np.arange(2000), often)]
    plain = [calibrate(sure[i], targets[i]).temperature for i in (np.arange(2000), often)]
    assert balanced[1] == pytest.approx(balanced[0], rel=1e-3)
    assert plain[1] > plain[0] * 1.2


def test_an_image_called_unknown_does_not_set_the_threshold() -> None:
    """One in seven is wrong, and all of these are called `unknown`: every name is right."""
    tops = np.array([0] * 200 + [1] * 180 + [2] * 60)
    targets = np.array([0] * 200 + [1] * 240)
    found = calibrated(toy_card(labels=LABELS), (np.eye(4)[tops] * 3).astype(np.float32), targets, ["a"] * 440, "")
    assert found.threshold < 1


def test_the_images_that_are_named_are_those_that_a_scan_names() -> None:
    quantiles = {"0.90": {"real": 0.35, "alpha": 0.35, "beta": 0.65}}
    one = toy_card(labels=LABELS, sets=ConformalSets(quantiles), threshold=0.6)
    rows = np.array(
        [[0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.1, 0.2, 0.6], [0.62, 0, 0, 0.38]]
    )
    assert named_images(one, rows).tolist() == [True, False, False, True, False]
    assert named_images(replace(one, sets=None), rows).tolist() == [True, True, False, True, True]


def evaluation(card: ModelCard) -> Evaluation:
    logits, targets, _ = draw(1, 300)
    probabilities = softmax(logits, card.calibration.temperature)
    metrics = Metrics(300, 0.5, (0.4, 0.6), 0.5, 0.5, 0.5, (), ((1,),), "a", 0.5, 3, 0.01, 0.5, 0.7, 0.25, 0.875)
    ratios = measure_ratios(card, probabilities, targets)
    return Evaluation(card.name, "baseline", "test", card.labels, metrics, ratios, Scored(card, probabilities, targets))


def test_the_evaluation_tells_the_costs_of_the_ratios(card: ModelCard, tmp_path: Path) -> None:
    one = evaluation(card)
    record = json.loads(as_json([one]))[0]
    assert "scored" not in record
    assert record["ratios"] == {label: asdict(costs) for label, costs in one.ratios.items()}
    text = as_markdown([one])
    real = one.ratios["real"]
    assert f"| real | {real.cllr:.3f} | {real.cllr_min:.3f} | {real.cllr_cal:.3f} | {real.images_for} |" in text
    assert "the verdict names a label for 25.0%; 87.5% of these names are right." in text
    paths = draw_calibration([one], tmp_path / "new")
    assert [path.name for path in paths] == ["native-baseline-test-reliability.png", "native-baseline-test-tippett.png"]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            assert picture.format == "PNG"


def test_an_evaluation_without_ratios_has_no_tippett_plot(card: ModelCard, tmp_path: Path) -> None:
    bare = evaluation(replace(card, likelihood_ratios={}))
    assert [path.name for path in draw_calibration([bare], tmp_path)] == ["native-baseline-test-reliability.png"]
    assert "Cllr" not in as_markdown([bare])


def test_a_tippett_plot_shows_the_share_of_ratios_above_each_value() -> None:
    figure = tippett({"alpha": (np.array([1.0, 2.0, -1.0, 0.5]), np.array([True, True, False, False]))}, "toy on test")
    upper, lower = figure.axes[0].lines[:2]
    assert list(zip(*upper.get_data(), strict=True)) == [(0.5, 1.0), (1.0, 0.5), (2.0, 0.0)]
    assert list(zip(*lower.get_data(), strict=True)) == [(-1.5, 1.0), (-1.0, 0.5), (0.5, 0.0)]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["alpha (2)", "another (2)"]
    assert len(tippett({}, "nothing").axes) == 0


def test_a_reliability_diagram_shows_accuracy_over_confidence() -> None:
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    figure = reliability(probabilities, np.array([0, 0, 0, 1, 1, 1]), "toy on test")
    points = figure.axes[0].collections[0].get_offsets()
    assert np.asarray(points) == pytest.approx(np.array([[0.6, 1.0], [0.9, 0.75]]))


@pytest.fixture
def told() -> Callable[..., str]:
    sets = ConformalSets(
        {"0.90": {"real": 0.5}, "0.50": {"real": 0.2}}, "0.90", 90, "90 toys.", {"0.90": SetFigures(0.925, 0.85, 1.75)}
    )
    ratio = LikelihoodRatio(1.0, 0.0, -1.25, 1.5, 30, 60, 4, 0.5, 0.375, 0.125)
    return lambda **more: card_markdown(
        toy_card(
            **{"labels": LABELS, "sets": sets, "likelihood_ratios": {"real": ratio}, "validation": "90 toys.", **more}
        ),
        "toy.onnx",
    )


def test_the_card_tells_of_its_sets_and_ratios_in_words(told: Callable[..., str]) -> None:
    text = told()
    for sentence in (
        "Names one of: real, alpha, beta.",
        "One candidate with enough confidence is named, several are `inconclusive`, none is `unknown`.",
        "The model's own output `unknown` is never a candidate; where it is on top the verdict is `unknown`.",
        "At coverage 0.90 (the default; `--coverage` chooses another)",
        "It holds for images like those, not for other sources. Validation: 90 toys.",
        "| 0.90 | 0.925 | 0.850 | 1.75 |",
        "the image is of this label, or it is of another one of the known labels",
        "| real | -1.25 | +1.50 | 0.500 | 0.375 | 0.125 | 30 | 60 | 4 |",
    ):
        assert sentence in text
    assert text.count("Validation: 90 toys.") == 2


def test_the_card_says_what_could_not_be_measured(told: Callable[..., str]) -> None:
    text = told(
        labels=("real", "alpha"),
        sets=ConformalSets({"0.90": {}}),
        likelihood_ratios={"real": LikelihoodRatio(1, 0, -1, 1, 12, 30)},
        validation="",
    )
    assert "All images belong to one group, so no figures for other groups can be given." in text
    assert "| real | -1.00 | +1.00 | – | – | – | 12 | 30 | chance |" in text
    for absent in ("Validation:", "output `unknown`", "candidates an image"):
        assert absent not in text


def test_a_card_without_sets_and_ratios_says_nothing_of_them(told: Callable[..., str]) -> None:
    text = told(sets=None, likelihood_ratios={})
    assert "## Candidates" not in text
    assert "## Likelihood ratios" not in text
