"""Tests of copies and near-duplicates: equal bytes, equal looks, and neither depends on threads."""

import csv
import io
import json
import os
import random
import shutil
import sys
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from forensic_cli import judge
from forensic_cli.judge import REMEMBERED, Clusters, Seen
from forensic_cli.record import read_row
from toys import genforensic, rows_of, solid

Row = dict[str, Any]
COPY = {"path", "duplicate_of"}


def textured(path: Path, seed: int, **options: Any) -> Path:
    """Write a coarse random pattern that survives compression; another seed looks different."""
    tiles = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(tiles).resize((96, 80), Image.Resampling.BICUBIC).save(path, **options)
    return path


def names(rows: Sequence[Row], field: str) -> list[str | None]:
    return [row[field] and Path(row[field]).name for row in rows]


@pytest.fixture
def copied(images: Path) -> Path:
    """Five images, of which two have copies; a broken file with a copy; two empty files."""
    shutil.copy(images / "1-red.png", images / "3-again.dat")
    os.link(images / "1-red.png", images / "9-linked.png")
    shutil.copy(images / "2-green.webp", images / "0-green.webp")
    for name in ("4-broken.png", "7-broken.jpg"):
        (images / name).write_text("not an image")
    for name in ("5-empty.png", "6-empty.png"):
        (images / name).write_bytes(b"")
    return images


def test_a_copy_has_the_row_of_the_first_but_for_its_path(run: Any, toy_exports: Path, copied: Path) -> None:
    done = run("scan", copied, "--exports", toy_exports, "-f", "jsonl", "-t", "all", "--stability")
    assert (done.exit_code, done.stderr) == (1, "")
    rows = rows_of(done.stdout)
    assert [row["path"] for row in rows] == sorted(map(str, copied.iterdir()))
    first = {row["path"]: row for row in rows}
    marked = {Path(row["path"]).name: row for row in rows if row["duplicate_of"]}
    assert {name: Path(row["duplicate_of"]).name for name, row in marked.items()} == {
        "2-green.webp": "0-green.webp",
        "3-again.dat": "1-red.png",
        "6-empty.png": "5-empty.png",
        "7-broken.jpg": "4-broken.png",
        "9-linked.png": "1-red.png",
    }
    for row in marked.values():
        original = first[row["duplicate_of"]]
        assert {name: row[name] for name in row if name not in COPY} == {
            name: original[name] for name in original if name not in COPY
        }
    assert {(row["status"], row["verdict"]) for row in marked.values()} == {
        *(("ok", "alpha"), ("ok", "real"), ("empty", None), ("not_an_image", None)),
    }


def test_a_file_that_is_met_again_is_no_copy_of_itself(toy_exports: Path, images: Path) -> None:
    once, copy = images / "1-red.png", shutil.copy(images / "1-red.png", images / "copy.png")
    listed = "".join(f"{path}\n" for path in (once, once, copy, once))
    done = genforensic("scan", "-", "--exports", toy_exports, "-f", "jsonl", input=listed)
    assert [row["duplicate_of"] for row in rows_of(done.stdout)] == [None, None, str(once), None]


def test_the_report_for_people_names_copies_and_counts_them(run: Any, toy_exports: Path, copied: Path) -> None:
    lines = run("scan", copied, "--exports", toy_exports).stdout.splitlines()
    cells = "real               p 0.035   PNG, lossless      "
    assert f"{cells}{copied}/9-linked.png  [copy of {copied}/1-red.png]" in lines
    cells = f"{'not judged':<{len(cells)}}"
    assert f"{cells}{copied}/6-empty.png  [copy of {copied}/5-empty.png]  (empty)" in lines
    assert "5 files are exact copies of another file." in lines


def test_json_and_csv_carry_copies(run: Any, toy_exports: Path, copied: Path) -> None:
    shared = ("scan", copied, "--exports", toy_exports, "-f")
    document = json.loads(run(*shared, "json").stdout)
    assert (document["summary"]["copies"], document["summary"]["judged"]) == (5, 8)
    table = list(csv.DictReader(io.StringIO(run(*shared, "csv").stdout)))
    assert [row["duplicate_of"] or None for row in table] == [row["duplicate_of"] for row in document["files"]]


def many_copies(folder: Path, seed: int, files: int = 120, contents: int = 6) -> list[int]:
    """Write files of random contents; returns the content of each, in name order."""
    chance = random.Random(seed)
    folder.mkdir()
    chosen = [chance.randrange(contents) for _ in range(files)]
    for i, content in enumerate(chosen):
        solid(folder / f"{i:03}.png", (content * 20, 255 - content, 0), (20 + content, 20))
    return chosen


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (7, 1), (7, 5), (2, 32)])
@pytest.mark.parametrize("remembered", [3, REMEMBERED])
def test_what_is_a_copy_depends_on_the_order_of_the_files_alone(
    run: Any,
    toy_exports: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    batch: int,
    remembered: int,
) -> None:
    """Against a list of what was met last, kept by hand."""
    many_copies(tmp_path / "in", workers)
    monkeypatch.setattr(judge, "REMEMBERED", remembered)
    done = run(
        *("scan", tmp_path / "in", "--exports", toy_exports, "-f", "jsonl"),
        *("--workers", workers, "--batch-size", batch),
    )
    last: dict[str, str] = {}
    expected = []
    for path in sorted((tmp_path / "in").iterdir()):
        key = path.read_bytes().hex()
        expected.append(last.get(key))
        last[key] = last.pop(key, str(path))
        if len(last) > remembered:
            del last[next(iter(last))]
    rows = rows_of(done.stdout)
    assert [row["duplicate_of"] for row in rows] == expected
    assert 20 < sum(1 for one in expected if one) < 120


