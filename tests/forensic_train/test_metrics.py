"""Metrics of exports against numbers worked out by hand."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from forensic_cli.errors import DataError
from forensic_cli.model import Model
from forensic_cli.verdict import top_labels
from forensic_train.evaluate import (
    Evaluation,
    calibrated_rows,
    evaluate_all,
    evaluate_model,
    expected_calibration_error,
    image_sets,
    infer,
    measure,
)
from forensic_train.evaluation_report import as_json, as_markdown, draw_confusions, ranked
from forensic_train.metrics import class_table, wilson_interval, worst_cell
from forensic_train.rows import Row
from toys import DECISION, make_images, solid, toy_card, write_toy_export


def test_wilsons_interval() -> None:
    """PAPER: 34 of 37 is .79 to .97."""
    assert [round(bound, 2) for bound in wilson_interval(34, 37)] == [0.79, 0.97]
    # without a hit the upper bound is z^2 / (n + z^2), without a miss it mirrors
    assert wilson_interval(0, 10) == pytest.approx((0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((1 - 3.8415 / 13.8415, 1), abs=1e-4)
    assert wilson_interval(0, 0) == (0, 1)


TRUTH = ["a", "a", "a", "a", "b", "b", "c"]
GUESS = ["a", "a", "b", "d", "b", "a", "d"]


def test_the_papers_table_by_hand() -> None:
    table = {line.generator: line for line in class_table(TRUTH, GUESS, ["a", "b", "c", "d"])}
    assert list(table) == ["a", "b", "c"]  # d has no images: it has no line
    a, b, c = table.values()
    assert (a.precision, a.recall, a.f1, a.support) == pytest.approx((2 / 3, 1 / 2, 4 / 7, 4))
    assert (b.precision, b.recall, b.f1, b.support) == pytest.approx((1 / 2, 1 / 2, 1 / 2, 2))
    assert (c.precision, c.recall, c.f1, c.support) == (0, 0, 0, 1)  # never called so: 0, not a warning


def test_the_worst_cell_is_the_one_with_the_lowest_accuracy() -> None:
    cells = [("a", "cat")] * 3 + [("a", "dog")] * 4 + [("b", "cat")] * 2
    assert worst_cell(cells, [True, True, False, True, False, False, True, True, True]) == ("a / dog", 0.5, 4)
    # of two equally bad ones the larger; without subjects the generator alone
    assert worst_cell([("a", ""), ("b", ""), ("b", "")], [False, False, False]) == ("b", 0, 2)


def test_the_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 4)
    targets = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    # bins of .9 (three of four right) and of .6 (all right): (.15 + .4) / 2
    assert expected_calibration_error(probabilities, targets) == pytest.approx(0.275)
    assert expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


# On exports


@pytest.fixture
def model(toy_exports: Path) -> Model:
    """Return a network that calls red `real`, green `alpha`, blue `beta`, each with softmax((4, 0, 0))."""
    return Model.load(toy_exports / "native-baseline.onnx")


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Return seven images: a third of `real` and a half of `beta` look like another generator's."""
    made = [
        ("real", "cat", RED), ("real", "cat", RED), ("real", "cat", GREEN),
        ("alpha", "cat", GREEN), ("alpha", "car", GREEN),
        ("beta", "car", BLUE), ("beta", "car", RED),
    ]  # fmt: skip
    return [Row(solid(tmp_path / f"{i}.png", colour), g, s, split="test") for i, (g, s, colour) in enumerate(made)]


def test_an_export_is_measured_as_worked_out_by_hand(model: Model, rows: list[Row]) -> None:
    found = evaluate_model(model, rows, "test")
    m = found.metrics
    assert (found.model, found.technique, found.labels) == ("native-baseline", "baseline", ("real", "alpha", "beta"))
    assert m.confusion == ((2, 1, 0), (0, 2, 0), (1, 0, 1))
    assert (m.images, m.accuracy) == (7, pytest.approx(5 / 7))
    assert (m.precision, m.recall) == pytest.approx(((2 / 3 + 2 / 3 + 1) / 3, (2 / 3 + 1 + 1 / 2) / 3))
    assert m.f1 == pytest.approx((2 / 3 + 4 / 5 + 2 / 3) / 3)
    assert (m.worst_cell, m.worst_cell_accuracy, m.worst_cell_images) == ("beta / car", 0.5, 2)
    assert m.ece == pytest.approx(math.exp(4) / (math.exp(4) + 2) - 5 / 7, abs=1e-3)
    assert (m.decided, m.decided_accuracy) == pytest.approx((1, 5 / 7))
    assert (m.named, m.named_accuracy) == pytest.approx((4 / 7, 3 / 4))


def test_the_figures_are_scikit_learns(model: Model, rows: list[Row]) -> None:
    rng = np.random.default_rng(5)
    many = [rows[i] for i in rng.integers(0, 7, 200)]
    probabilities = rng.dirichlet((1, 1, 1), 200)
    m = measure(model.card, many, probabilities)
    truth = [row.generator for row in many]
    guess = [model.card.labels[k] for k in top_labels(model.card.labels, probabilities)]
    labels = list(model.card.labels)
    macro = precision_recall_fscore_support(truth, guess, labels=labels, average="macro", zero_division=0)
    assert (m.precision, m.recall, m.f1) == pytest.approx(macro[:3])
    assert np.array_equal(np.array(m.confusion), confusion_matrix(truth, guess, labels=labels))


