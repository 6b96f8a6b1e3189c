"""Exports of reduced precision: written where they judge as float32 does, refused where they do not."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from forensic_cli.card import ANY_STATE
from forensic_cli.errors import TrainingError
from forensic_cli.model import Model
from forensic_train.card_markdown import card_markdown
from forensic_train.crossfit.scores import Scores, scores_file, write_scores
from forensic_train.decide import fit_decisions
from forensic_train.evaluate import infer
from forensic_train.manifest import with_hashes
from forensic_train.network import Network
from forensic_train.onnx_export import export_network
from forensic_train.quantization import loss_p_value, reduce_export
from forensic_train.recipes import RECIPES
from forensic_train.rows import Row
from forensic_train.run import read_split
from forensic_train.run_export import export_run
from toys import solid, toy_card, write_toy_export


@pytest.fixture(scope="module", params=["int8", "fp16"])
def reduced(request: pytest.FixtureRequest, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy run's baseline in a smaller precision, and which."""
    folder = tmp_path_factory.mktemp(request.param)
    return export_run(trained_run, "baseline", folder, precision=request.param), request.param


def test_the_card_says_how_a_reduced_export_compares_with_float32(reduced: Any, trained_run: Path) -> None:
    path, precision = reduced
    card = Model.load(path).card
    held = [row for row in read_split(trained_run) if row.split == "val"]
    assert card.precision["precision"] == precision
    assert (card.precision["images"], card.precision["set"]) == (len(held), "split `val`, not fitted on")
    assert card.precision["accuracy"] >= card.precision["accuracy_fp32"] - 0.005 or card.precision["p_value"] >= 0.05
    assert card.precision["range_method"] in (("Percentile", "Entropy", "MinMax") if precision == "int8" else ("",))
    assert card.metrics["test"]["images"] == sum(row.split == "test" for row in read_split(trained_run))
    text = card_markdown(card, path.name)
    assert f"The weights are {precision}" in text
    assert "images that only one of the two gets right, float32 has" in text


def test_a_reduced_export_computes_in_its_precision(reduced: Any, trained_run: Path) -> None:
    path, precision = reduced
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    wanted = {"int8": onnx.TensorProto.INT8, "fp16": onnx.TensorProto.FLOAT16}[precision]
    assert wanted in kinds
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    models = Model.load(trained_run / "exports" / "toy-baseline.onnx"), Model.load(path)
    plain, found = (model.judge([view[None] for view in views], [ANY_STATE] * 3).logits for model in models)
    assert 0 < np.abs(found - plain).max() < 0.2 * np.abs(plain).max()


def test_the_head_stays_in_float32(trained_run: Path, tmp_path: Path) -> None:
    graph = onnx.load(export_run(trained_run, "baseline", tmp_path, precision="int8")).graph
    rounded = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    users = {node.op_type for node in graph.node if rounded & set(node.input)}
    assert "Conv" in users
    assert not users & {"MatMul", "Add", "Gather"}


