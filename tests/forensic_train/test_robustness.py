"""Robustness: the figures worked out by hand on toy exports, and the tables, picture and card that carry them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_cli.card import ModelCard, Preprocessing
from forensic_cli.errors import DataError
from forensic_cli.images.history import REENCODINGS
from forensic_cli.model import Model
from forensic_cli.tables import Table
from forensic_train import robustness_report
from forensic_train.card_markdown import card_markdown
from forensic_train.metrics import wilson_interval
from forensic_train.robustness import RobustnessPoint, card_robustness, measure_test, robustness, robustness_all
from forensic_train.robustness_report import draw_robustness, robustness_tables
from forensic_train.rows import Row
from forensic_train.run_export import export_run
from toys import LABELS, solid, toy_card, write_toy_export

ALL = ("original", *REENCODINGS)
WHOLE = Preprocessing("whole", 24)


def framed(path: Path) -> Path:
    """Write a picture that is red by its frame alone: the crop takes the frame, and green is left."""
    pixels = np.full((100, 100, 3), (100, 140, 0), np.uint8)
    pixels[:5] = pixels[-5:] = pixels[:, :5] = pixels[:, -5:] = (255, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return real/ (red, red, framed) and alpha/ (green): the toy network is right until an image is cropped."""
    for folder in ("real", "alpha"):
        (tmp_path / "data" / folder / "x").mkdir(parents=True)
    solid(tmp_path / "data/real/x/0.png", (255, 0, 0))
    solid(tmp_path / "data/real/x/1.png", (250, 0, 0))
    framed(tmp_path / "data/real/x/2.png")
    solid(tmp_path / "data/alpha/x/0.png", (0, 255, 0))
    return tmp_path / "data"


