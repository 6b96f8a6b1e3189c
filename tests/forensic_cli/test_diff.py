"""Tests of `genforensic diff`: what changed between two scans, and the exit codes of diff."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from toys import genforensic, make_images, solid

Scan = Callable[..., Path]


@pytest.fixture
def scan(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> Scan:
    """Return a function that scans the toy images into a named file."""

    def once(name: str, *more: Any, report: str = "jsonl") -> Path:
        out = tmp_path / name
        done = run("scan", images, "--exports", toy_exports, "-f", report, "-o", out, *more)
        assert done.exit_code in (0, 1)
        return out

    return once


def test_two_scans_of_the_same_are_the_same(run: Any, scan: Scan) -> None:
    done = run("diff", scan("a.jsonl"), scan("b.json", report="json"))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "The scans are the same: 5 images.\n", "")


def test_added_removed_and_changed_images_are_told(run: Any, scan: Scan, images: Path) -> None:
    old = scan("old.jsonl")
    (images / "1-red.png").unlink()
    solid(images / "3-blue.bmp", (0, 255, 0))
    (images / "4-grey.png").write_text("text")
    solid(images / "6-new.png", (0, 0, 255))
    done = run("diff", old, scan("new.jsonl"))
    assert (done.exit_code, done.stderr) == (12, "")
    changed, grey, added, removed, totals, fields = done.stdout.splitlines()
    assert changed.startswith(
        f"~ {images}/3-blue.bmp: verdict beta -> alpha, label beta -> alpha, candidates beta -> alpha, sha256 "
    )
    assert grey.startswith(
        f"~ {images}/4-grey.png: status ok -> not_an_image, headline undecided -> none, verdict inconclusive -> none, "
    )
    assert added == f"+ {images}/6-new.png: headline generated, verdict beta"
    assert removed == f"- {images}/1-red.png: headline real, verdict real"
    assert totals == "1 added, 1 removed, 2 changed, 2 unchanged"
    assert fields == (
        "changed: status 1, headline 1, verdict 2, label 2, candidates 2, sha256 2, p_generated 1, confidence 1"
    )


def test_models_and_settings_are_told(run: Any, scan: Scan) -> None:
    old, new = scan("old.jsonl"), scan("new.jsonl", "-t", "weighted", "--threshold", "1")
    done = run("diff", old, new, "--tolerance", "0.5")
    assert done.exit_code == 12
    lines = done.stdout.splitlines()
    hashes = [
        json.loads(one.read_text().splitlines()[0])["genforensic"]["models"][0]["sha256"][:12] for one in (old, new)
    ]
    assert lines[:3] == [
        f"model native baseline {hashes[0]} -> none",
        f"model native weighted none -> {hashes[1]}",
        "setting threshold none -> 1",
    ]
    assert lines[3].endswith("2-green.webp: verdict alpha -> inconclusive")
    assert run("diff", old, new, "--tolerance", "0.5", "--images-only").stdout.splitlines() == lines[3:]


def test_one_more_model_on_the_same_device_is_no_other_provider(run: Any, scan: Scan) -> None:
    old, new = scan("old.jsonl"), scan("new.jsonl", "-t", "baseline", "-t", "weighted")
    assert "setting providers" not in run("diff", old, new).stdout
    new.write_text(new.read_text().replace("CPUExecutionProvider", "CUDAExecutionProvider", 1))
    assert (
        "setting providers CPUExecutionProvider -> CPUExecutionProvider/CUDAExecutionProvider\n"
        in run("diff", old, new).stdout
    )


@pytest.mark.parametrize(("tolerance", "code"), [("0.2", 0), ("0.001", 12)])
def test_confidences_within_the_tolerance_are_the_same(tolerance: str, code: int, run: Any, scan: Scan) -> None:
    old, new = scan("old.jsonl"), scan("new.jsonl", "-t", "adversarial")
    done = run("diff", old, new, "--images-only", "--tolerance", tolerance)
    assert done.exit_code == code
    assert ("confidence 0.964663 -> 0.991893" in done.stdout) == bool(code)


def test_json_has_every_change(run: Any, scan: Scan, images: Path) -> None:
    old = scan("old.jsonl")
    solid(images / "3-blue.bmp", (255, 0, 0))
    found = json.loads(run("diff", old, scan("new.jsonl"), "-f", "json").stdout)
    assert (found["same"], found["models"], found["settings"]) == (False, [], [])
    assert found["totals"] == {
        **{"added": 0, "removed": 0, "changed": 1, "unchanged": 4},
        **{"status": 0, "headline": 1, "verdict": 1, "label": 1, "candidates": 1, "warnings": 0, "sha256": 1},
        **{"p_generated": 1, "confidence": 0},
    }
    (image,) = found["images"]
    assert (image["path"], image["kind"]) == (f"{images}/3-blue.bmp", "changed")
    assert image["changes"][:3] == [
        {"name": "headline", "old": "generated", "new": "real"},
        {"name": "verdict", "old": "beta", "new": "real"},
        {"name": "label", "old": "beta", "new": "real"},
    ]


def test_a_file_that_was_scanned_twice_is_compared_by_its_turn(
    run: Any, scan: Scan, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    once, twice = scan("once.jsonl"), tmp_path / "twice.jsonl"
    listed = "\n".join(map(str, [*sorted(images.iterdir()), images / "1-red.png"]))
    genforensic("scan", "-", "--exports", toy_exports, "-f", "jsonl", "-o", twice, input=listed)
    done = run("diff", once, twice)
    assert done.exit_code == 12
    assert done.stdout.splitlines()[0] == f"+ {images}/1-red.png (scanned again, 2): headline real, verdict real"


def test_trouble_is_exit_code_2(run: Any, scan: Scan, tmp_path: Path) -> None:
    old = scan("old.jsonl")
    (tmp_path / "notes.txt").write_text("mine")
    for other in (tmp_path / "none", tmp_path / "notes.txt", make_images(tmp_path / "more")):
        done = run("diff", old, other)
        assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert done.stderr.startswith(f"genforensic: {other}: ")


def test_a_path_cannot_move_the_cursor(run: Any, scan: Scan, images: Path) -> None:
    old = scan("old.jsonl")
    solid(images / "esc\x1b[2J.png", (255, 0, 0))
    done = run("diff", old, scan("new.jsonl"))
    assert "\x1b" not in done.stdout
    assert r"esc\x1b[2J.png" in done.stdout


def test_json_is_json_where_the_screen_has_no_such_characters(scan: Scan) -> None:
    old, new = scan("old.jsonl"), scan("new.jsonl")
    new.write_text(new.read_text().replace("1-red", "é😀"), encoding="utf-8")
    done = genforensic("diff", old, new, "-f", "json", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (12, "")
    assert json.loads(done.stdout)["images"][0]["path"].endswith("é😀.png")


def test_a_row_that_cannot_be_read_is_wrong_use(run: Any, scan: Scan) -> None:
    old, new = scan("old.jsonl"), scan("new.jsonl")
    new.write_text(new.read_text().replace("1-red", r"\ud800"))
    done = run("diff", old, new, "-f", "json")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"genforensic: {new}: row 1 is not a record; give what `genforensic scan")
