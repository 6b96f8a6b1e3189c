"""Exports: what a file holds, what it must not tell, and that it computes what PyTorch computes."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from forensic_cli.card import ANY_STATE, CARD_KEY, Decision, ModelCard, Preprocessing
from forensic_cli.errors import TrainingError
from forensic_cli.images.decode import decode
from forensic_cli.images.views import views
from forensic_cli.model import Model
from forensic_train.manifest import count_cells
from forensic_train.network import Encoder, Network
from forensic_train.onnx_export import check_parity, export_network, parity_views, write_card
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.run import Run, load_network, read_split
from toys import solid

NAMES = ("baseline", "weighted", "finetune", "adversarial", "discriminant")


@pytest.fixture(params=NAMES)
def path(trained_run: Path, request: pytest.FixtureRequest) -> Path:
    return trained_run / "exports" / f"toy-{request.param}.onnx"


def network_of(path: Path, recipe: Recipe) -> Network:
    run = Run(path.parents[1] / path.stem.removeprefix("toy-"))
    return load_network(run, run.config(), recipe).eval()


def test_the_signature_is_the_contract(path: Path) -> None:
    graph = onnx.load(path).graph
    ends = {end.name: end.type.tensor_type for end in (*graph.input, *graph.output)}
    assert [end.name for end in graph.input] == ["views", "image", "state"]
    assert [end.name for end in graph.output] == ["logits", "distance"]
    integer, number = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT
    assert [end.elem_type for end in ends.values()] == [onnx.TensorProto.UINT8, integer, integer, number, number]
    assert {name: [d.dim_param or d.dim_value for d in end.shape.dim] for name, end in ends.items()} == {
        "views": ["views", 32, 32, 3],
        "image": ["views"],
        "state": ["images"],
        "logits": ["images", 3],
        "distance": ["images"],
    }


def test_one_file_holds_everything(path: Path) -> None:
    proto = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    names = {file.name for file in path.parent.iterdir()}
    assert names == {f"toy-{name}{suffix}" for name in NAMES for suffix in (".onnx", ".md")}


def test_nothing_tells_about_the_machine_that_built_it(path: Path) -> None:
    data = path.read_bytes()
    for secret in (b"/work", b"/root", b"/tmp", b"site-packages", b".py"):
        assert secret not in data
    proto = onnx.load(path)
    assert [prop.key for prop in proto.metadata_props] == [CARD_KEY]
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)


def test_it_computes_what_the_checkpoint_computes_for_any_batch(path: Path, toy_recipe: Recipe) -> None:
    model, network = Model.load(path), network_of(path, toy_recipe)
    for count in (1, 2, 7):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        with torch.no_grad():
            expected = network.classify(torch.from_numpy(pixels), torch.zeros(count, dtype=torch.int64)).numpy()
        found = model.judge([view[None] for view in pixels], [ANY_STATE] * count).logits
        assert np.abs(found - expected).max() < 1e-4


def test_a_scan_of_a_training_image_sees_what_training_saw(path: Path, labelled: Path, toy_recipe: Recipe) -> None:
    decoded = decode((labelled / "beta" / "horse" / "03.png").read_bytes())
    cut = views(decoded.pixels, Model.load(path).card.preprocessing)  # type: ignore[union-attr]
    with torch.no_grad():
        states = torch.zeros(len(cut), dtype=torch.int64)
        expected = network_of(path, toy_recipe).classify(torch.from_numpy(cut), states).mean(dim=0).numpy()
    assert Model.load(path).judge([cut], [ANY_STATE]).logits[0] == pytest.approx(expected, abs=1e-4)


def test_other_weights_fail_the_parity_check(trained_run: Path, toy_recipe: Recipe) -> None:
    path = trained_run / "exports" / "toy-baseline.onnx"
    network = network_of(path, toy_recipe)
    check_parity(network, path)
    with torch.no_grad():
        network.generator_head.bias[:, 0] += 0.001
    with pytest.raises(TrainingError, match=r"toy-baseline\.onnx: the export differs from PyTorch by 1\.0e-03"):
        check_parity(network, path)
    with torch.no_grad():
        network.generator_head.bias[:, 0] = float("nan")
    with pytest.raises(TrainingError, match="differs from PyTorch by nan"):
        check_parity(network, path)


def test_large_logits_are_compared_by_their_own_scale(tmp_path: Path, toy_recipe: Recipe) -> None:
    """Float32 holds seven digits: a logit of 100,000 cannot be right to 0.0001."""
    torch.manual_seed(0)
    network = Network(toy_recipe.encoder(), 3).eval()
    with torch.no_grad():
        network.generator_head.weight *= 1e6
    card = ModelCard("x", "baseline", "toy", ("a", "b", "c"), toy_recipe.preprocessing)
    export_network(network, card, tmp_path / "x.onnx")
    views = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = network.classify(torch.from_numpy(views), torch.zeros(4, dtype=torch.int64)).numpy()
    found = Model.load(tmp_path / "x.onnx").judge([view[None] for view in views], [ANY_STATE] * 4).logits
    difference = np.abs(found - expected).max()
    assert 1e-4 < difference < 1e-4 * np.abs(expected).max()


class OtherOnWhite(Encoder):
    """Computes something else for bright images while it is exported."""

    width = 3

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        del state
        means = images.mean(dim=(2, 3))
        return means + (10 * (means - 0.9).relu() if torch.compiler.is_exporting() else 0)


def test_an_export_is_compared_on_training_images_too(tmp_path: Path) -> None:
    card = ModelCard("x", "baseline", "toy", ("a", "b"), Preprocessing("patches", 16))
    rows = [Row(solid(tmp_path / "white.png", (255, 255, 255)), "a", ""), Row(tmp_path / "gone.png", "b", "")]
    network = Network(OtherOnWhite(), 2)
    export_network(network, card, tmp_path / "x.onnx", parity_views(rows[1:], card.preprocessing))
    with pytest.raises(TrainingError, match="differs from PyTorch"):
        export_network(network, card, tmp_path / "y.onnx", parity_views(rows, card.preprocessing))
    assert not (tmp_path / "y.onnx").exists()


class TwoFaced(Encoder):
    """Computes something else while it is exported."""

    width = 3

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        del state
        return images.mean(dim=(2, 3)) + (1 if torch.compiler.is_exporting() else 0)


def test_an_export_that_differs_leaves_no_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    card = ModelCard("x", "baseline", "toy", ("a", "b"), Preprocessing("patches", 16))
    path = tmp_path / "x.onnx"
    path.write_bytes(b"the export of yesterday")
    with pytest.raises(TrainingError, match=r"x\.onnx|differs from PyTorch"):
        export_network(Network(TwoFaced(), 2), card, path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.onnx"]
    assert path.read_bytes() == b"the export of yesterday"


# Cards


def test_the_card_tells_how_the_weights_were_made(path: Path) -> None:
    card = Model.load(path).card
    run = path.parents[1]
    technique = path.stem.removeprefix("toy-")
    config, rows = Run(run / technique).config(), read_split(run)
    fitted = ("train", "adapt") if technique == "finetune" else ("train",)
    assert (card.technique, card.recipe, card.labels) == (technique, "toy", config.labels)
    assert card.data == count_cells([row for row in rows if row.split in fitted])
    assert card.training["seed"] == 3
    assert card.training["settings"] == config.settings
    assert card.training["split_sha256"] == config.split_sha256
    assert card.training["starts_from"] == ("baseline" if technique == "finetune" else None)
    held = sum(row.split == "val" for row in rows)
    assert card.validation == f"{held} images of the split `val`, from the training sources, but not fitted on."
    assert set(card.decisions) == {ANY_STATE}
    assert card.metrics["test"]["images"] == sum(row.split == "test" for row in rows)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", card.created)


def test_a_card_survives_the_file_and_leaves_the_graph_alone(trained_run: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    path.write_bytes((trained_run / "exports" / "toy-baseline.onnx").read_bytes())
    before = onnx.load(path)
    card = replace(
        Model.load(path).card,
        limits=("Größer, „anders“, 大きい", "two"),
        decisions={ANY_STATE: Decision(name_from=0.625)},
    )
    write_card(path, card)
    assert Model.load(path).card == card
    assert onnx.load(path).graph == before.graph
    assert [file.name for file in tmp_path.iterdir()] == ["copy.onnx"]


def test_the_card_in_markdown_has_the_table_of_counts(path: Path) -> None:
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    counts = Model.load(path).card.data
    assert "| generator | face | horse | total |" in text
    for generator in ("alpha", "beta"):
        face, horse = counts[generator]["face"], counts[generator]["horse"]
        assert f"| {generator} | {face} | {horse} | {face + horse} |" in text
    assert f"| gamma | {counts['gamma']['face']} | · | {counts['gamma']['face']} |" in text
    assert text.startswith(f"# {path.stem}\n")
    assert f"file `{path.name}`" in text
    assert "images (held out from the training of every technique)" in text
    assert "- seed 3, trained on the split" in text
