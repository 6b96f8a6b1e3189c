"""Folds that leave out whole sources, subjects or generators, and what cross-fitting finds with them."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forensic_cli.errors import DataError
from forensic_cli.model import Model
from forensic_train.crossfit.folds import assign_folds, fold_splits
from forensic_train.crossfit.scores import Scores, read_scores, write_scores
from forensic_train.manifest import write_rows
from forensic_train.rows import Row
from toy_training import hashed

RunCommand = Callable[..., Any]


def rows_of(sources: dict[str, dict[str, int]]) -> list[Row]:
    return [
        Row(Path(f"{g}/{s}/{i}.png"), g, f"subject-{i % 2}", f"{g}-{s}-{i // 2}", s, sha256=hashed(f"{g}{s}{i}"))
        for g, some in sources.items()
        for s, count in some.items()
        for i in range(count)
    ]


ROWS = rows_of({"a": {"s1": 20, "s2": 10, "s3": 12}, "b": {"s1": 8, "s4": 9, "s5": 7}, "real": {"only": 24}})
ADAPTED = ("adapt", "test")


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


@pytest.mark.parametrize("adapting", [False, True])
def test_a_left_out_generator_is_in_no_training_part(adapting: bool) -> None:
    splits = fold_splits(ROWS, "generator", 3, adapting)
    for name, split in zip(("a", "b"), splits, strict=True):
        assert {row.split for row in split if row.generator == name} == {"test"}
        assert any(row.split == "test" and row.generator != name for row in split)
        assert {row.generator for row in split if row.split == "train"} == {"a", "b", "real"} - {name}


@pytest.mark.parametrize("unit", ["source", "subject", "generator"])
def test_no_unit_is_adapted_to_and_tested_on(unit: str) -> None:
    name = "source" if unit == "generator" else unit
    for split in fold_splits(ROWS, unit, 2, adapting=True):
        sides = defaultdict(set)
        for row in split:
            if row.split != "train":
                sides[getattr(row, name)].add(row.split)
        assert all(len(some) == 1 for some in sides.values())
        plain = fold_splits(ROWS, unit, 2, adapting=False)
        assert [row.split == "train" for row in split] in [[row.split == "train" for row in one] for one in plain]


def test_every_second_unit_of_a_generator_is_adapted_to() -> None:
    many = rows_of({g: {f"{g}{i}": 2 for i in range(12)} for g in ("a", "b", "real")})
    for split in fold_splits(many, "source", 2, adapting=True):
        for generator in ("a", "b", "real"):
            sides = [{row.source for row in split if (row.generator, row.split) == (generator, s)} for s in ADAPTED]
            assert [len(side) for side in sides] == [3, 3]


def test_units_that_generators_share_are_still_dealt_out_evenly() -> None:
    """In whichever order each generator has them: else all of them could be adapted to, and none be left to test."""
    sources = [f"s{i}" for i in range(8)]
    shared = rows_of({"a": dict.fromkeys(sources, 2), "b": dict.fromkeys([*sources[1:], sources[0]], 2)})
    shared += rows_of({"real": {f"r{i}": 2 for i in range(8)}})
    for split in fold_splits(shared, "source", 2, adapting=True):
        for generator in ("a", "b", "real"):
            counts = [len({r.source for r in split if (r.generator, r.split) == (generator, s)}) for s in ADAPTED]
            assert counts == [2, 2]


def test_images_without_a_source_cannot_be_left_out_by_it() -> None:
    with pytest.raises(DataError, match="some images have no source, so none can be left out"):
        assign_folds([replace(row, source="") for row in ROWS], "source", 3)


@pytest.fixture
def scores(tmp_path: Path) -> Scores:
    """Return scores of four images in two forms, one file name of which is no UTF-8."""
    rows = [replace(row, path=tmp_path / row.path, split="test") for row in ROWS[:4]]
    rows[1] = replace(rows[1], path=tmp_path / os.fsdecode(b"caf\xe9.png"))
    logits = np.array([[1.5, -2, -np.inf], [0, 0, 1], [3, 2, 1], [-1, 1e-3, 7]], np.float32)
    return Scores(
        "baseline",
        ("a", "b", "real"),
        tuple(rows),
        np.array([0, 1, 2, 0]),
        ("as it is", "jpeg"),
        np.array([["lossless", "jpeg 80"]] * 4),
        np.stack([logits, logits + 1], axis=1),
        np.arange(8, dtype=np.float32).reshape(4, 2),
    )


def test_scores_come_back_as_they_were_written(tmp_path: Path, scores: Scores) -> None:
    write_scores(tmp_path / "scores-baseline.npz", scores)
    found = read_scores(tmp_path / "scores-baseline.npz")
    for name in ("technique", "labels", "rows", "forms"):
        assert getattr(found, name) == getattr(scores, name)
    for name in ("folds", "states", "logits", "distances"):
        assert np.array_equal(getattr(found, name), getattr(scores, name)), name
    some = found.at([2, 0])
    assert some.rows == (scores.rows[2], scores.rows[0])
    assert np.array_equal(some.logits, scores.logits[[2, 0]])


def test_what_is_no_file_of_scores_is_named(tmp_path: Path, scores: Scores) -> None:
    path = tmp_path / "scores-baseline.npz"
    with pytest.raises(DataError, match=r"scores-baseline\.npz: is not a file of scores \(FileNotFoundError"):
        read_scores(path)
    write_scores(path, scores)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", path=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    zeroed = whole[:100] + bytes(60) + whole[160:]
    others = ((tmp_path / name).read_bytes() for name in ("other.npz", "array.npy"))
    for content in (b"", b"path,logit\nx,1\n", whole[: len(whole) // 2], zeroed, *others):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"scores-baseline\.npz: is not a file of scores"):
            read_scores(path)


@pytest.fixture
def manifest(labelled: Path, tmp_path: Path) -> Path:
    """Write a manifest of the toy images in which each generator has two sources."""
    return write_manifest(labelled, tmp_path, 2)


def write_manifest(labelled: Path, folder: Path, sources: int) -> Path:
    rows = []
    for path in sorted(labelled.rglob("*.png")):
        generator, subject = path.parts[-3:-1]
        rows.append(Row(path, generator, subject, source=f"{generator}-{int(path.stem) % sources}"))
    write_rows(folder / "m.csv", [replace(row, split="") for row in rows])
    return folder / "m.csv"


def test_left_out_scores_decide_for_an_export_that_is_trained_on_everything(
    run: RunCommand, manifest: Path, tmp_path: Path
) -> None:
    common = ["--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "discriminant"]
    left_out = [*common, "--leave-out", "source", "--folds", "2", "--output", str(tmp_path / "lo")]
    done = run("evaluate", *left_out, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["unit"] == "source"
    assert sum(one["images"] for one in found["recalls"]) == found["evaluations"][0]["metrics"]["images"] == 70
    assert json.loads((tmp_path / "lo" / "left-out.json").read_text()) == found
    measured = found["evaluations"][0]["states"]["any"]["all forms"]
    assert (measured["images"], measured["sources"], measured["labels"]) == (70, 6, 3)
    text = (tmp_path / "lo" / "left-out.md").read_text()
    for title in (
        "Recall by left-out source",
        "discriminant: answers by state",
        "discriminant: answers by label, images as published",
        "discriminant: answers by source, images as published",
    ):
        assert f"## {title}\n" in text
    assert re.search(r"^\| any, all forms( \(gives no answer\))? \| 70 \| 6 \|", text, re.MULTILINE)
    final = run("train", *common, "--calibrate", str(tmp_path / "lo"), "--output", str(tmp_path / "final"))
    assert final.exit_code == 0, final.stderr
    card = Model.load(tmp_path / "final" / "exports" / "toy-discriminant.onnx").card
    assert sum(sum(row.values()) for row in card.data.values()) == 70
    assert card.decisions["any"].measured == {"all forms": measured}
    assert card.validation.startswith("70 images from 6 sources, each judged by a model of the same kind")
    assert card.metrics["left-out"]["images"] == 70
    text = (tmp_path / "final" / "exports" / "toy-discriminant.md").read_text()
    assert re.search(r"^\| any, all forms( \(gives no answer\))? \| 70 \| 6 \|", text, re.MULTILINE)
    assert "## Validation\n\n70 images from 6 sources" in text


def test_a_left_out_generator_is_told_from_the_known_ones(run: RunCommand, manifest: Path, tmp_path: Path) -> None:
    wish = ["--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "discriminant", "--folds", "2"]
    done = run("evaluate", *wish, "--leave-out", "generator", "--output", str(tmp_path / "lo"), "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)["open_set"]
    assert {one["generator"] for one in found} == {"alpha", "beta", "gamma"}
    assert all(0 <= one["oscr"] <= one["auroc"] <= 1 for one in found)


def test_a_left_out_generator_is_not_adapted_to(run: RunCommand, labelled: Path, tmp_path: Path) -> None:
    manifest = write_manifest(labelled, tmp_path, 4)
    wish = ["--data", str(manifest), "--recipe", "toy", "--set", "epochs=1", "-t", "all", "--folds", "2", "--fold", "2"]
    done = run("evaluate", *wish, "--leave-out", "generator", "--output", str(tmp_path / "lo"), "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = {(one["technique"], one["generator"], one["images"]) for one in json.loads(done.stdout)["open_set"]}
    assert {("finetune", "gamma", 14), ("baseline", "gamma", 14)} <= found


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
    scores = read_scores(output / "fold-1" / "scores-discriminant.npz")
    assert set(scores.folds.tolist()) == {1}
    assert not (output / "scores-discriminant.npz").exists()
    assert not (output / "fold-0").exists()