def test_the_memory_of_what_was_met_is_bounded(
    run: Any, toy_exports: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = run("scan", images / "1-red.png", "--exports", toy_exports, "-f", "jsonl").stdout.splitlines()[1]
    row = read_row(json.loads(line))
    monkeypatch.setattr(judge, "REMEMBERED", 200)
    seen = Seen()

    def meet(numbers: range) -> int:
        for i in numbers:
            seen.mark(replace(row, sha256=f"{i:064x}", path=f"{i}.png"))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        full = meet(range(400)) - before
        later = meet(range(400, 4000)) - before
    finally:
        tracemalloc.stop()
    assert full / 200 < 1024  # bytes for each content
    assert later < 1.1 * full


@pytest.mark.parametrize("more", [(), ("--stability",), ("-t", "all", "--stability", "--dedupe")])
def test_a_record_is_read_back_as_the_row_that_it_was(
    run: Any, toy_exports: Path, copied: Path, more: tuple[str, ...]
) -> None:
    rows = rows_of(run("scan", copied, "--exports", toy_exports, "-f", "jsonl", *more).stdout)
    assert [read_row(row).record() for row in rows] == rows
    assert len(rows) == 12


# Near-duplicates


@pytest.fixture
def similar(tmp_path: Path) -> Path:
    """Three pictures; two of them also in other formats and sizes."""
    folder = tmp_path / "similar"
    folder.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        textured(folder / f"{name}.png", seed)
    textured(folder / "a-small.jpg", 0, quality=60)
    Image.open(folder / "b.png").resize((150, 120)).save(folder / "b-large.webp")
    shutil.copy(folder / "a.png", folder / "z-copy.png")
    (folder / "bad.png").write_text("text")
    return folder


def test_near_duplicates_are_one_finding(run: Any, toy_exports: Path, similar: Path) -> None:
    done = run("scan", similar, "--exports", toy_exports, "-f", "jsonl", "--dedupe")
    assert (done.exit_code, done.stderr) == (1, "")
    rows = rows_of(done.stdout)
    assert [(Path(row["path"]).name, row["cluster"]) for row in rows] == [
        *(("a-small.jpg", 1), ("a.png", 1), ("b-large.webp", 2), ("b.png", 2), ("bad.png", None), ("c.png", 3)),
        ("z-copy.png", 1),
    ]
    assert [len(row["phash"] or "") for row in rows] == [16, 16, 16, 16, 0, 16, 16]
    assert json.loads(done.stdout.splitlines()[0])["genforensic"]["dedupe"] == 4
    assert names(rows, "duplicate_of") == [None] * 6 + ["a.png"]


def test_findings_in_the_other_formats(run: Any, toy_exports: Path, similar: Path) -> None:
    shared = ("scan", similar, "--exports", toy_exports, "--dedupe", "-f")
    lines = run(*shared, "table").stdout.splitlines()
    assert lines[2].split()[-3:] == ["finding", "1", f"{similar}/a.png"]
    assert lines[5].split() == ["not", "judged", f"{similar}/bad.png", "(not_an_image)"]
    assert "6 images in 3 findings" in lines
    document = json.loads(run(*shared, "json").stdout)
    assert (document["run"]["dedupe"], document["summary"]["findings"]) == (4, 3)
    table = list(csv.DictReader(io.StringIO(run(*shared, "csv").stdout)))
    assert [row["cluster"] for row in table] == ["1", "1", "2", "2", "", "3", "1"]


def test_without_the_option_nothing_is_gathered(run: Any, toy_exports: Path, similar: Path) -> None:
    rows = rows_of(run("scan", similar, "--exports", toy_exports, "-f", "jsonl").stdout)
    assert {(row["cluster"], row["phash"]) for row in rows} == {(None, None)}


def test_a_missing_package_is_one_line(
    run: Any, toy_exports: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    done = run("scan", images, "--exports", toy_exports, "--dedupe")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: --dedupe needs imagehash, which is not installed; run: pip install 'genforensic[dedupe]' "
        "(in a checkout: pip install '.[dedupe]')\n"
    )
    assert run("scan", images, "--exports", toy_exports).exit_code == 0


@given(
    st.lists(st.lists(st.integers(0, 63), max_size=5).map(lambda bits: sum({1 << bit for bit in bits})), max_size=60),
    st.integers(0, 6),
)
def test_an_image_belongs_to_the_finding_of_the_first_that_it_is_close_to(hashes: list[int], distance: int) -> None:
    clusters = Clusters(distance)
    numbers: list[int] = []
    for i, one in enumerate(hashes):
        close = [numbers[j] for j in range(i) if (one ^ hashes[j]).bit_count() <= distance]
        expected = close[0] if close else max(numbers, default=0) + 1
        assert clusters.number(one) == expected
        numbers.append(expected)


def test_more_findings_than_there_was_room_for() -> None:
    clusters = Clusters(0)
    assert [clusters.number(i * 0x9E3779B97F4A7C15 % 2**64) for i in range(1, 3000)] == list(range(1, 3000))
    assert clusters.number(0x9E3779B97F4A7C15) == 1


def test_a_copy_with_another_suffix_has_the_warning_that_its_own_name_deserves(
    run: Any, toy_exports: Path, tmp_path: Path
) -> None:
    for name in ("1.png", "2.jpg", "3.png"):
        solid(tmp_path / name, (255, 0, 0), format="JPEG")
    rows = rows_of(run("scan", tmp_path, "--exports", toy_exports, "-f", "jsonl").stdout)
    assert names(rows, "duplicate_of") == [None, "1.png", "1.png"]
    assert ["wrong_suffix" in row["warnings"] for row in rows] == [True, False, True]
