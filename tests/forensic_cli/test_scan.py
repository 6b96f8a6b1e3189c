"""Tests of `genforensic scan` as a user meets it: exit codes, whole messages, and rows that stay in their place."""

import csv
import io
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from math import exp, log
from pathlib import Path
from time import sleep
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from forensic_cli.card import NEVER, Decision, LikelihoodRatio, Preprocessing
from forensic_cli.images.header import STATES, UNJUDGED
from toys import (
    DECISION,
    GAINS,
    child_environment,
    drop_root_override,
    genforensic,
    make_images,
    rows_of,
    solid,
    toy_card,
    write_toy_export,
    write_toy_exports,
)

EXPECTED = [
    ("1-red.png", "real"),
    ("2-green.webp", "alpha"),
    ("3-blue.bmp", "beta"),
    ("4-grey.png", "inconclusive"),
    ("5-tiny.png", "inconclusive"),
]
HAS_GPU = any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg")) or sys.platform == "win32"


def sure(gain: float) -> float:
    """Probability that a toy network of this gain gives to the label of a pure colour."""
    return exp(gain) / (exp(gain) + 2)


def verdicts(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(Path(row["path"]).name, row["verdict"]) for row in rows]


def add_bad_files(folder: Path) -> Path:
    (folder / "0-empty.png").write_bytes(b"")
    (folder / "1-text.png").write_text("not an image")
    red = (folder / "1-red.png").read_bytes()
    (folder / "3-cut.png").write_bytes(red[: len(red) // 2])
    (folder / "9-gone.png").symlink_to(folder / "nowhere.png")
    return folder


def test_a_folder_is_judged_in_order(run: Any, toy_exports: Path, images: Path) -> None:
    result = run("scan", images, "--exports", toy_exports, "-f", "jsonl")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = rows_of(result.stdout)
    assert verdicts(rows) == EXPECTED
    assert [row["headline"] for row in rows] == ["real", "generated", "generated", "undecided", "undecided"]
    assert [row["confidence"] for row in rows] == pytest.approx([sure(4), sure(4), sure(4), 1 / 3, sure(4)], abs=1e-5)
    assert [row["label"] for row in rows] == ["real", "alpha", "beta", "alpha", "real"]
    assert [row["views"] for row in rows] == [4, 4, 4, 4, 1]
    assert [row["warnings"] for row in rows] == [[], [], [], [], ["padded", "tiny"]]
    assert [row["format"] for row in rows] == ["PNG", "WEBP", "BMP", "PNG", "PNG"]
    assert [(row["width"], row["height"]) for row in rows] == [(40, 36), (90, 70), (40, 36), (40, 36), (12, 9)]
    assert {row["status"] for row in rows} == {"ok"}
    assert rows[0]["scores"] == rows[0]["techniques"]["baseline"]["scores"]
    assert rows[0]["agreement"] == 1


def test_the_hash_and_size_of_a_row_are_those_of_the_file(run: Any, toy_exports: Path, images: Path) -> None:
    import hashlib

    for row in rows_of(run("scan", images, "--exports", toy_exports, "-f", "jsonl").stdout):
        data = Path(row["path"]).read_bytes()
        assert (row["sha256"], row["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


def test_the_header_says_what_judged(run: Any, toy_exports: Path, images: Path) -> None:
    import hashlib

    import onnxruntime

    result = run("scan", images, "--exports", toy_exports, "-f", "jsonl", "-t", "weighted", "--device", "cpu")
    header = json.loads(result.stdout.splitlines()[0])["genforensic"]
    file = toy_exports / "native-weighted.onnx"
    assert header["providers"] == ["CPUExecutionProvider"]
    assert header["onnxruntime"] == onnxruntime.__version__
    assert header["command"][1:] == (
        ["scan", str(images), "--exports", str(toy_exports), "-f", "jsonl", "-t", "weighted", "--device", "cpu"]
    )
    assert header["versions"]["numpy"] == np.__version__
    decoders = {"opencv", "pillow", "simplejpeg", "pillow-heif"}
    assert set(header["versions"]) == {"python", "platform", "numpy", "c2pa", *decoders}
    assert (header["ensemble"], header["threshold"]) == (None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", header["started"])
    assert header["models"] == [
        {
            "name": "native-weighted",
            "technique": "weighted",
            "recipe": "native",
            "labels": ["real", "alpha", "beta"],
            "file": "native-weighted.onnx",
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "validation": "",
            "decisions": {
                "any": {
                    **{"generated_from": 0.9, "real_to": 0.1, "name_from": 0.8, "names_from": {}, "farthest": None},
                    "log10_lr_bounds": {},
                }
            },
        }
    ]


def test_bad_files_are_rows_in_their_place_and_exit_code_1(run: Any, toy_exports: Path, images: Path) -> None:
    add_bad_files(images)
    result = run("scan", images, "--exports", toy_exports, "-f", "jsonl")
    assert (result.exit_code, result.stderr) == (1, "")
    rows = rows_of(result.stdout)
    assert [row["path"] for row in rows] == sorted(str(path) for path in images.iterdir())
    assert [one for one in verdicts(rows) if one[1]] == EXPECTED
    bad = [(Path(row["path"]).name, row["status"], row["reason"]) for row in rows if row["status"] != "ok"]
    assert bad == [
        ("0-empty.png", "empty", "the file is empty"),
        ("1-text.png", "not_an_image", "no known image format"),
        ("3-cut.png", "truncated", "the file ends before the picture does"),
        ("9-gone.png", "missing", "the file is gone"),
    ]
    for row in rows:
        if row["status"] != "ok":
            assert (row["verdict"], row["label"], row["confidence"], row["scores"]) == (None, None, None, None)


def test_only_bad_files_are_still_a_finished_scan(run: Any, toy_exports: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    result = run("scan", tmp_path / "a.png", "--exports", toy_exports)
    assert (result.exit_code, result.stderr) == (1, "")
    assert f"  {tmp_path / 'a.png'}: no known image format\n" in result.stdout


@pytest.mark.parametrize("workers", [1, 7])
def test_batch_size_and_workers_do_not_change_a_row(run: Any, toy_exports: Path, images: Path, workers: int) -> None:
    add_bad_files(images)
    shared = ("scan", images, "--exports", toy_exports, "-f", "jsonl", "-t", "all", "--workers", workers)
    one, many = (rows_of(run(*shared, "--batch-size", size).stdout) for size in (1, 64))
    assert [(row["path"], row["status"], row["verdict"], row["label"]) for row in one] == [
        (row["path"], row["status"], row["verdict"], row["label"]) for row in many
    ]
    for a, b in zip(one, many, strict=True):
        assert (a["scores"] or {}) == pytest.approx(b["scores"] or {}, abs=2e-6)


def test_more_bad_files_than_a_batch_holds_shift_nothing(run: Any, toy_exports: Path, tmp_path: Path) -> None:
    for i in range(40):
        path = tmp_path / f"{i:02}.png"
        if i % 9 == 4:
            solid(path, [(255, 0, 0), (0, 255, 0), (0, 0, 255)][i % 3])
        else:
            path.write_text("text")
    result = run("scan", tmp_path, "--exports", toy_exports, "-f", "jsonl", "--batch-size", 2, "--workers", 3)
    assert [row["label"] for row in rows_of(result.stdout)] == [
        ["real", "alpha", "beta"][i % 3] if i % 9 == 4 else None for i in range(40)
    ]


@pytest.mark.parametrize("report", ["table", "json", "jsonl", "csv"])
def test_two_runs_differ_in_nothing_but_their_start(run: Any, toy_exports: Path, images: Path, report: str) -> None:
    add_bad_files(images)
    shared = ("scan", images, "--exports", toy_exports, "-t", "all", "-f", report)
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    sealed = r'"sha256": "\w{64}"(?=, "rows": 9)|"marks": "\w+"'  # hashes of the time, too
    one, two = (re.sub(f"{time}|{sealed}", "", run(*shared).stdout) for _ in range(2))
    assert one == two
    assert len(one.splitlines()) > 9


@pytest.mark.parametrize("fusion", ["mean", "vote"])
def test_all_techniques_are_fused(run: Any, toy_exports: Path, images: Path, fusion: str) -> None:
    result = run("scan", images, "--exports", toy_exports, "-f", "jsonl", "--technique", "all", "--ensemble", fusion)
    assert (result.exit_code, result.stderr) == (0, "")
    header, rows = json.loads(result.stdout.splitlines()[0])["genforensic"], rows_of(result.stdout)
    assert header["ensemble"] == fusion
    assert [model["technique"] for model in header["models"]] == sorted(GAINS)
    assert verdicts(rows) == EXPECTED
    assert rows[0]["agreement"] == 1
    assert {name: one["confidence"] for name, one in rows[0]["techniques"].items()} == pytest.approx(
        {name: sure(gain) for name, gain in GAINS.items()}, abs=1e-5
    )
    assert rows[0]["confidence"] == pytest.approx(sum(map(sure, GAINS.values())) / 4, abs=1e-5)


@pytest.mark.parametrize(("fusion", "verdict", "agreement"), [("mean", "real", 0.333333), ("vote", "alpha", 0.666667)])
def test_mean_and_vote_may_differ(
    run: Any, tmp_path: Path, images: Path, fusion: str, verdict: str, agreement: float
) -> None:
    red = {"baseline": (6, 0, 0), "weighted": (0, 0.5, 0), "finetune": (0, 0.5, 0)}
    for technique, logits in red.items():
        weights = np.vstack([logits, np.zeros((2, 3))])
        card = toy_card(technique, decisions={"any": Decision(generated_from=0.6, real_to=0.5, name_from=0.5)})
        write_toy_export(tmp_path / "exports" / f"{technique}.onnx", card, weights)
    result = run(
        *("scan", images / "1-red.png", "--exports", tmp_path / "exports", "-t", "all", "--ensemble", fusion),
        *("-f", "jsonl"),
    )
    row = rows_of(result.stdout)[0]
    assert (row["verdict"], row["agreement"]) == (verdict, agreement)
    assert {name: one["label"] for name, one in row["techniques"].items()} == {
        "baseline": "real",
        "weighted": "alpha",
        "finetune": "alpha",
    }


def test_labels_in_another_order_are_fused_by_name(run: Any, tmp_path: Path, images: Path) -> None:
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card("baseline"))
    turned = np.eye(3)[:, [2, 0, 1]] * 4
    write_toy_export(tmp_path / "exports" / "b.onnx", toy_card("weighted", labels=("beta", "real", "alpha")), turned)
    result = run("scan", images, "--exports", tmp_path / "exports", "-t", "all", "-f", "jsonl")
    rows = rows_of(result.stdout)
    assert verdicts(rows) == EXPECTED
    for row in rows:
        assert row["techniques"]["baseline"]["scores"] == pytest.approx(row["techniques"]["weighted"]["scores"])


def test_techniques_with_views_of_their_own_are_fused(run: Any, tmp_path: Path, images: Path) -> None:
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card("baseline"))
    whole = toy_card("weighted", preprocessing=Preprocessing("whole", 24))
    write_toy_export(tmp_path / "exports" / "b.onnx", whole)
    rows = rows_of(run("scan", images, "--exports", tmp_path / "exports", "-t", "all", "-f", "jsonl").stdout)
    assert verdicts(rows) == EXPECTED
    assert rows[0]["techniques"]["weighted"]["confidence"] == pytest.approx(sure(4.5), abs=1e-5)
    assert rows[4]["warnings"] == ["padded", "tiny", "upscaled"]


def test_the_decision_of_the_card_turns_logits_into_probabilities(run: Any, tmp_path: Path, images: Path) -> None:
    """Two questions: slope and intercept are of the first one, the temperature is of the second."""
    decision = Decision(slope=2.0, intercept=0.5, temperature=2.0)
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(decisions={"any": decision}))
    rows = rows_of(run("scan", images / "2-green.webp", "--exports", tmp_path / "exports", "-f", "jsonl").stdout)
    p = 1 / (1 + exp(-(2 * log(exp(4) + 1) + 0.5)))  # the score: logsumexp(4, 0) less the 0 of `real`
    assert rows[0]["p_generated"] == pytest.approx(p, abs=1e-6)
    assert rows[0]["scores"] == pytest.approx(
        {"real": 1 - p, "alpha": p * exp(2) / (exp(2) + 1), "beta": p / (exp(2) + 1)}, abs=1e-6
    )


def test_a_threshold_of_1_names_nothing_and_leaves_the_headline(run: Any, toy_exports: Path, images: Path) -> None:
    rows = rows_of(run("scan", images, "--exports", toy_exports, "-f", "jsonl", "--threshold", "1.0").stdout)
    assert [(row["headline"], row["verdict"]) for row in rows] == [
        ("real", "real"),
        *[("generated", "inconclusive")] * 2,
        *[("undecided", "inconclusive")] * 2,
    ]
    assert [row["label"] for row in rows] == ["real", "alpha", "beta", "alpha", "real"]


def test_without_an_option_the_strictest_threshold_of_the_cards_holds(run: Any, tmp_path: Path, images: Path) -> None:
    for technique, least in (("baseline", 0.1), ("weighted", 0.999)):
        card = toy_card(technique, decisions={"any": replace(DECISION, name_from=least)})
        write_toy_export(tmp_path / "exports" / f"{technique}.onnx", card)
    shared = ("scan", images / "2-green.webp", "--exports", tmp_path / "exports", "-f", "jsonl")
    assert verdicts(rows_of(run(*shared).stdout)) == [("2-green.webp", "alpha")]
    assert verdicts(rows_of(run(*shared, "-t", "all").stdout)) == [("2-green.webp", "inconclusive")]
    assert verdicts(rows_of(run(*shared, "-t", "all", "--threshold", "0").stdout)) == [("2-green.webp", "alpha")]


# Names, short lists, ratios, and images of which nothing is said


def weighed(**more: Any) -> Decision:
    """Return the decision of the toys with a ratio of "generated" and one of alpha, the log10 odds within bounds."""
    ratio = LikelihoodRatio(1.0, 0.0, -1.0, 1.5, 20, 40)
    return replace(DECISION, generated=ratio, ratios={"alpha": ratio}, **more)


def test_an_answer_has_its_strength_and_its_short_list(run: Any, tmp_path: Path, images: Path) -> None:
    solid(images / "6-cyan.png", (0, 255, 255))
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(decisions={"any": weighed()}, validation="60 toys."))
    done = run("scan", images, "--exports", tmp_path / "exports", "-f", "jsonl")
    header, rows = json.loads(done.stdout.splitlines()[0])["genforensic"], rows_of(done.stdout)
    assert header["models"][0]["validation"] == "60 toys."
    assert header["models"][0]["decisions"]["any"]["log10_lr_bounds"] == {"alpha": [-1, 1.5], "generated": [-1, 1.5]}
    assert [(row["headline"], row["verdict"], row["candidates"]) for row in rows] == [
        ("real", "real", []),
        ("generated", "alpha", ["alpha"]),
        ("generated", "beta", ["beta"]),
        ("undecided", "inconclusive", []),
        ("undecided", "inconclusive", []),
        ("generated", "inconclusive", ["alpha", "beta"]),
    ]
    # log10 of the odds of "generated", and of alpha among the generators, within the bounds; for grey they are 2 and 1
    assert [row["generated_log10_lr"] for row in rows] == [-1.0, 1.5, 1.5, 0.301, None, 1.5]
    assert [row["log10_lr"].get("alpha") for row in rows] == [0.0, 1.5, -1.0, 0.0, None, 0.0]
    assert rows[1]["log10_lr"] == {"real": -1.5, "alpha": 1.5} == rows[1]["techniques"]["baseline"]["log10_lr"]
    assert [row["strength"] for row in rows] == [*["moderate support"] * 3, None, None, "moderate support"]


def test_an_image_is_judged_by_the_decision_of_its_state(run: Any, tmp_path: Path) -> None:
    """The quality of a JPEG says which one; a state without a decision is not answered for."""
    states = tuple(name for name in STATES if name != "jpeg-60")
    decisions = {name: replace(DECISION, intercept=float(place)) for place, name in enumerate(states)}
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(states=STATES, decisions=decisions))
    (tmp_path / "in").mkdir()
    for quality in (95, 85, 70, 40):
        solid(tmp_path / "in" / f"{100 - quality:02}.jpg", (0, 255, 0), quality=quality)
    solid(tmp_path / "in" / "90.png", (0, 255, 0))
    solid(tmp_path / "in" / "91.webp", (0, 255, 0), quality=80)
    solid(tmp_path / "in" / "92.avif", (0, 255, 0))
    rows = rows_of(run("scan", tmp_path / "in", "--exports", tmp_path / "exports", "-f", "jsonl").stdout)
    assert [(row["state"], row["headline"], row["warnings"]) for row in rows] == [
        ("JPEG, quality 95", "generated", []),
        ("JPEG, quality 85", "generated", []),
        ("JPEG, quality 70", "undecided", ["heavily_compressed", "other_compression"]),
        ("JPEG, quality 40", "generated", ["heavily_compressed"]),
        ("PNG, lossless", "generated", []),
        ("WebP, lossy", "generated", []),
        ("AVIF", "undecided", ["other_compression"]),
    ]
    assert [(row["p_generated"], row["strength"]) for row in (rows[2], rows[6])] == [(None, None)] * 2
    assert rows[4]["p_generated"] == pytest.approx(1 / (1 + exp(-log(exp(4) + 1))), abs=1e-6)
    assert rows[1]["p_generated"] == pytest.approx(1 / (1 + exp(-(log(exp(4) + 1) + 3))), abs=1e-3)


def test_a_state_whose_answers_mislead_says_so_and_keeps_its_probability(run: Any, tmp_path: Path) -> None:
    silent = replace(DECISION, generated_from=NEVER, real_to=-NEVER, name_from=NEVER)
    decisions = {"lossless": DECISION, "jpeg-93": silent}
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(states=tuple(decisions), decisions=decisions))
    (tmp_path / "in").mkdir()
    solid(tmp_path / "in" / "1.jpg", (0, 255, 0), quality=95)
    solid(tmp_path / "in" / "2.png", (0, 255, 0))
    rows = rows_of(run("scan", tmp_path / "in", "--exports", tmp_path / "exports", "-f", "jsonl").stdout)
    assert [(row["headline"], row["verdict"], row["warnings"]) for row in rows] == [
        ("undecided", "inconclusive", ["silent_state"]),
        ("generated", "alpha", []),
    ]
    assert rows[0]["p_generated"] > 0.9


