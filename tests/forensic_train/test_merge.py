"""`genforensic merge`: several techniques in one file judge as they do alone, and share what they have in common."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from forensic_cli.card import ANY_STATE
from forensic_cli.model import Model
from forensic_train.run_export import export_run
from pages import read_page
from toys import make_images, toy_card, write_toy_export


@pytest.fixture(scope="module")
def files(trained_run: Path) -> list[Path]:
    return [trained_run / "exports" / f"toy-{name}.onnx" for name in ("baseline", "finetune", "weighted")]


@pytest.fixture
def merged(run: Any, files: list[Path], tmp_path: Path) -> Path:
    output = tmp_path / "merged" / "toy.onnx"
    done = run("merge", *files, "--output", output)
    assert done.exit_code == 0, done.stderr
    sizes = sum(path.stat().st_size for path in files)
    assert done.stderr == f"3 exports, {sizes} bytes -> {output}, {output.stat().st_size} bytes\n"
    return output


def weights_of(path: Path) -> int:
    return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)


def test_merged_techniques_keep_their_cards_and_logits(merged: Path, files: list[Path]) -> None:
    views = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    together = Model.load_all(merged)
    assert [model.card.technique for model in together] == ["baseline", "finetune", "weighted"]
    for model, path in zip(together, files, strict=True):
        alone = Model.load(path)
        assert model.card == alone.card
        found, expected = (one.judge([views[:3], views[3:]], [ANY_STATE] * 2) for one in (model, alone))
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
        np.testing.assert_allclose(found.distances, expected.distances, atol=1e-5)
        assert f"file `{merged.name}`" in (merged.parent / f"{model.card.name}.md").read_text(encoding="utf-8")


def test_an_encoder_that_two_techniques_have_is_stored_once(merged: Path, files: list[Path]) -> None:
    baseline, finetune, weighted = map(weights_of, files)
    head = 4 * (6 + 1) * 3  # float32 weights and biases of a head of 3 generators on 6 features
    assert baseline == finetune
    assert weights_of(merged) <= baseline + head + weighted


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_encoder_that_two_techniques_have_is_computed_once(
    run: Any, trained_run: Path, tmp_path: Path, precision: str
) -> None:
    pair = [export_run(trained_run, name, tmp_path, precision=precision) for name in ("baseline", "finetune")]
    run("merge", *pair, "--output", tmp_path / "two.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "two.onnx").graph.node]
    # the views' mean, and a head each
    assert (kinds.count("Conv"), kinds.count("MatMul") + kinds.count("Gemm")) == (2, 3)


def test_a_page_has_the_evidence_maps_of_a_merged_file(run: Any, merged: Path, tmp_path: Path) -> None:
    images, page = make_images(tmp_path / "images"), tmp_path / "page.html"
    done = run("scan", images, "-f", "html", "-o", page, "-t", "weighted", "-t", "baseline", "--exports", merged.parent)
    assert done.exit_code == 0, done.stderr
    found = read_page(page.read_text(encoding="utf-8"))
    assert found.data("about")["techniques"] == ["weighted", "baseline"]
    (one,) = found.data("evidence-0")["maps"]
    assert one["values"].keys() == {"0", "1"}
    assert "differs" not in found.data("evidence-0")


def test_a_scan_finds_the_techniques_of_a_merged_file(
    run: Any, merged: Path, trained_run: Path, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images")
    shared = ("scan", images, "-f", "json", "-t", "baseline", "-t", "weighted", "--exports")
    together, apart = (json.loads(run(*shared, folder).stdout) for folder in (merged.parent, trained_run / "exports"))
    assert {one["file"] for one in together["run"]["models"]} == {"toy.onnx"}
    for one, other in zip(together["files"], apart["files"], strict=True):
        assert one["techniques"].keys() == {"baseline", "weighted"}
        for name, found in one["techniques"].items():
            assert found["scores"] == pytest.approx(other["techniques"][name]["scores"], abs=1e-5)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"technique": "baseline"}, "technique 'baseline' is in several of the files; merge one export of each"),
        ({"recipe": "paper"}, "{b}: has a different recipe than {a}; merge exports of one recipe"),
        (
            {"labels": ("real", "alpha", "gamma")},
            "paper-x and paper-x cannot be fused",
        ),
    ],
)
def test_exports_that_cannot_be_together_are_refused(
    run: Any, tmp_path: Path, others: dict[str, Any], message: str
) -> None:
    a = write_toy_export(tmp_path / "a.onnx", toy_card("baseline", name="paper-x"))
    b = write_toy_export(tmp_path / "b.onnx", toy_card(**{"technique": "weighted", "name": "paper-x", **others}))
    done = run("merge", a, b, "-o", tmp_path / "c.onnx")
    assert done.exit_code == 3
    assert done.stderr.startswith(f"genforensic: {message.format(a=a, b=b)}")
    assert not (tmp_path / "c.onnx").exists()


def test_a_file_that_is_there_is_not_overwritten_unasked(run: Any, files: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "notes.onnx"
    output.write_text("mine")
    done = run("merge", *files, "-o", output)
    assert (done.exit_code, done.stderr) == (
        2,
        f"genforensic: {output}: already exists; choose another name, or overwrite it with --force\n",
    )
    assert output.read_text() == "mine"
    assert run("merge", *files, "-o", output, "--force").exit_code == 0
    assert len(Model.load_all(output)) == 3
