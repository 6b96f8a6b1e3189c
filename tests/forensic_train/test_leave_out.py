"""Folds that leave out whole sources, subjects or generators, and what cross-fitting finds with them."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forensic_cli.errors import DataError
from forensic_cli.model import Model
from forensic_cli.reencode import REENCODINGS
from forensic_train.leave_out import assign_folds, fold_splits
from forensic_train.left_out_report import left_out_robustness
from forensic_train.manifest import Row, write_rows
from forensic_train.scores import Scores, read_scores, write_scores

RunCommand = Callable[..., Any]


def rows_of(sources: dict[str, dict[str, int]]) -> list[Row]:
    return [
        Row(Path(f"{g}/{s}/{i}.png"), g, f"subject-{i % 2}", f"{g}-{s}-{i // 2}", s, sha256=f"{g}{s}{i}")
        for g, some in sources.items()
        for s, count in some.items()
        for i in range(count)
    ]


ROWS = rows_of({"a": {"s1": 20, "s2": 10, "s3": 12}, "b": {"s1": 8, "s4": 9, "s5": 7}, "real": {"only": 24}})


def test_a_source_is_never_divided_and_every_fold_trains_on_every_generator() -> None:
    folds = assign_folds(ROWS, "source", 3)
    by_source = defaultdict(set)
    for row, fold in zip(ROWS, folds, strict=True):
        by_source[row.source].add(fold)
    assert all(len(by_source[name]) == 1 for name in ("s1", "s2", "s3", "s4", "s5"))
    assert by_source["only"] == {0, 1, 2}  # a generator of one source is divided by groups
    for split in fold_splits(ROWS, "source", 3, adapting=False):
        for side in ("train", "test"):
            assert {row.generator for row in split if row.split == side} == {"a", "b", "real"}
        groups = defaultdict(set)
        for row in split:
            groups[row.group].add(row.split)
        assert all(len(sides) == 1 for sides in groups.values())


def test_a_left_out_generator_is_in_no_training_part() -> None:
    splits = fold_splits(ROWS, "generator", 3, adapting=False)
    for name, split in zip(("a", "b"), splits, strict=True):
        assert {row.split for row in split if row.generator == name} == {"test"}
        assert any(row.split == "test" and row.generator != name for row in split)
        assert {row.generator for row in split if row.split == "train"} == {"a", "b", "real"} - {name}


def test_adapting_takes_four_in_five_held_out_groups() -> None:
    (split, *_) = fold_splits(ROWS, "source", 3, adapting=True)
    adapt, test = (sum(row.split == side for row in split) for side in ("adapt", "test"))
    assert 2 * test < adapt


def test_images_without_a_source_cannot_be_left_out_by_it() -> None:
    with pytest.raises(DataError, match="not every image names its source, so none can be left out"):
        assign_folds([replace(row, source="") for row in ROWS], "source", 3)


def test_scores_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = tuple(replace(row, path=tmp_path / row.path, split="test") for row in ROWS[:4])
    logits = np.array([[1.5, -2, -np.inf], [0, 0, 1], [3, 2, 1], [-1, 1e-3, 7]], np.float32)
    scores = Scores("baseline", ("a", "b", "real"), rows, np.array([0, 1, 2, 0]), logits)
    write_scores(tmp_path / "scores-baseline.csv", scores)
    found = read_scores(tmp_path / "scores-baseline.csv")
    assert (found.technique, found.labels, found.rows) == ("baseline", scores.labels, rows)
    assert np.array_equal(found.folds, scores.folds)
    assert found.logits == pytest.approx(logits)
    (tmp_path / "no.csv").write_text("path\nx\n")
    with pytest.raises(DataError, match=r"no\.csv: is not a file of scores"):
        read_scores(tmp_path / "no.csv")


@pytest.fixture
def manifest(labelled: Path, tmp_path: Path) -> Path:
    """Write a manifest of the toy images in which each generator has two sources."""
    rows = []
    for path in sorted(labelled.rglob("*.png")):
        generator, subject = path.parts[-3:-1]
        rows.append(Row(path, generator, subject, source=f"{generator}-{int(path.stem[-1], 36) % 2}"))
    write_rows(tmp_path / "m.csv", [replace(row, split="") for row in rows])
    return tmp_path / "m.csv"


def test_left_out_scores_calibrate_an_export_that_is_trained_on_everything(
    run: RunCommand, manifest: Path, tmp_path: Path
) -> None:
    common = ["--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "discriminant"]
    left_out = [*common, "--leave-out", "source", "--folds", "2", "--output", str(tmp_path / "lo")]
    done = run("evaluate", *left_out, "--robustness", "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["unit"] == "source"
    assert sum(one["images"] for one in found["recalls"]) == found["evaluations"][0]["metrics"]["images"] == 70
    assert json.loads((tmp_path / "lo" / "left-out.json").read_text()) == found
    measured = {one["reencoding"]: one for one in found["evaluations"][0]["robustness"]}
    assert set(measured) == {"original", *REENCODINGS}
    assert measured["original"]["accuracy"] == found["evaluations"][0]["metrics"]["accuracy"]
    assert {(one["images"], one["set"]) for one in measured.values()} == {(70, "left-out")}
    assert (tmp_path / "lo" / "robustness.png").stat().st_size > 5000
    assert "Recall by left-out source" in (tmp_path / "lo" / "left-out.md").read_text()
    final = run("train", *common, "--calibrate", str(tmp_path / "lo"), "--output", str(tmp_path / "final"))
    assert final.exit_code == 0, final.stderr
    card = Model.load(tmp_path / "final" / "exports" / "toy-discriminant.onnx").card
    assert sum(sum(row.values()) for row in card.data.values()) == 70
    assert card.calibration.images == 70
    assert card.validation.startswith("70 images of 6 sources, each judged by a model of the same kind")
    assert card.metrics["left-out"]["images"] == 70
    assert card.robustness["jpeg75"]["macro_recall"] == measured["jpeg75"]["macro_recall"]
    text = (tmp_path / "final" / "exports" / "toy-discriminant.md").read_text()
    assert "The images of **left-out**, changed as platforms and editors change them" in text


def test_a_damaged_report_on_left_out_images_is_named(tmp_path: Path) -> None:
    assert left_out_robustness(tmp_path, "baseline") == {}
    (tmp_path / "left-out.json").write_text('{"evaluations": [{"technique": "baseline", "robustness": [{"x": 1}]}]}')
    with pytest.raises(DataError, match=r"left-out\.json: is not a report on left-out images \(TypeError"):
        left_out_robustness(tmp_path, "baseline")


def test_a_left_out_generator_is_told_from_the_known_ones(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    wish = ["--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "discriminant", "--folds", "2"]
    done = run("evaluate", *wish, "--leave-out", "generator", "--output", str(tmp_path / "lo"), "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["open_set"]
    assert {one["generator"] for one in found} == {"alpha", "beta", "gamma"}
    assert all(0 <= one["oscr"] <= one["auroc"] <= 1 for one in found)


def test_leaving_out_needs_data_and_a_folder(run: RunCommand, manifest: Path) -> None:
    done = run("evaluate", "--leave-out", "source", "--data", str(manifest))
    assert done.exit_code == 2
    assert done.stderr == (
        "genforensic: --leave-out trains models; name labelled images with --data, and a folder for the runs "
        "with --output\n"
    )


def test_one_fold_alone_leaves_the_scores_of_all_folds_alone(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    output = tmp_path / "lo"
    common = ["evaluate", "--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "discriminant"]
    one = [*common, "--leave-out", "source", "--folds", "2", "--output", str(output), "--fold"]
    done = run(*one, "2")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        2,
        "genforensic: --fold 2 is not one of the 2 folds; allowed: 0 to 1",
    )
    done = run(*one, "1", "--format", "json")
    assert done.exit_code == 0, done.stderr
    scores = read_scores(output / "fold-1" / "scores-discriminant.csv")
    assert set(scores.folds.tolist()) == {1}
    assert not (output / "scores-discriminant.csv").exists()
    assert not (output / "fold-0").exists()