def test_of_an_image_that_is_unlike_all_training_images_nothing_is_said(run: Any, tmp_path: Path) -> None:
    """The toys take the sum of the colour's channels for the distance: 3 of white, 2 of cyan."""
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(decisions={"any": weighed(farthest=2.0)}))
    (tmp_path / "in").mkdir()
    solid(tmp_path / "in" / "1-cyan.png", (0, 255, 255))
    solid(tmp_path / "in" / "2-pale.png", (100, 255, 255))
    rows = rows_of(run("scan", tmp_path / "in", "--exports", tmp_path / "exports", "-f", "jsonl").stdout)
    assert [(row["headline"], row["warnings"]) for row in rows] == [
        ("generated", []),
        ("undecided", ["unlike_training"]),
    ]
    said = ("p_generated", "generated_log10_lr", "strength", "candidates", "log10_lr")
    assert [rows[1][name] for name in said] == [None, None, None, [], {}]
    assert rows[1]["scores"]["alpha"] > rows[1]["scores"]["real"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.gif", {}), ("b.png", {"bits": 8, "mode": "P"}), ("c.jpg", {"mode": "CMYK"}), ("d.png", {"mode": "I;16"})],
)
def test_of_an_image_of_a_kind_that_training_never_had_nothing_is_said(
    name: str, options: dict[str, Any], run: Any, toy_exports: Path, tmp_path: Path
) -> None:
    mode = options.get("mode", "RGB")
    picture = Image.new("RGB", (40, 36), (0, 255, 0))
    picture = Image.new(mode, (40, 36), 40_000) if mode == "I;16" else picture.convert(mode)
    picture.save(tmp_path / name)
    (row,) = rows_of(run("scan", tmp_path / name, "--exports", toy_exports, "-f", "jsonl").stdout)
    assert (row["status"], row["headline"], row["p_generated"]) == ("ok", "undecided", None)
    assert UNJUDGED & {*row["warnings"]}