def test_a_precision_that_costs_accuracy_is_refused(tmp_path: Path) -> None:
    """Differences of colour that 8 bits cannot hold decide here."""
    path = write_toy_export(tmp_path / "fine.onnx", toy_card(), weights=np.eye(3) * 4 + 10_000)
    colours = {"real": (130, 128, 128), "alpha": (128, 130, 128), "beta": (128, 128, 130)}
    rows = [
        Row(solid(tmp_path / f"{label}{i}.png", colour), label, "plain", split="val")
        for label, colour in colours.items()
        for i in range(3)
    ]
    ranges = [
        Row(solid(tmp_path / f"{i}.png", (i, 255 - i, i // 2)), "real", "plain", split="train")
        for i in range(0, 256, 16)
    ]
    with pytest.raises(TrainingError) as caught:
        reduce_export(path, tmp_path / "int8" / "fine.onnx", "int8", ranges, rows, "toys")
    assert str(caught.value).startswith(
        "fine.onnx: int8 gives only 33.3% of 9 images the label that float32 gives them;"
    )
    assert not (tmp_path / "int8").exists()


def near_ties(folder: Path, clear: int, near: int) -> tuple[Path, list[Row], list[Row]]:
    """Return an export, images to take ranges from, and clear images besides some that 8 bits cannot tell apart."""
    path = write_toy_export(folder / "near.onnx", toy_card(), weights=np.eye(3) * 4 + 40)
    colours = {"real": (255, 0, 0), "alpha": (0, 255, 0), "beta": (0, 0, 255)}
    rows = [
        Row(solid(folder / f"{label}{i}.png", colour), label, "plain", split="val")
        for label, colour in colours.items()
        for i in range(clear)
    ]
    rows += [Row(solid(folder / f"near{i}.png", (128, 130, 128)), "alpha", "plain", split="val") for i in range(near)]
    ranges = [
        Row(solid(folder / f"{i}.png", (i, 255 - i, i // 2)), "real", "", split="train") for i in range(0, 256, 9)
    ]
    return path, ranges, rows


def test_a_loss_that_may_be_chance_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path, ranges, rows = near_ties(tmp_path, clear=19, near=3)
    found = reduce_export(path, tmp_path / "int8.onnx", "int8", ranges, rows, "toys")
    assert (found.images, found.only_fp32_right, found.only_reduced_right) == (60, 3, 0)
    assert found.p_value == 0.125
    assert (tmp_path / "int8.onnx").exists()


def test_a_loss_that_is_no_chance_is_refused_with_its_figures(tmp_path: Path) -> None:
    path, ranges, rows = near_ties(tmp_path, clear=19, near=9)
    with pytest.raises(TrainingError) as caught:
        reduce_export(path, tmp_path / "int8.onnx", "int8", ranges, rows, "toys")
    assert str(caught.value) == (
        "int8.onnx: int8 gets 0.864 of 66 images right and float32 1.000; of 9 images that only one gets right, "
        "float32 has 9, exact McNemar p 0.002: more than 0.005 is lost, and not by chance, so it was not written"
    )


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 0), (3, 9), (10, 4), (40, 20)])
def test_the_paired_test_is_the_exact_binomial_tail(lost: int, gained: int) -> None:
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(lost, n + 1)) / 2**n
    assert loss_p_value(lost, gained) == pytest.approx(tail)


def test_int8_is_calibrated_on_its_own_scores(trained_run: Path, tmp_path: Path) -> None:
    """Scores of float32 are given; the temperature is that of what the int8 export says of the same images."""
    plain = Model.load(trained_run / "exports" / "toy-baseline.onnx")
    rows = tuple(row for row in with_hashes(read_split(trained_run)) if row.split in ("adapt", "val"))
    logits, distances, states = infer(plain, rows)
    folds = np.zeros(len(rows), np.int64)
    states = np.array(states)[:, None]
    labels = plain.card.labels
    scores = Scores("baseline", labels, rows, folds, ("as it is",), states, logits[:, None], distances[:, None])
    write_scores(tmp_path / scores_file("baseline"), scores)
    path = export_run(trained_run, "baseline", tmp_path / "int8", scores=tmp_path, precision="int8")
    model = Model.load(path)
    own, _, _ = infer(model, rows)
    assert np.abs(own - logits).max() > 1e-3
    expected = fit_decisions(model.card, replace(scores, logits=own[:, None]))[ANY_STATE]
    decision = model.card.decisions[ANY_STATE]
    assert decision.temperature == pytest.approx(expected.temperature, rel=1e-3)
    assert decision.temperature != fit_decisions(model.card, scores)[ANY_STATE].temperature
    assert model.card.validation.startswith(f"{len(rows)} images from ")


def test_a_graph_that_cannot_be_converted_is_one_line(tmp_path: Path) -> None:
    """Spectra need more range than 16-bit floats have, and the converter stumbles over their graph."""
    recipe = RECIPES["native-32"]
    card = toy_card("baseline", "native-32", preprocessing=recipe.preprocessing)
    path = tmp_path / "spectra.onnx"
    export_network(Network(recipe.encoder(), len(card.labels)), card, path)
    rows = [Row(solid(tmp_path / "red.png", (255, 0, 0)), "real", "plain", split="val")]
    with pytest.raises(TrainingError, match=r"fp16\.onnx: its graph cannot be written as fp16 \("):
        reduce_export(path, tmp_path / "fp16.onnx", "fp16", rows, rows, "toys")
    assert not (tmp_path / "fp16.onnx").exists()


def test_the_two_precisions_exclude_each_other(run: Any, trained_run: Path) -> None:
    done = run("export", trained_run, "--int8", "--fp16")
    assert done.exit_code == 2
    assert done.stderr == ("genforensic: --int8 and --fp16 cannot be combined; export twice, to two --output folders\n")
