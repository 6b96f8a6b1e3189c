"""Tests of `scan --resume`: a scan killed at any instant ends as if nobody had stopped it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_cli import judge
from toys import child_environment, genforensic, make_images, solid, write_toy_exports

IMAGES = 400


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_exports(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several hundred files: new contents, copies of earlier ones, and bad files, copied as well."""
    folder = make_images(tmp_path_factory.mktemp("many"))
    chance = random.Random(1)
    for i in range(IMAGES):
        earlier = folder / f"z{chance.randrange(i + 1):04}.png"
        if chance.random() < 0.5 and earlier.exists():
            os.link(earlier, folder / f"z{i:04}.png")
        else:
            pattern = np.random.default_rng(i).integers(0, 256, (20, 24, 3), np.uint8)
            Image.fromarray(pattern).save(folder / f"z{i:04}.png")
        if i % 50 == 0:
            (folder / f"z{i:04}-bad.png").write_text(f"not an image {i % 100}")
    return folder


def command(exports: Path, images: Path, out: Path, *more: str) -> list[Any]:
    return [
        "scan",
        images,
        "--exports",
        exports,
        "-q",
        "-f",
        "jsonl",
        "-o",
        out,
        "--batch-size",
        "2",
        "-t",
        "all",
        "--dedupe",
        *more,
    ]


def rows(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True)[1:] if not line.startswith(b'{"seal"')]