def test_the_label_unknown_is_a_verdict_and_never_a_candidate(run: Any, tmp_path: Path, images: Path) -> None:
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(labels=("real", "unknown", "beta")))
    row = rows_of(run("scan", images, "--exports", tmp_path / "exports", "-f", "jsonl").stdout)[1]
    assert (row["headline"], row["verdict"], row["label"], row["candidates"]) == ("generated", "unknown", "unknown", [])


def test_a_model_that_does_not_know_real_names_the_generator_alone(run: Any, tmp_path: Path, images: Path) -> None:
    solid(images / "6-yellow.png", (255, 255, 0))
    card = toy_card(labels=("alpha", "beta", "gamma"), decisions={"any": Decision(name_from=0.8)})
    write_toy_export(tmp_path / "exports" / "a.onnx", card)
    rows = rows_of(run("scan", images, "--exports", tmp_path / "exports", "-f", "jsonl").stdout)
    assert {(row["headline"], row["p_generated"]) for row in rows} == {("undecided", None)}
    assert [row["verdict"] for row in rows] == ["alpha", "beta", "gamma", *["inconclusive"] * 3]
    assert [row["candidates"] for row in rows[-3:]] == [["alpha", "beta", "gamma"], [], ["alpha", "beta"]]


def test_no_recursive_leaves_inner_folders_alone(run: Any, toy_exports: Path, images: Path) -> None:
    make_images(images / "inner")
    shared = ("scan", images, "--exports", toy_exports, "-f", "jsonl")
    assert len(rows_of(run(*shared).stdout)) == 10
    assert len(rows_of(run(*shared, "--no-recursive").stdout)) == 5


