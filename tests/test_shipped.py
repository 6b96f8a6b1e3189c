"""What ships: the exports in exports/, the sample images, and the wheel that carries both packages."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from forensic_cli.exports import Export, export_files
from forensic_cli.model import Model

ROOT = Path(__file__).parent.parent
EXPORTS = sorted((ROOT / "exports").glob("*.onnx"))
TECHNIQUES = {"baseline", "weighted", "finetune", "adversarial", "discriminant"}
CARDS = {f"native-{name}" for name in TECHNIQUES}


def test_a_checkout_finds_its_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENFORENSIC_EXPORTS", raising=False)
    assert [path.name for path in export_files(None)] == [path.name for path in EXPORTS]
    assert {card.name for card in (one.card for path in EXPORTS for one in Export.peek(path))} == CARDS


@pytest.mark.parametrize("path", EXPORTS, ids=lambda path: path.stem)
def test_each_export_is_small_self_contained_and_has_its_cards(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) < 30_000_000
    assert b"site-packages" not in data
    assert b"/work" not in data
    for model in Model.load_all(path):
        written = (path.parent / f"{model.card.name}.md").read_text(encoding="utf-8")
        assert written.startswith(f"# {model.card.name}\n")
        assert f"file `{path.name}`" in written
        for source in model.card.sources:
            assert source in written
        assert set(model.card.decisions) == set(model.card.states)
        assert model.card.metrics["left-out"]["images"] > 200


def test_the_samples_are_judged_and_the_broken_ones_are_named(run) -> None:
    done = run("scan", str(ROOT / "tests" / "samples"), "--technique", "all", "--format", "json", "-q")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["summary"]["judged"] == 17
    assert {Path(row["path"]).name: row["status"] for row in report["files"] if row["status"] != "ok"} == {
        "not_an_image.png": "not_an_image",
        "truncated.jpg": "truncated",
    }
    judged = [row for row in report["files"] if row["status"] == "ok"]
    # What was adapted to a few sources is no equal judge of images from anywhere
    assert all(set(row["techniques"]) == TECHNIQUES - {"finetune"} for row in judged)
    assert not any(row["headline"] == "generated" for row in judged if "/real_" in row["path"])


def test_a_wheel_carries_both_packages_and_the_native_export_but_no_benchmark(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"forensic_cli/main.py", "forensic_train/commands/train.py", "forensic_train/paper_counts.csv"} <= names
    assert {f"forensic_cli/reports/html/{name}" for name in ("template.html", "style.css", "start.js")} <= names
    assert {name for name in names if name.endswith((".onnx", ".pt"))} == {"forensic_cli/exports/native.onnx"}
    folders = {name.partition("/")[0] for name in names}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"forensic_cli", "forensic_train"}