@pytest.fixture
def rows(data: Path) -> list[Row]:
    return [Row(path, path.parts[-3], path.parts[-2], split="test") for path in sorted(data.glob("*/*/*.png"))]


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Return a folder of two toy exports, of which one looks at the whole image and one at patches."""
    folder = tmp_path / "exports"
    write_toy_export(folder / "a.onnx", toy_card("baseline", preprocessing=WHOLE))
    write_toy_export(folder / "b.onnx", toy_card("weighted"))
    return folder


def test_the_figures_by_hand(exports: Path, rows: list[Row]) -> None:
    points = robustness(Model.load(exports / "a.onnx"), rows)
    assert [one.reencoding for one in points] == list(ALL)
    assert {(one.model, one.technique, one.images) for one in points} == {("native-baseline", "baseline", 4)}
    for one in points:
        if one.reencoding == "crop":
            # one of three real images is lost: 3 of 4 are right, and the recalls are 2/3 and 1
            assert (one.accuracy, one.interval) == (0.75, wilson_interval(3, 4))
            assert one.macro_recall == pytest.approx((2 / 3 + 1) / 2)
        else:
            assert (one.accuracy, one.interval, one.macro_recall) == (1.0, wilson_interval(4, 4), 1.0)


def test_models_measured_together_are_measured_as_if_alone(exports: Path, rows: list[Row]) -> None:
    """Their views and their label order differ."""
    turned = toy_card("finetune", labels=("beta", "real", "alpha"))
    write_toy_export(exports / "c.onnx", turned, np.eye(3)[:, [2, 0, 1]] * 4)
    models = [Model.load(path) for path in sorted(exports.glob("*.onnx"))]
    names = ("jpeg75", "crop")
    together = robustness_all(models, rows, names)
    assert together == [point for model in models for point in robustness(model, rows, names)]
    assert [one.reencoding for one in together] == ["original", *names] * 3
    assert [one.accuracy for one in together if one.model == "native-finetune"] == [
        one.accuracy for one in together if one.model == "native-weighted"
    ]


def test_more_images_than_a_batch_holds_keep_their_places(exports: Path, tmp_path: Path) -> None:
    colours = {"real": (255, 0, 0), "alpha": (0, 255, 0), "beta": (0, 0, 255)}
    rows = []
    for i in range(75):
        colour, said = LABELS[i % 3], LABELS[(i + (i % 5 == 0)) % 3]
        rows.append(Row(solid(tmp_path / f"{i:02}.png", colours[colour]), said, "x", split="test"))
    for point in robustness(Model.load(exports / "a.onnx"), rows, ("jpeg90", "resize1.5")):
        assert (point.accuracy, point.images) == (60 / 75, 75)


def test_an_image_that_a_format_cannot_hold_is_not_counted_there(
    exports: Path, rows: list[Row], tmp_path: Path
) -> None:
    wide = Row(solid(tmp_path / "wide.png", (0, 255, 0), (16_500, 2)), "alpha", "x", split="test")
    model = Model.load(exports / "b.onnx")
    found = {one.reencoding: one.images for one in robustness(model, [wide, *rows], ("webp75", "jpeg50"))}
    assert found == {"original": 5, "webp75": 4, "jpeg50": 5}
    alone = robustness(model, [wide], ("webp75", "jpeg50"))
    assert [one.reencoding for one in alone] == ["original", "jpeg50"]


def test_only_test_images_count(exports: Path, rows: list[Row]) -> None:
    models = [Model.load(exports / "a.onnx")]
    split = [*rows, *(replace(row, split="train", generator="alpha") for row in rows)]
    assert measure_test(models, split) == measure_test(models, rows)


def test_bad_data_is_a_data_error(exports: Path, rows: list[Row], tmp_path: Path) -> None:
    model = Model.load(exports / "a.onnx")
    with pytest.raises(DataError, match=r"^there are no images to evaluate on; assign some rows to the split `test`$"):
        robustness(model, [])
    with pytest.raises(DataError, match=r"^native-baseline does not know gamma; its labels are real, alpha, beta$"):
        robustness(model, [replace(rows[0], generator="gamma")])
    (tmp_path / "bad.png").write_text("text")
    with pytest.raises(DataError, match=r"bad\.png: no known image format; repair or remove it$"):
        robustness(model, [*rows, replace(rows[0], path=tmp_path / "bad.png")])


# what evaluate shows and writes


def test_evaluate_measures_robustness_where_asked(run: Any, exports: Path, data: Path, tmp_path: Path) -> None:
    shared = ("evaluate", "--data", data, "--exports", exports, "-f", "json")
    plain, done = run(*shared, "-o", tmp_path / "plain"), run(*shared, "--robustness", "-o", tmp_path / "out")
    assert (plain.exit_code, done.exit_code) == (0, 0)
    before, after = json.loads(plain.stdout), json.loads(done.stdout)
    assert [one.pop("robustness") for one in before] == [None, None]
    measured = {one["model"]: one.pop("robustness") for one in after}
    assert before == after
    assert {name: [one["reencoding"] for one in found] for name, found in measured.items()} == {
        "native-baseline": list(ALL),
        "native-weighted": list(ALL),
    }
    (cropped,) = (one for one in measured["native-baseline"] if one["reencoding"] == "crop")
    assert (cropped["accuracy"], cropped["images"], cropped["technique"]) == (0.75, 4, "baseline")
    assert (tmp_path / "out" / "evaluation.json").read_text() == done.stdout
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written - {path.name for path in (tmp_path / "plain").iterdir()} == {"robustness.png"}
    markdown = (tmp_path / "out" / "evaluation.md").read_text()
    assert "| crop | 0.750 (0.30–0.95) | " in markdown
    assert "| crop | 0.833 | " in markdown
    assert "Robustness" not in (tmp_path / "plain" / "evaluation.md").read_text()


def test_evaluate_prints_robustness_as_tables(run: Any, exports: Path, data: Path) -> None:
    done = run("evaluate", "--data", data, "--exports", exports, "--robustness")
    assert done.exit_code == 0
    assert "Accuracy under re-encoding (95 % Wilson interval)" in done.stdout
    assert "│ crop        │ 0.750 (0.30–0.95) │" in done.stdout
    assert "│ crop        │           0.833 │" in done.stdout


def point(model: str, reencoding: str, right: int) -> RobustnessPoint:
    return RobustnessPoint(model, "baseline", reencoding, 10, right / 10, wilson_interval(right, 10), right / 10)


def test_the_tables_have_a_column_a_model_and_a_dash_for_what_is_missing() -> None:
    points = [point("a", "original", 9), point("a", "webp90", 5), point("b", "original", 10)]
    assert robustness_tables(points) == [
        Table(
            "Accuracy under re-encoding (95 % Wilson interval)",
            ("re-encoding", "a", "b"),
            [["original", "0.900 (0.60–0.98)", "1.000 (0.72–1.00)"], ["webp90", "0.500 (0.24–0.76)", "–"]],
        ),
        Table(
            "Macro recall under re-encoding",
            ("re-encoding", "a", "b"),
            [["original", "0.900", "1.000"], ["webp90", "0.500", "–"]],
        ),
    ]


def test_the_picture_has_a_place_for_every_re_encoding() -> None:
    assert {name for panel in robustness_report._PANELS for name in panel.ticks} == set(ALL)


def test_the_picture_has_a_curve_a_model(tmp_path: Path) -> None:
    """Each further model adds its own colour to the picture."""
    blue, orange = (0, 114, 178), (213, 94, 0)
    for models, colours in ((["a"], {blue}), (["a", "b"], {blue, orange})):
        points = [point(model, name, 3 + 5 * place) for place, model in enumerate(models) for name in ALL]
        path = draw_robustness(points, tmp_path / "-".join(models))
        assert path == tmp_path / "-".join(models) / "robustness.png"
        pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
        assert {one for one in (blue, orange) if (pixels == one).all(axis=1).sum() > 200} == colours


def test_a_picture_of_some_re_encodings_is_drawn(tmp_path: Path) -> None:
    assert draw_robustness([point("a", "original", 0), point("a", "jpeg50", 10)], tmp_path).stat().st_size > 5000


# the card


def test_the_card_keeps_the_figures_and_shows_them() -> None:
    kept = card_robustness([point("a", "original", 9), point("a", "jpeg50", 6)])
    assert kept == {
        "original": {"accuracy": 0.9, "macro_recall": 0.9, "images": 10, "set": "test"},
        "jpeg50": {"accuracy": 0.6, "macro_recall": 0.6, "images": 10, "set": "test"},
    }
    card = toy_card(robustness=kept)
    assert ModelCard.from_json(card.to_json()) == card
    text = card_markdown(ModelCard.from_json(card.to_json()), "a.onnx")  # whose keys are sorted
    assert (
        "## Robustness to re-encoding\n\n"
        "The images of test were changed as platforms and editors change them, and judged again.\n\n"
        "| re-encoding | images | accuracy | change | macro recall |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| original | 10 | 0.900 | +0.000 | 0.900 |\n"
        "| jpeg50 | 10 | 0.600 | -0.300 | 0.600 |\n"
    ) in text
    assert "re-encoding" not in card_markdown(toy_card(), "a.onnx")


def test_a_card_from_before_has_no_robustness() -> None:
    raw = json.loads(toy_card().to_json())
    del raw["robustness"]
    assert ModelCard.from_json(json.dumps(raw)).robustness == {}


def test_an_export_may_carry_its_robustness(trained_run: Path, tmp_path: Path) -> None:
    plain = Model.load(trained_run / "exports" / "toy-baseline.onnx").card
    assert plain.robustness == {}
    path = export_run(trained_run, "baseline", tmp_path, robust=True)
    card = Model.load(path).card
    assert set(card.robustness) == set(ALL)
    assert card.robustness["original"]["accuracy"] == pytest.approx(card.metrics["test"]["accuracy"])
    assert card.robustness["original"]["images"] == card.metrics["test"]["images"]
    assert card.metrics == plain.metrics
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    lines = text.partition("## Robustness to re-encoding")[2].splitlines()
    assert [line.split(" | ")[0] for line in lines[6:]][: len(ALL)] == [f"| {name}" for name in ALL]