def test_no_images_is_wrong_use(run: Any, toy_exports: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("text")
    result = run("scan", tmp_path / "in", "--exports", toy_exports, "-o", tmp_path / "out.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"genforensic: no images found in {tmp_path / 'in'} (1 other entries left out); give a folder with images\n"
    )
    assert not (tmp_path / "out.csv").exists()


def test_a_missing_path_is_wrong_use(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    result = run("scan", images, tmp_path / "nowhere", "--exports", toy_exports)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"genforensic: {tmp_path / 'nowhere'}: no such file or folder; give existing images or folders\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--format", "xml"),
            "'xml' is not one of 'table', 'jsonl', 'json', 'csv', 'sarif', 'parquet', 'html'",
        ),
        (("--ensemble", "max"), "'max' is not one of 'mean', 'vote'"),
        (("--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("--threshold", "1.5"), "Invalid value for '--threshold': Input should be less than or equal to 1"),
        (("--batch-size", "-1"), "Invalid value for '--batch-size': Input should be greater than or equal to 0"),
        (("--frobnicate",), "No such option: --frobnicate"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_is_wrong_use(
    run: Any, toy_exports: Path, images: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("scan", images, "--exports", toy_exports, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split())


def test_an_unknown_technique_is_wrong_use(run: Any, toy_exports: Path, images: Path) -> None:
    result = run("scan", images, "--exports", toy_exports, "-t", "baselin")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "genforensic: no export has technique 'baselin'; allowed: adversarial, baseline, finetune, weighted, all\n"
    )


def test_differing_labels_cannot_be_fused(run: Any, tmp_path: Path, images: Path) -> None:
    write_toy_export(tmp_path / "exports" / "a.onnx", toy_card())
    write_toy_export(tmp_path / "exports" / "b.onnx", toy_card("weighted", labels=("real", "alpha", "gamma")))
    result = run("scan", images, "--exports", tmp_path / "exports", "-t", "all", "-o", tmp_path / "out.csv")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "genforensic: native-baseline and native-weighted cannot be fused because their labels differ: "
        "only the first has beta, only the second has gamma; scan with one technique at a time\n"
    )
    assert not (tmp_path / "out.csv").exists()
    assert run("scan", images, "--exports", tmp_path / "exports", "-t", "weighted").exit_code == 0


def test_a_corrupt_export_is_a_model_error(run: Any, tmp_path: Path, images: Path) -> None:
    path = write_toy_export(tmp_path / "exports" / "a.onnx", toy_card())
    path.write_bytes(path.read_bytes()[:150])
    result = run("scan", images, "--exports", path.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert re.fullmatch(
        rf"genforensic: {re.escape(str(path))}: not a usable ONNX file \([^\n]+\); copy it again or export it again\n",
        result.stderr,
    )


@pytest.mark.parametrize("data", [b"", b"not onnx", bytes(1000)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_export_is_a_model_error(run: Any, tmp_path: Path, images: Path, data: bytes) -> None:
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.onnx").write_bytes(data)
    result = run("scan", images, "--exports", tmp_path / "exports")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"genforensic: {tmp_path / 'exports' / 'a.onnx'}: ")
    assert len(result.stderr.splitlines()) == 1


def test_an_export_without_a_card_is_a_model_error(run: Any, tmp_path: Path, images: Path) -> None:
    path = write_toy_export(tmp_path / "exports" / "a.onnx")
    result = run("scan", images, "--exports", path.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"genforensic: {path}: an ONNX file without a genforensic model card; export it with `genforensic export`\n"
    )


def test_an_export_with_a_damaged_card_is_a_model_error(run: Any, tmp_path: Path, images: Path) -> None:
    path = write_toy_export(tmp_path / "exports" / "a.onnx", text="{}")
    result = run("scan", images, "--exports", path.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"genforensic: {path}: the model card has version None, but this genforensic reads version 2: "
        "export the run again with `genforensic export`\n"
    )


@pytest.mark.parametrize("odd", [{"weights": np.eye(3, 4)}, {"size": 24}], ids=["labels", "size"])
def test_an_export_that_does_not_fit_its_card_is_a_model_error(
    run: Any, tmp_path: Path, images: Path, odd: dict[str, Any]
) -> None:
    path = write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(), **odd)
    result = run("scan", images, "--exports", path.parent)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"genforensic: {path}: its graph does not fit its card "
        "(expected views uint8 [N, 32, 32, 3], image, state and logits [B, 3]); export it again\n"
    )


def test_an_export_that_computes_no_numbers_gives_no_evidence(run: Any, tmp_path: Path, images: Path) -> None:
    """NaN is neither a confidence nor JSON."""
    path = write_toy_export(tmp_path / "exports" / "a.onnx", toy_card(), np.full((3, 3), np.nan))
    result = run("scan", images, "--exports", path.parent, "-f", "jsonl")
    assert "NaN" not in result.stdout
    assert result.exit_code == 3


def test_no_exports_is_one_line(run: Any, tmp_path: Path, images: Path) -> None:
    result = run("scan", images, "--exports", tmp_path / "none")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        f"genforensic: no exports found in {tmp_path / 'none'}; train some with `genforensic train`, "
        "or name a folder of .onnx files with --exports\n"
    )


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
@pytest.mark.parametrize("option", [("--require-gpu",), ("--device", "cuda")])
def test_a_gpu_that_is_required_and_missing_is_a_model_error(
    run: Any, toy_exports: Path, images: Path, option: tuple[str, ...]
) -> None:
    result = run("scan", images, "--exports", toy_exports, *option)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == (
        "genforensic: no CUDA device was found on this machine; "
        "leave out --require-gpu and --device cuda to scan on the CPU\n"
    )


def test_an_output_is_written_and_nothing_printed(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    result = run("scan", images, "--exports", toy_exports, "-f", "csv", "--output", out)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert [(Path(row["path"]).name, row["verdict"]) for row in rows] == EXPECTED


def test_an_output_that_exists_is_overwritten_only_by_force(
    run: Any, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious\n" * 1000)
    shared = ("scan", images, "--exports", toy_exports, "-f", "csv", "-o", out)
    result = run(*shared)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (f"genforensic: {out}: already exists; choose another name, or overwrite it with --force\n")
    assert out.read_text() == "precious\n" * 1000
    assert run(*shared, "--force").exit_code == 0
    assert len(out.read_text().splitlines()) == 6
    assert "precious" not in out.read_text()


def test_an_output_in_a_missing_folder_is_wrong_use(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "none" / "out.csv"
    result = run("scan", images, "--exports", toy_exports, "-o", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"genforensic: {out}: cannot be written (No such file or directory)\n"


STARTS = {
    "rows.jsonl": b'{"genforensic": ',
    "ROWS.JSONL": b'{"genforensic": ',
    "rows.json": b'{"run": ',
    "rows.csv": b"path,status,",
    "rows.html": b"<!DOCTYPE html>",
    "rows.sarif": b'{"$schema": ',
    "rows.sarif.json": b'{"$schema": ',
    "rows.parquet": b"PAR1",
    "rows.txt": b"genforensic 0",
    "rows": b"genforensic 0",
}
"""How a file of each name begins."""


@pytest.mark.parametrize("name", STARTS)
def test_the_suffix_chooses_the_format(name: str, run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / name
    done = run("scan", images, "--exports", toy_exports, "--output", out, "--quiet")
    assert (done.exit_code, done.output) == (0, "")
    assert out.read_bytes().startswith(STARTS[name])


@pytest.mark.parametrize(
    ("name", "report", "wanted"),
    [("r.jsonl", "table", "jsonl"), ("r.json", "sarif", "json"), ("r.csv", "table", "csv")],
)
def test_a_suffix_and_a_format_that_contradict_each_other_are_one_line(
    name: str, report: str, wanted: str, run: Any, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / name
    done = run("scan", images, "--exports", toy_exports, "-o", out, "-f", report)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: --output {out} asks for {wanted} by its name, and --format for {report}; "
        "leave --format out, or give the file another suffix\n"
    )
    assert not out.exists()


def test_a_format_beside_its_own_suffix_or_none_is_taken(
    run: Any, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    for name in ("rows.jsonl", "rows.txt", "rows"):
        assert run("scan", images, "--exports", toy_exports, "-o", tmp_path / name, "-f", "jsonl").exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(STARTS["rows.jsonl"])


def test_a_suffix_comes_before_a_format_of_the_environment(
    run: Any, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    environment = {"GENFORENSIC_SCAN_FORMAT": "json"}
    for name, start in (("rows.csv", "rows.csv"), ("rows.txt", "rows.json")):
        assert run("scan", images, "--exports", toy_exports, "-o", tmp_path / name, env=environment).exit_code == 0
        assert (tmp_path / name).read_bytes().startswith(STARTS[start])


@pytest.mark.parametrize("more", [(), ("other",)])
def test_an_empty_path_is_not_the_working_folder(
    more: tuple[str, ...], run: Any, toy_exports: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    done = run("scan", *more, "", "--exports", toy_exports)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == ("genforensic: a path is empty (an unset variable?); give existing images or folders\n")


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))


@pytest.mark.parametrize("report", ["jsonl", "csv"])
def test_a_full_disk_leaves_whole_rows(report: str, toy_exports: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(20):
        solid(tmp_path / "in" / f"{i:02}.png", (255, 0, 0))
    out = tmp_path / "out.txt"
    done = genforensic(
        *("scan", tmp_path / "in", "--exports", toy_exports, "-f", report, "-o", out), preexec_fn=limit_file_size
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: {out}: cannot be written any further (File too large); the rows that were written are whole\n"
    )
    text = out.read_text(encoding="utf-8")
    assert text.endswith("\n")
    lines = text.splitlines()
    assert 2 <= len(lines) < 21  # the header and a row or more, not all of them
    rows = rows_of(text) if report == "jsonl" else list(csv.DictReader(lines))
    assert [Path(row["path"]).name for row in rows] == [f"{i:02}.png" for i in range(len(lines) - 1)]
    assert {(row["status"], row["verdict"], len(row)) for row in rows} == {("ok", "real", len(rows[0]))}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line(toy_exports: Path, images: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = genforensic(
            "scan", images, "--exports", toy_exports, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr == "genforensic: standard output cannot be written any further (No space left on device)\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("scan", "--help")])
def test_help_on_a_full_standard_output_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = genforensic(*arguments, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == "genforensic: No space left on device; check the path and the free disk space\n"


def test_a_closed_standard_output_is_one_line(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"preexec_fn": lambda: os.close(1)}
    closed = "genforensic: standard output is closed, so there is nowhere to write the results\n"
    for words in (("scan", images, "-f", "table"), ("scan", images, "-f", "jsonl"), ("models",), ("models", "--json")):
        done = genforensic(*words, "--exports", toy_exports, **options)
        assert (done.returncode, done.stderr) == (2, closed)
    out = tmp_path / "out.jsonl"
    done = genforensic("scan", images, "--exports", toy_exports, "-o", out, **options)
    assert (done.returncode, done.stderr) == (0, "")
    assert verdicts(rows_of(out.read_text())) == EXPECTED


def test_a_reader_that_leaves_ends_the_scan_in_silence(toy_exports: Path, images: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = genforensic(
            "scan", images, "--exports", toy_exports, capture_output=False, stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("report", ["table", "jsonl"])
def test_a_standard_output_of_few_characters_is_no_fault(
    encoding: str, report: str, toy_exports: Path, tmp_path: Path
) -> None:
    """What a redirect on Windows or LC_ALL=C in a container gives."""
    solid(tmp_path / "漢字.png", (255, 0, 0))
    (tmp_path / "bad.png").write_text("text")
    done = genforensic(
        *("scan", tmp_path, "--exports", toy_exports, "-f", report),
        env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        encoding=encoding,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "bad.png" in done.stdout


def test_ctrl_c_is_one_line_and_exit_code_130(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for i in range(3000):
        os.link(images / "2-green.webp", images / f"z{i}.webp")
    options = ("--exports", toy_exports, "-t", "all", "-f", "jsonl", "-o", out, "--batch-size", "1")
    child = subprocess.Popen(
        [sys.executable, "-m", "forensic_cli", "scan", images, *options],
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=child_environment(),
    )
    try:
        while child.poll() is None and not (out.exists() and out.stat().st_size > 5000):
            sleep(0.005)
        child.send_signal(signal.SIGINT)
        stderr = child.communicate(timeout=30)[1]
    finally:
        child.kill()
    assert (child.returncode, stderr) == (
        130,
        "To go on, give the same command with --resume\n"
        "genforensic: interrupted; the rows that were written are whole\n",
    )
    text = out.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert 0 < len(rows_of(text)) < 3005


class Listing:
    """A scan of the paths that are written to it, one after the other, while its standard input stays open."""

    def __init__(self, *options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forensic_cli", "scan", "-", *map(str, options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def name(self, path: Path) -> None:
        self.stdin.write(os.fsencode(path) + b"\n")
        self.stdin.flush()

    def line(self) -> Any:
        """Return the next line that appears, within 30 seconds."""
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self.stdout], [], [], 30)[0], "nothing appeared"
            byte = os.read(self.stdout.fileno(), 1)
            assert byte, "the scan ended"
            line += byte
        return json.loads(line)

    def __enter__(self) -> "Listing":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_rows_of_a_slow_list_appear_before_it_ends(toy_exports: Path, images: Path) -> None:
    with Listing("--exports", toy_exports, "-f", "jsonl", "--workers", 3) as scan:
        for i, (name, verdict) in enumerate(EXPECTED):
            scan.name(images / name)
            if i == 0:
                assert "genforensic" in scan.line()
            row = scan.line()
            assert (Path(row["path"]).name, row["verdict"]) == (name, verdict)
            sleep(0.1)
        scan.stdin.close()
        scan.process.stdin = None  # which communicate() would flush
        assert "seal" in scan.line()
        assert scan.process.wait(30) == 0


UNFINISHED = "report is unfinished and cannot be used; --format jsonl keeps the rows of a scan that stops"


@pytest.mark.parametrize("report", ["json", "sarif", "html", "parquet"])
def test_ctrl_c_says_that_a_report_without_its_end_is_of_no_use(
    report: str, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"out.{report}"
    with Listing("--exports", toy_exports, "-o", out) as scan:
        scan.name(images / "1-red.png")
        for _ in range(3000):
            if out.exists() and (report == "html" or out.stat().st_size):
                break
            sleep(0.01)
        sleep(0.2)
        scan.process.send_signal(signal.SIGINT)
        assert scan.process.wait(30) == 130
        assert scan.process.stderr is not None
        assert scan.process.stderr.read().decode() == f"genforensic: interrupted; the {report} {UNFINISHED}\n"


@pytest.mark.parametrize("report", ["json", "sarif", "html", "parquet"])
def test_a_full_disk_says_that_a_report_without_its_end_is_of_no_use(
    report: str, toy_exports: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for i in range(20):
        solid(tmp_path / "in" / f"{i:02}.png", (255, 0, 0))
    out = tmp_path / f"out.{report}"
    done = genforensic("scan", tmp_path / "in", "--exports", toy_exports, "-o", out, preexec_fn=limit_file_size)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"genforensic: {out}: cannot be written any further (File too large); the {report} {UNFINISHED}\n"
    )


@pytest.mark.parametrize(
    ("module", "text", "arguments", "message"),
    [
        ("typer", "raise KeyboardInterrupt", ("--help",), "genforensic: interrupted\n"),
        (
            "onnxruntime",
            "raise ImportError('initialization failed') from KeyboardInterrupt()",
            ("models",),
            "genforensic: interrupted; everything written so far is complete\n",
        ),
    ],
)
def test_ctrl_c_while_the_program_loads_is_one_line(
    module: str, text: str, arguments: tuple[str, ...], message: str, tmp_path: Path, toy_exports: Path, images: Path
) -> None:
    """A module that is interrupted while it is imported; extension modules turn that into an ImportError."""
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / f"{module}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path / "stubs"), child_environment()["PYTHONPATH"]])
    words = ("scan", images, "--exports", toy_exports) if module == "onnxruntime" else arguments
    done = genforensic(*words, env={"PYTHONPATH": path})
    assert (done.returncode, done.stdout, done.stderr) == (130, "", message)


def test_ctrl_c_ends_a_scan_that_waits_for_its_list(toy_exports: Path, images: Path) -> None:
    with Listing("--exports", toy_exports, "-f", "jsonl") as scan:
        scan.name(images / "1-red.png")
        assert "genforensic" in scan.line()
        assert scan.line()["verdict"] == "real"
        scan.process.send_signal(signal.SIGINT)
        assert scan.process.wait(30) == 130
        assert scan.process.stderr is not None
        assert scan.process.stderr.read() == b"genforensic: interrupted; the rows that were written are whole\n"


def needs_permissions() -> dict[str, Any]:
    """Return what makes a child process obey file permissions, also where the tests run as root."""
    if os.geteuid() != 0:
        return {}
    try:
        subprocess.run(["true"], preexec_fn=drop_root_override, check=True)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("root cannot give up its override of permissions here")
    return {"preexec_fn": drop_root_override}


def test_a_file_without_permission_is_a_row(toy_exports: Path, images: Path) -> None:
    options = needs_permissions()
    (images / "2-green.webp").chmod(0)
    done = genforensic("scan", images, "--exports", toy_exports, "-f", "jsonl", **options)
    assert (done.returncode, done.stderr) == (1, "")
    rows = rows_of(done.stdout)
    assert verdicts(rows) == [(name, None if name == "2-green.webp" else verdict) for name, verdict in EXPECTED]
    assert (rows[1]["status"], rows[1]["reason"]) == ("unreadable", "the file cannot be read (Permission denied)")
    assert (rows[1]["sha256"], rows[1]["bytes"]) == (None, None)


def test_a_folder_without_permission_is_a_row(toy_exports: Path, images: Path) -> None:
    options = needs_permissions()
    closed = make_images(images / "0-closed")
    closed.chmod(0)
    try:
        done = genforensic("scan", images, "--exports", toy_exports, "-f", "jsonl", **options)
    finally:
        closed.chmod(0o700)
    assert (done.returncode, done.stderr) == (1, "")
    rows = rows_of(done.stdout)
    assert verdicts(rows) == [("0-closed", None), *EXPECTED]
    assert rows[0]["status"] == "unreadable"


def test_exports_without_permission_are_a_model_error(tmp_path: Path, images: Path) -> None:
    options = needs_permissions()
    path = write_toy_export(tmp_path / "exports" / "a.onnx", toy_card())
    path.chmod(0)
    done = genforensic("scan", images, "--exports", path.parent, **options)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"genforensic: {path}: cannot be read (Permission denied)\n"


def test_an_export_with_a_name_of_any_bytes_is_reported(toy_exports: Path, tmp_path: Path, images: Path) -> None:
    (tmp_path / "exports").mkdir()
    shutil.copy(toy_exports / "native-baseline.onnx", os.fsencode(tmp_path) + b"/exports/latin\xe9.onnx")
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    done = genforensic("scan", images, "--exports", tmp_path / "exports", "-f", "jsonl", env=strict)
    assert (done.returncode, done.stderr) == (0, "")
    assert verdicts(rows_of(done.stdout)) == EXPECTED
    assert json.loads(done.stdout.splitlines()[0])["genforensic"]["models"][0]["file"] == r"latin\xe9.onnx"


def test_models_lists_what_a_scan_would_find(run: Any, tmp_path: Path) -> None:
    exports = write_toy_exports(tmp_path / "exports", data={"alpha": {"cats": 3, "dogs": 4}})
    result = run("models", "--exports", exports)
    assert (result.exit_code, result.stderr) == (0, "")
    for technique in GAINS:
        assert f"native-{technique}" in result.stdout
    cards = json.loads(run("models", "--exports", exports, "--json").stdout)
    assert [card["card"]["technique"] for card in cards] == sorted(GAINS)
    assert cards[0]["card"]["data"] == {"alpha": {"cats": 3, "dogs": 4}}


def test_the_choices_of_the_options_are_the_names_in_the_code() -> None:
    """They are repeated as types, so that a help page need not import what they name."""
    from forensic_cli.commands import scan
    from forensic_cli.reports import REPORTS, SORTS
    from forensic_cli.verdict import FUSIONS

    assert get_args(scan.Format) == tuple(REPORTS)
    assert get_args(scan.Fusion) == tuple(FUSIONS)
    assert get_args(scan.Sort) == tuple(SORTS)