def test_images_without_an_answer_are_counted_apart(model: Model, rows: list[Row], tmp_path: Path) -> None:
    grey = Row(solid(tmp_path / "grey.png", GREY), "beta", "car", split="test")
    cyan = Row(solid(tmp_path / "cyan.png", (0, 255, 255)), "beta", "car", split="test")
    m = evaluate_model(model, [*rows, grey, cyan], "test").metrics
    assert (m.decided, m.decided_accuracy) == pytest.approx((8 / 9, 6 / 8))
    assert (m.named, m.named_accuracy) == pytest.approx((4 / 9, 3 / 4))
    only = evaluate_model(model, [grey], "test").metrics
    assert (only.decided, only.decided_accuracy, only.named, only.named_accuracy) == (0, None, 0, None)
    text = as_markdown([evaluate_model(model, rows, "test")])
    assert "decides between `generated` and `real` for 100.0%, of which 71.4% are right" in text
    assert "it names a generator for 57.1%, of which 75.0% are right." in text


def test_an_image_beyond_the_farthest_has_no_answer(rows: list[Row], tmp_path: Path) -> None:
    """The distance of a pure colour is 1; all of them are then too far away."""
    card = toy_card(decisions={"any": replace(DECISION, farthest=0.5)})
    m = evaluate_model(Model.load(write_toy_export(tmp_path / "far.onnx", card)), rows, "test").metrics
    assert (m.decided, m.named, m.accuracy) == (0, 0, pytest.approx(5 / 7))


def test_images_in_a_state_without_a_decision_have_no_answer(rows: list[Row], tmp_path: Path) -> None:
    card = toy_card(states=("jpeg", "webp"), decisions={"webp": DECISION})
    logits = np.array([[4.0, 0, 0], [0, 4, 0]], np.float32)
    calibrated = calibrated_rows(card, logits, ["jpeg", "webp"])
    assert calibrated.sum(axis=1) == pytest.approx([1, 1])
    m = measure(card, [rows[0], rows[3]], calibrated, np.ones(2, np.float32), ["jpeg", "webp"])
    assert (m.accuracy, m.decided, m.decided_accuracy, m.named, m.named_accuracy) == (1, 0.5, 1, 0.5, 1)


def test_what_cannot_be_measured_is_refused(model: Model, rows: list[Row], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no images to evaluate on"):
        evaluate_model(model, [], "test")
    with pytest.raises(DataError) as caught:
        evaluate_model(model, [Row(rows[0].path, "gamma", "")], "test")
    assert str(caught.value) == "native-baseline does not know gamma; its labels are real, alpha, beta"
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png: no known image format; repair or remove it"):
        infer(model, [*rows, Row(tmp_path / "bad.png", "real", "")])


def test_the_order_of_many_images_is_kept(model: Model, tmp_path: Path) -> None:
    make_images(tmp_path / "i")
    solid(tmp_path / "i" / "lossy.webp", GREEN)
    names = ["3-blue.bmp", "1-red.png", "5-tiny.png", "lossy.webp"] * 20
    logits, distances, states = infer(model, [Row(tmp_path / "i" / name, "real", "") for name in names])
    assert list(logits.argmax(axis=1)) == [2, 0, 0, 1] * 20
    assert distances == pytest.approx(np.ones(80), abs=0.05)
    assert states == ["lossless", "lossless", "lossless", "webp"] * 20


def test_no_images_are_inferred_to_be_none(model: Model) -> None:
    logits, distances, states = infer(model, [])
    assert (logits.shape, distances.shape, states) == ((0, 3), (0,), [])


def test_a_model_that_adapted_is_not_scored_on_what_it_adapted_to(trained_run: Path) -> None:
    from forensic_train.run import read_split

    rows = read_split(trained_run)
    sizes = {}
    for technique in ("baseline", "finetune"):
        model = Model.load(trained_run / "exports" / f"toy-{technique}.onnx")
        sizes[technique] = {name: len(found) for name, found in image_sets(rows, model).items()}
    tests = sum(row.split == "test" for row in rows)
    adapted = sum(row.split == "adapt" for row in rows)
    assert sizes == {"baseline": {"test": tests, "unseen": tests + adapted}, "finetune": {"test": tests}}


@pytest.fixture
def evaluations(toy_exports: Path, rows: list[Row]) -> list[Evaluation]:
    return evaluate_all([Model.load(path) for path in sorted(toy_exports.glob("*.onnx"))], rows)


def test_reports_rank_by_accuracy_and_hold_every_figure(evaluations: list[Evaluation]) -> None:
    raw = json.loads(as_json(evaluations))
    assert len(raw) == 4
    assert raw[0]["metrics"]["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 1]]
    assert raw[0]["metrics"]["classes"][1] == {
        "generator": "alpha", "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2
    }  # fmt: skip
    text = as_markdown(evaluations)
    assert "| alpha | 0.67 | 1.00 | 0.80 | 2 |" in text
    assert "| **macro average** | 0.78 | 0.72 | 0.71 | 7 |" in text
    assert "beta / car 0.50 (n 2)" in text


def test_the_best_model_of_a_set_comes_first(model: Model, rows: list[Row]) -> None:
    wrong_last, right = evaluate_model(model, rows, "test"), evaluate_model(model, rows[:2], "test")
    other_set = evaluate_model(model, rows[-1:], "a set")
    assert ranked([wrong_last, right, other_set]) == [other_set, right, wrong_last]


def test_confusions_are_pictures(evaluations: list[Evaluation], tmp_path: Path) -> None:
    paths = draw_confusions(evaluations, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [f"{one.model}-test.png" for one in evaluations]
    for path in paths:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) > 200
            colours = picture.convert("RGB").getcolors(1 << 24)
        assert colours is not None
        assert len(colours) > 10