@pytest.fixture(scope="module")
def undisturbed(exports: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    out = tmp_path_factory.mktemp("whole") / "rows.jsonl"
    assert genforensic(*command(exports, many, out)).returncode == 1
    return rows(out)


def kill_at(size: int, arguments: list[Any], out: Path) -> None:
    """Start a scan and kill it when its report has reached so many bytes."""
    child = subprocess.Popen([sys.executable, "-m", "forensic_cli", *arguments], env=child_environment())
    while child.poll() is None and not (out.exists() and out.stat().st_size >= size):
        sleep(0.0005)
    child.kill()
    child.wait()


def test_a_scan_killed_at_random_instants_ends_with_the_same_rows(
    exports: Path, many: Path, tmp_path: Path, undisturbed: list[bytes]
) -> None:
    chance = random.Random(3)
    out = tmp_path / "rows.jsonl"
    total = sum(map(len, undisturbed))
    for size in sorted(chance.randrange(total) for _ in range(6)):
        kill_at(size, command(exports, many, out, "--resume"), out)
    done = genforensic(*command(exports, many, out, "--resume"))
    assert done.returncode == 1
    assert rows(out) == undisturbed
    assert genforensic("verify", out, "--exports", exports).returncode == 0


@pytest.mark.parametrize("seed", range(12))
def test_a_report_cut_at_any_byte_is_completed(
    seed: int, run: Any, exports: Path, many: Path, tmp_path: Path, undisturbed: list[bytes]
) -> None:
    whole = tmp_path / "whole.jsonl"
    assert run(*command(exports, many, whole)).exit_code == 1
    data = whole.read_bytes()
    out = tmp_path / "rows.jsonl"
    cut = random.Random(seed).randrange(len(data))
    out.write_bytes(data[:cut])
    assert run(*command(exports, many, out, "--resume")).exit_code == 1
    assert rows(out) == undisturbed
    if cut > data.index(b"\n"):  # else the header, which names the time, is a new one
        assert out.read_bytes() == data  # the seal as well
    assert run("verify", out, "--exports", exports).exit_code == 0


@pytest.mark.parametrize("seed", range(6))
def test_copies_of_forgotten_files_are_judged_again_as_in_a_scan_that_nobody_stopped(
    seed: int, run: Any, exports: Path, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "REMEMBERED", 20)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "rows.jsonl"
    assert run(*command(exports, many, whole)).exit_code == 1
    marked = sum(json.loads(row)["duplicate_of"] is not None for row in rows(whole))
    contents = len({json.loads(row)["sha256"] for row in rows(whole)})
    assert 20 < marked < len(rows(whole)) - contents
    data = whole.read_bytes()
    out.write_bytes(data[: random.Random(seed).randrange(len(data))])
    assert run(*command(exports, many, out, "--resume")).exit_code == 1
    assert rows(out) == rows(whole)


def test_the_files_to_resume_have_copies_and_findings(undisturbed: list[bytes]) -> None:
    found = [json.loads(row) for row in undisturbed]
    assert 150 < sum(row["duplicate_of"] is not None for row in found) < 250
    assert {row["status"] for row in found if row["duplicate_of"]} == {"ok", "not_an_image"}
    assert max(row["cluster"] or 0 for row in found) > 100


def test_the_totals_of_a_resumed_scan_count_kept_copies(
    run: Any, exports: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forensic_cli import scan

    os.link(images / "1-red.png", images / "1-tinted.png")
    out = tmp_path / "rows.jsonl"
    assert run(*command(exports, images, out)).exit_code == 0
    totals = []
    report_scan = scan.report_scan

    def noted(*arguments: Any) -> Any:
        totals.append(report_scan(*arguments))
        return totals[-1]

    monkeypatch.setattr(scan, "report_scan", noted)
    for length in (None, 900):
        out.write_bytes(out.read_bytes()[:length])
        assert run(*command(exports, images, out, "--resume")).exit_code == 0
    assert [(one.judged, one.copies) for one in totals] == [(6, 1), (6, 1)]


def test_a_whole_report_is_left_as_it_is_and_nothing_is_judged(
    run: Any, exports: Path, many: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.jsonl"
    run(*command(exports, many, out))
    before = out.read_bytes()
    again = run(*command(exports, many, out, "--resume"))
    assert (again.exit_code, out.read_bytes()) == (1, before)
    assert again.stderr == f"{out}: {len(before.splitlines()) - 2} rows are kept\n"


def test_rows_of_changed_vanished_and_new_files_are_made_again(run: Any, exports: Path, tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images")
    out, fresh = tmp_path / "rows.jsonl", tmp_path / "fresh.jsonl"
    run(*command(exports, folder, out))
    solid(folder / "3-blue.bmp", (255, 0, 0))
    (folder / "4-grey.png").unlink()
    solid(folder / "4-new.png", (0, 255, 0))
    assert run(*command(exports, folder, out, "--resume")).exit_code == 0
    run(*command(exports, folder, fresh))
    assert rows(out) == rows(fresh)
    assert [Path(json.loads(row)["path"]).name for row in rows(out)][2:4] == ["3-blue.bmp", "4-new.png"]


def test_other_settings_models_or_files_are_refused(run: Any, exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run(*command(exports, images, out))
    before = out.read_bytes()
    refused = run(*command(exports, images, out, "--resume", "--threshold", "0.9"))
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"genforensic: {out}: was begun with other threshold; give the same options and models, "
        "choose another --output, or start over with --force and without --resume\n"
    )
    other = run("scan", images, "--exports", exports, "-f", "jsonl", "-o", out, "--resume")
    assert "was begun with other models, providers, ensemble" in other.stderr
    text = tmp_path / "notes.txt"
    text.write_text("mine\n")
    foreign = run(*command(exports, images, text, "--resume"))
    assert foreign.exit_code == 2
    assert foreign.stderr == (f"genforensic: {text}: not a JSON Lines report of genforensic; choose another --output\n")
    assert (out.read_bytes(), text.read_text()) == (before, "mine\n")


@pytest.mark.parametrize("options", [("-f", "csv", "-o", "rows.csv"), ("-f", "jsonl"), ()])
def test_only_json_lines_in_a_file_can_be_resumed(
    options: tuple[str, ...], run: Any, exports: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("scan", images, "--exports", exports, "--resume", *options)
    assert done.exit_code == 2
    assert done.stderr == ("genforensic: --resume goes on with JSON Lines in a file; add --output FILE.jsonl\n")
    assert list(tmp_path.glob("rows*")) == []


def test_a_foreign_file_is_never_emptied(run: Any, exports: Path, images: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("my only notes")
    done = run(*command(exports, images, notes, "--resume"))
    assert (done.exit_code, notes.read_text()) == (2, "my only notes")
    assert "not a JSON Lines report of genforensic" in done.stderr


def test_a_report_of_other_files_is_refused(run: Any, exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run(*command(exports, images, out))
    before = out.read_bytes()
    done = run(*command(exports, make_images(tmp_path / "others"), out, "--resume"))
    assert (done.exit_code, out.read_bytes()) == (2, before)
    assert f"holds rows of other files, the first of {images / '1-red.png'}; give the same paths" in done.stderr


def test_rows_that_are_made_again_are_counted(run: Any, exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    run(*command(exports, images, out))
    solid(images / "3-blue.bmp", (255, 0, 0))
    done = run(*command(exports, images, out, "--resume"))
    assert done.stderr.splitlines() == [
        f"{out}: 3 rows are judged again, from the first file that changed",
        f"{out}: 2 rows are kept",
    ]


ODD = [b'{"views": "1"}', b"[" * 200_000, b"1e999", b'"text"', b'{"path": 1}', b"\xff\xfe", b"null"]


@pytest.mark.parametrize("line", ODD, ids=range(len(ODD)))
def test_a_damaged_row_ends_what_is_kept(
    line: bytes, run: Any, exports: Path, many: Path, tmp_path: Path, undisturbed: list[bytes]
) -> None:
    out = tmp_path / "rows.jsonl"
    assert run(*command(exports, many, out)).exit_code == 1
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join([*lines[:200], line + b"\n", *lines[201:-1]]))  # of a stopped scan: no seal
    assert run(*command(exports, many, out, "--resume")).exit_code == 1
    assert rows(out) == undisturbed


def test_an_unreadable_row_is_made_again_when_its_reason_changed(run: Any, exports: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").symlink_to("nowhere")
    out = tmp_path / "rows.jsonl"
    run(*command(exports, folder, out))
    assert json.loads(rows(out)[0])["status"] == "missing"
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to("a.png")
    run(*command(exports, folder, out, "--resume"))
    assert json.loads(rows(out)[0])["status"] == "unreadable"


def test_two_scans_do_not_write_one_report(run: Any, exports: Path, many: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    out = tmp_path / "rows.jsonl"
    run(*command(exports, many, out))
    before = out.read_bytes()
    with out.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for option in ("--resume", "--force"):
            done = run(*command(exports, many, out, option))
            assert done.exit_code == 2
            assert "another scan is writing it; wait until it has ended" in done.stderr
    assert out.read_bytes() == before
