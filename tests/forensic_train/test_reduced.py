"""Exports of reduced precision: written where they judge as float32 does, refused where they do not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from forensic_cli.errors import TrainingError
from forensic_cli.model import Model
from forensic_train.card_markdown import card_markdown
from forensic_train.export import export_network
from forensic_train.manifest import Row
from forensic_train.network import Network
from forensic_train.recipes import RECIPES
from forensic_train.reduced import reduce_export
from forensic_train.run import read_split
from toys import solid, toy_card, write_toy_export


@pytest.fixture(scope="module", params=["int8", "fp16"])
def reduced(request: pytest.FixtureRequest, trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The toy run's baseline in a smaller precision, and which."""
    from forensic_train.training import export_run

    folder = tmp_path_factory.mktemp(request.param)
    return export_run(trained_run, "baseline", folder, precision=request.param), request.param


def test_the_card_says_how_a_reduced_export_compares_with_float32(reduced: Any, trained_run: Path) -> None:
    path, precision = reduced
    card = Model.load(path).card
    held = [row for row in read_split(trained_run) if row.split == "val"]
    assert card.precision["precision"] == precision
    assert (card.precision["images"], card.precision["set"]) == (len(held), "split `val`, not fitted on")
    assert card.precision["accuracy"] >= card.precision["accuracy_fp32"] - 0.005
    assert card.metrics["test"]["images"] == sum(row.split == "test" for row in read_split(trained_run))
    assert f"The weights are {precision}" in card_markdown(card, path.name)


def test_a_reduced_export_computes_in_its_precision(reduced: Any, trained_run: Path) -> None:
    path, precision = reduced
    kinds = {tensor.data_type for tensor in onnx.load(path).graph.initializer}
    wanted = {"int8": onnx.TensorProto.INT8, "fp16": onnx.TensorProto.FLOAT16}[precision]
    assert wanted in kinds
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    plain = Model.load(trained_run / "exports" / "toy-baseline.onnx").logits(views)
    found = Model.load(path).logits(views)
    assert 0 < np.abs(found - plain).max() < 0.2 * np.abs(plain).max()


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
    assert done.stderr == (
        "genforensic: --int8 and --fp16 exclude each other; export twice, with two --output folders\n"
    )
