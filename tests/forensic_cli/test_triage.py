"""Tests of triage: which rows a scan shows and in which order, and decisions that a person makes on them."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest

from toys import child_environment, genforensic, rows_of, solid, toy_card, write_toy_export

Rows = list[dict[str, Any]]


def names(text: str) -> list[str]:
    return [Path(row["path"]).name for row in rows_of(text)]


@pytest.fixture
def scan(run: Any, toy_exports: Path, images: Path) -> Callable[..., Any]:
    def once(*more: Any) -> Any:
        return run("scan", images, "--exports", toy_exports, "-q", "-f", "jsonl", *more)

    return once


# Selection


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--only", "real"), ["1-red.png"]),
        (("--only", "generated"), ["2-green.webp", "3-blue.bmp"]),
        (("--only", "alpha", "--only", "inconclusive"), ["2-green.webp", "4-grey.png", "5-tiny.png"]),
        (("--min-confidence", "0.5"), ["1-red.png", "2-green.webp", "3-blue.bmp", "5-tiny.png"]),
        (("--min-confidence", "0.5", "--only", "undecided"), ["5-tiny.png"]),
    ],
)
def test_only_the_selected_rows_are_shown(options: tuple[str, ...], expected: list[str], scan: Any) -> None:
    done = scan(*options)
    assert (done.exit_code, names(done.stdout)) == (0, expected)
    header = json.loads(done.stdout.splitlines()[0])["genforensic"]["selection"]
    assert header["only"] == [one for one in options if one.isalpha()]


def test_every_image_is_counted_whatever_is_shown(run: Any, toy_exports: Path, images: Path) -> None:
    (images / "0-bad.png").write_text("text")
    done = run("scan", images, "--exports", toy_exports, "-f", "json", "--only", "beta")
    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert [Path(row["path"]).name for row in document["files"]] == ["0-bad.png", "3-blue.bmp"]
    assert (document["summary"]["judged"], document["summary"]["unreadable"]) == (5, 1)


def test_rows_are_sorted_by_path_however_they_were_found(run: Any, toy_exports: Path, images: Path) -> None:
    given = [images / name for name in ("3-blue.bmp", "1-red.png", "2-green.webp")]
    done = run("scan", *given, "--exports", toy_exports, "-f", "jsonl", "--sort", "path")
    assert names(done.stdout) == ["1-red.png", "2-green.webp", "3-blue.bmp"]
    assert done.stderr == "With --sort, no row is written before all images have been judged\n"


def test_rows_are_sorted_by_confidence_and_unreadable_ones_come_last(scan: Any, images: Path) -> None:
    (images / "0-bad.png").write_text("text")
    solid(images / "6-dim.png", (200, 50, 50))
    found = rows_of(scan("--sort", "confidence").stdout)
    assert [Path(row["path"]).name for row in found][-3:] == ["6-dim.png", "4-grey.png", "0-bad.png"]
    sure = [row["confidence"] for row in found[:-1]]
    assert sure == sorted(sure, reverse=True)
    assert len(set(sure)) == 3


def test_rows_are_sorted_by_disagreement(run: Any, tmp_path: Path, images: Path) -> None:
    """The second technique takes green for beta: red and blue agree, green does not."""
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card())
    write_toy_export(tmp_path / "exports" / "b.onnx", toy_card("weighted"), np.array([[4, 0, 0], [0, 0, 9], [0, 0, 4]]))
    done = run(
        *("scan", images, "--exports", tmp_path / "exports", "-f", "jsonl", "-q", "-t", "all"),
        *("--sort", "disagreement"),
    )
    found = rows_of(done.stdout)
    assert Path(found[0]["path"]).name == "2-green.webp"
    assert [row["agreement"] for row in found] == sorted(row["agreement"] for row in found)
    assert found[0]["agreement"] < 1


def test_a_sorted_scan_that_is_interrupted_writes_what_it_has(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    large = solid(tmp_path / "large.png", (0, 255, 0), (1500, 1500)).read_bytes()
    for i in range(1000):
        (images / f"z{i}.png").write_bytes(large + i.to_bytes(2))
    out = tmp_path / "out.jsonl"
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "forensic_cli", "scan", images, "--exports", toy_exports, "-t", "all"),
            *("-f", "jsonl", "-o", out, "--sort", "path", "--batch-size", "1"),
        ],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=child_environment(),
    )
    try:
        while child.poll() is None and not out.exists():
            sleep(0.005)
        sleep(0.4)
        child.send_signal(signal.SIGINT)
        stderr = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert child.returncode == 130
    assert "--resume" not in stderr
    found = names(out.read_text())
    assert 0 < len(found) < 1005
    assert found == sorted(found)


@pytest.mark.parametrize(
    "options", [("--sort", "path"), ("--only", "real"), ("--min-confidence", "0.5")], ids=lambda options: options[0]
)
def test_a_selection_cannot_be_resumed(options: tuple[str, ...], scan: Any, tmp_path: Path) -> None:
    done = scan("-o", tmp_path / "out.jsonl", "--resume", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: --resume needs the rows of all files in their order; leave out --sort, --only and "
        "--min-confidence\n"
    )
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("option", ["--only", "--fail-on"])
def test_a_verdict_that_the_models_do_not_know_is_wrong_use(option: str, scan: Any) -> None:
    done = scan(option, "gamma")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: {option} 'gamma' is not an answer of this scan; allowed: "
        "generated, real, undecided, alpha, beta, inconclusive, unknown\n"
    )


def test_an_unknown_order_is_wrong_use(scan: Any) -> None:
    done = scan("--sort", "size")
    assert done.exit_code == 2
    assert "'size' is not one of 'confidence', 'path', 'disagreement'" in done.stderr


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        (("unknown",), 0),
        (("alpha",), 10),
        (("unknown", "beta"), 10),
        (("generated",), 10),
        (("undecided",), 10),
    ],
)
def test_fail_on_an_answer(verdicts: tuple[str, ...], code: int, scan: Any) -> None:
    options = [word for one in verdicts for word in ("--fail-on", one)]
    assert scan(*options).exit_code == code
    assert scan(*options, "--only", "real").exit_code == code  # what is not shown counts, too


# Decisions


@pytest.fixture
def results(scan: Any, images: Path, tmp_path: Path) -> Path:
    """A scan of which the grey image and a mixed one are undecided."""
    (images / "5-tiny.png").unlink()
    solid(images / "6-mixed.png", (130, 120, 130))
    out = tmp_path / "case.jsonl"
    assert scan("-o", out).exit_code == 0
    return out


def decide(results: Path, answers: str, *more: Any) -> Any:
    return genforensic("triage", results, "--analyst", "A. Ramirez", *more, input=answers)


def decisions(results: Path) -> Rows:
    return [json.loads(line) for line in Path(f"{results}.decisions.jsonl").read_text().splitlines()]


def test_decisions_are_recorded_beside_the_results(results: Path, images: Path) -> None:
    before = results.read_bytes()
    done = decide(results, "4\nthe grain\nmidjourney\n\n")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {Path(row["path"]).name: row for row in rows_of(before.decode())}
    found = decisions(results)
    assert [{**one, "decided": ""} for one in found] == [
        {
            "path": f"{images}/{name}",
            "sha256": rows[name]["sha256"],
            "headline": "undecided",
            "verdict": "inconclusive",
            "decision": decision,
            "note": note,
            "analyst": "A. Ramirez",
            "decided": "",
        }
        for name, decision, note in (("4-grey.png", "alpha", "the grain"), ("6-mixed.png", "midjourney", ""))
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", one["decided"]) for one in found)
    assert results.read_bytes() == before
    assert done.stdout.endswith(f"2 of 2 decided; {results}.decisions.jsonl\n")


def test_what_a_person_needs_to_decide_is_shown(results: Path, images: Path) -> None:
    lines = decide(results, "q\n").stdout.splitlines()
    assert lines[:5] == [
        "",
        f"1 of 2  {images}/4-grey.png",
        "  undecided, p 0.667, PNG, lossless",
        "  scores real 0.333, alpha 0.333, beta 0.333",
        "decision (1 generated, 2 real, 3 undecided, 4 alpha, 5 beta, 6 unknown; empty skips, q stops): "
        f"0 of 2 decided; {results}.decisions.jsonl",
    ]


def test_what_was_decided_is_not_asked_again_and_what_was_skipped_is(results: Path) -> None:
    assert "1 of 2 decided" in decide(results, "\n2\nclear\n").stdout
    again = decide(results, "9\n5\n\n")
    assert "9 is not in the list; give 1 to 6, or a word of your own" in again.stdout
    assert "1 of 1 decided" in again.stdout
    assert [(Path(one["path"]).name, one["decision"]) for one in decisions(results)] == [
        ("6-mixed.png", "real"),
        ("4-grey.png", "beta"),
    ]
    assert decide(results, "").stdout == f"0 of 0 decided; {results}.decisions.jsonl\n"


@pytest.mark.parametrize(("answers", "made"), [("", 0), ("q\n", 0), ("1", 1), ("1\nwhy", 1), ("1\nwhy\nq\n", 1)])
def test_the_end_of_the_input_stops(answers: str, made: int, results: Path) -> None:
    done = decide(results, answers)
    assert done.returncode == 0
    assert f"{made} of 2 decided" in done.stdout
    assert Path(f"{results}.decisions.jsonl").exists() == bool(made)


def test_half_a_line_of_an_earlier_power_cut_spoils_no_decision(results: Path) -> None:
    sidecar = Path(f"{results}.decisions.jsonl")
    sidecar.write_text('{"path": "x", "deci')
    decide(results, "1\nfirst\n1\nsecond\n")
    lines = sidecar.read_text().splitlines()
    assert lines[0] == '{"path": "x", "deci'
    assert [json.loads(line)["note"] for line in lines[1:]] == ["first", "second"]
    assert "0 of 0 decided" in decide(results, "").stdout


def test_techniques_that_disagree_are_to_be_decided(run: Any, tmp_path: Path, images: Path) -> None:
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card())
    write_toy_export(tmp_path / "exports" / "b.onnx", toy_card("weighted"), np.array([[4, 0, 0], [0, 0, 9], [0, 0, 4]]))
    out = tmp_path / "case.json"
    run("scan", images, "--exports", tmp_path / "exports", "-t", "all", "-f", "json", "-o", out, "--threshold", "0")
    done = decide(out, "q\n")
    assert f"1 of 3  {images}/2-green.webp" in done.stdout
    assert "  generated, beta, p 0.991, WebP, lossless\n" in done.stdout
    assert "  baseline: alpha 0.965\n  weighted: beta 1.000\n" in done.stdout


def test_a_changed_image_and_a_broken_seal_are_said(results: Path, images: Path) -> None:
    solid(images / "4-grey.png", (1, 2, 3))
    results.write_text(results.read_text().replace('"verdict": "alpha"', '"verdict": "real"'))
    done = decide(results, "q\n")
    assert f"  note: {images}/4-grey.png: has another sha256 than the file that was judged\n" in done.stdout
    assert done.stderr == (
        f"{results}: row 2 ({images}/2-green.webp) is not what was sealed there; decisions are recorded all the same\n"
    )


def test_a_hostile_results_file_cannot_move_the_cursor(results: Path) -> None:
    lines = results.read_text().splitlines()
    row = json.loads(lines[1]) | {"path": "esc\x1b[2J.png", "verdict": "unknown\x1b[31m", "headline": "undecided"}
    results.write_text("\n".join([lines[0], json.dumps(row), ""]))
    done = decide(results, "q\n")
    assert (done.returncode, "\x1b" in done.stdout) == (0, False)
    assert r"1 of 1  esc\x1b[2J.png" in done.stdout


@pytest.mark.parametrize("change", [{"scores": {"real": "high"}}, {"techniques": {"baseline": 3}}, {"views": None}])
def test_a_row_of_another_shape_is_wrong_use(change: dict[str, Any], results: Path) -> None:
    lines = results.read_text().splitlines()
    results.write_text("\n".join([lines[0], json.dumps(json.loads(lines[1]) | change), ""]))
    done = decide(results, "q\n")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert done.stderr.startswith(f"genforensic: {results}: row 1 cannot be read (Expected ")


def test_input_that_is_not_text_is_one_line(results: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-m", "forensic_cli", "triage", results, "--analyst", "me"],
        input=b"\xff\xfe\n",
        capture_output=True,
        env=child_environment(PYTHONIOENCODING="utf-8:strict"),
        check=False,
    )
    assert child.returncode == 2
    assert child.stderr == (b"genforensic: standard input is not text; type your answers, or pipe lines of UTF-8\n")
