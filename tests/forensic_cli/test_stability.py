"""`scan --stability`: what survives re-encoding keeps its answer, what flips is left open, and the rest stays."""

import csv
import io
import json
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_cli.card import Decision, LikelihoodRatio, Preprocessing
from forensic_cli.images.history import STABILITY
from forensic_cli.record import Stability
from forensic_cli.verdict import decide, with_stability
from toys import LABELS, make_images, rows_of, solid, toy_card, write_toy_export

WHOLE = Preprocessing("whole", 24)
EVEN = Decision(generated_from=0.5, real_to=0.5, name_from=0.5)
"""It always has an answer."""


def framed(path: Path) -> Path:
    """Write a picture that is red by its frame alone: without it, its mean is green."""
    pixels = np.full((100, 100, 3), (100, 140, 0), np.uint8)
    pixels[:5] = pixels[-5:] = pixels[:, :5] = pixels[:, -5:] = (255, 0, 0)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def whole_export(tmp_path: Path) -> Path:
    """Return a folder with a toy export that looks at the whole image."""
    return write_toy_export(
        tmp_path / "exports" / "a.onnx", toy_card(preprocessing=WHOLE, decisions={"any": EVEN}), np.eye(3) * 8
    ).parent


def test_a_flip_makes_the_verdict_inconclusive_and_the_raw_label_stays(
    run: Any, whole_export: Path, tmp_path: Path
) -> None:
    image = framed(tmp_path / "framed.png")
    shared = ("scan", image, "--exports", whole_export, "-f", "jsonl")
    (plain,), (stable,) = rows_of(run(*shared).stdout), rows_of(run(*shared, "--stability").stdout)
    assert (plain["headline"], plain["verdict"], plain["label"], plain["stability"]) == ("real", "real", "real", None)
    assert (stable["headline"], stable["verdict"], stable["label"]) == ("undecided", "inconclusive", "real")
    found = stable["stability"]
    assert found["flips"] == {"crop": "alpha"}
    assert found["reencodings"] == list(STABILITY)
    # softmax of 8 times the mean colour: before the crop (129, 113, 0) / 255, after it about (104, 137, 0) / 255
    assert found["highest"] == pytest.approx(stable["confidence"], abs=0.02)
    assert found["lowest"] == pytest.approx(0.26, abs=0.03)
    changed = ("headline", "verdict", "stability")
    assert {name: value for name, value in stable.items() if name not in changed} == {
        name: value for name, value in plain.items() if name not in changed
    }


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_where_nothing_flips_only_the_new_field_is_new(
    run: Any, toy_exports: Path, images: Path, batch_size: int
) -> None:
    (images / "0-empty.png").write_bytes(b"")
    (images / "3-text.png").write_text("text")
    (images / "4-grey.png").unlink()  # a tie of three labels may well flip
    shared = ("scan", images, "--exports", toy_exports, "-t", "all", "-f", "jsonl", "--batch-size", batch_size)
    plain, stable = run(*shared), run(*shared, "--stability")
    assert (plain.exit_code, stable.exit_code, stable.stderr) == (1, 1, "")
    before, after = rows_of(plain.stdout), rows_of(stable.stdout)
    assert [row.pop("stability") for row in before] == [None] * 6
    found = [row.pop("stability") for row in after]
    assert before == after
    assert [one is None for one in found] == [row["status"] != "ok" for row in after]
    for row, one in zip(after, found, strict=True):
        if one is not None:
            assert one["lowest"] <= row["confidence"] <= one["highest"]
            assert one["highest"] - one["lowest"] < 0.1
            assert (one["flips"], one["reencodings"]) == ({}, list(STABILITY))


def test_the_header_names_the_re_encodings(run: Any, toy_exports: Path, images: Path) -> None:
    shared = ("scan", images, "--exports", toy_exports, "-f", "jsonl")
    plain, stable = (
        json.loads(run(*shared, *more).stdout.splitlines()[0])["genforensic"] for more in ((), ("--stability",))
    )
    assert (plain["reencodings"], stable["reencodings"]) == ([], list(STABILITY))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (33, 1)])
def test_images_of_a_few_pixels_are_judged(run: Any, toy_exports: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    image = solid(tmp_path / "tiny.png", (0, 0, 255), size)
    done = run("scan", image, "--exports", toy_exports, "-f", "jsonl", "--stability")
    assert (done.exit_code, done.stderr) == (0, "")
    (row,) = rows_of(done.stdout)
    assert (row["headline"], row["label"], row["stability"]["flips"]) == ("undecided", "beta", {})
    assert row["stability"]["reencodings"] == list(STABILITY)


def test_a_re_encoding_that_cannot_hold_the_image_is_not_claimed(run: Any, toy_exports: Path, tmp_path: Path) -> None:
    """WebP ends at 16,383 pixels a side; the rows beside it keep all re-encodings."""
    solid(tmp_path / "1.png", (0, 255, 0))
    solid(tmp_path / "2.png", (255, 0, 0), (16_500, 2))
    solid(tmp_path / "3.png", (0, 0, 255))
    done = run("scan", tmp_path, "--exports", toy_exports, "-f", "jsonl", "--stability")
    assert done.exit_code == 0
    rows = rows_of(done.stdout)
    assert [row["label"] for row in rows] == ["alpha", "real", "beta"]
    without = [name for name in STABILITY if name != "webp90"]
    assert [row["stability"]["reencodings"] for row in rows] == [list(STABILITY), without, list(STABILITY)]


def test_csv_has_the_range_and_the_flips(run: Any, whole_export: Path, tmp_path: Path) -> None:
    image = framed(tmp_path / "framed.png")
    shared = ("scan", image, "--exports", whole_export)
    plain, stable = (
        next(csv.DictReader(io.StringIO(run(*shared, "-f", "csv", *more).stdout, newline="")))
        for more in ((), ("--stability",))
    )
    (record,) = rows_of(run(*shared, "-f", "jsonl", "--stability").stdout)
    found = record["stability"]
    columns = ("stability_lowest", "stability_highest", "stability_flips", "stability_reencodings")
    assert list(plain) == list(stable)
    assert [plain[name] for name in columns] == ["", "", "", ""]
    assert [stable[name] for name in columns] == [
        *(str(found["lowest"]), str(found["highest"])),
        *("crop:alpha", "jpeg90;jpeg75;webp90;resize0.75;crop"),
    ]


def test_the_table_has_a_range_where_it_was_asked_for(run: Any, whole_export: Path, tmp_path: Path) -> None:
    framed(tmp_path / "1.png")
    solid(tmp_path / "2.png", (0, 0, 255))
    (tmp_path / "3.png").write_text("text")
    shared = ("scan", tmp_path, "--no-recursive", "--exports", whole_export)
    (record, *_) = rows_of(run(*shared, "-f", "jsonl", "--stability").stdout)
    lines = run(*shared, "--stability").stdout.splitlines()
    assert lines[0].partition(", judged again as ")[2] == "jpeg90, jpeg75, webp90, resize0.75, crop"
    assert lines[1:4] == [
        f"undecided          p {record['p_generated']:.3f}   PNG, lossless      {tmp_path}/1.png  [alpha as crop]",
        f"generated   beta   p >0.999  PNG, lossless      {tmp_path}/2.png",
        f"not judged                                      {tmp_path}/3.png  (not_an_image)",
    ]
    assert "Any part of an answer that changes when the image is re-encoded is left open." in lines
    plain = run(*shared).stdout
    assert "judged again" not in plain
    assert "re-encod" not in plain


def verdict_of(*probabilities: float, decision: Decision = EVEN) -> Any:
    return decide(LABELS, {"baseline": np.array(probabilities)}, {"baseline": decision})


def test_a_name_that_changes_is_withdrawn_and_the_headline_stays() -> None:
    ratio = LikelihoodRatio(1, 0, -2, 2)
    decision = replace(EVEN, name_from=0.7, generated=ratio, ratios={"alpha": ratio})
    verdict = verdict_of(0.001, 0.8, 0.199, decision=decision)
    assert (verdict.headline, verdict.verdict, verdict.strength) == ("generated", "alpha", "weak support")
    stable = with_stability(verdict, {"jpeg75": verdict_of(0.001, 0.2, 0.799)})
    assert (stable.headline, stable.verdict, stable.candidates) == ("generated", "inconclusive", ("alpha", "beta"))
    assert stable.strength == "moderately strong support"  # of the headline alone
    assert stable.stability == Stability(0.2, 0.8, {"jpeg75": "beta"}, ("jpeg75",))
    sure = verdict_of(0.001, 0.998, 0.001, decision=decision)
    assert (sure.candidates, with_stability(sure, {"crop": verdict_of(0.001, 0.2, 0.799)}).candidates) == (
        ("alpha",),
        (),
    )


def test_generators_that_outweigh_real_together_turn_the_headline() -> None:
    """No generator alone is more probable than `real`, but all together are."""
    stable = with_stability(verdict_of(0.9, 0.05, 0.05), {"blur": verdict_of(0.4, 0.3, 0.3)})
    assert (stable.headline, stable.verdict, stable.label) == ("undecided", "inconclusive", "real")
    assert stable.stability == Stability(0.4, 0.9, {"blur": "alpha"}, ("blur",))


def test_the_range_is_that_of_the_raw_label() -> None:
    verdict = verdict_of(0.7, 0.2, 0.1)
    others = {"jpeg90": verdict_of(0.6, 0.3, 0.1), "crop": verdict_of(0.9, 0.05, 0.05)}
    stable = with_stability(verdict, others)
    assert (stable.verdict, stable.label, stable.confidence) == ("real", "real", 0.7)
    assert stable.stability == Stability(0.6, 0.9, {}, ("jpeg90", "crop"))


def test_one_flip_is_enough_and_every_flip_is_named() -> None:
    others = {
        "jpeg90": verdict_of(0.45, 0.5, 0.05),
        "webp90": verdict_of(0.8, 0.1, 0.1),
        "crop": verdict_of(0.1, 0.2, 0.7),
    }
    stable = with_stability(verdict_of(0.7, 0.2, 0.1), others)
    assert (stable.verdict, stable.label) == ("inconclusive", "real")
    assert stable.stability == Stability(0.1, 0.8, {"jpeg90": "alpha", "crop": "beta"}, ("jpeg90", "webp90", "crop"))


def test_a_low_confidence_under_a_re_encoding_is_no_flip() -> None:
    stable = with_stability(verdict_of(0.7, 0.2, 0.1), {"jpeg75": verdict_of(0.55, 0.25, 0.2)})
    assert stable.verdict == "real"
    assert stable.stability == Stability(0.55, 0.7, {}, ("jpeg75",))


def test_without_any_re_encoding_the_range_is_the_confidence() -> None:
    stable = with_stability(verdict_of(0.7, 0.2, 0.1), {})
    assert stable.stability == Stability(0.7, 0.7, {}, ())


def test_the_memory_of_a_stable_scan_does_not_grow_with_the_folder(
    run: Any, toy_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With re-encodings as without, no more images wait than the workers' own batches hold."""
    from forensic_cli import pipeline

    make_images(tmp_path / "in")
    for i in range(60):
        solid(tmp_path / "in" / f"more-{i:02}.png", (255, i, 0))
    cut: list[weakref.ref[Any]] = []
    most = 0
    prepare = pipeline.prepare

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal most
        prepared = prepare(*arguments, **more)
        cut.append(weakref.ref(prepared.sample.views[0]))
        most = max(most, sum(one() is not None for one in cut))
        return prepared

    monkeypatch.setattr(pipeline, "prepare", counted)
    done = run(
        *("scan", tmp_path / "in", "--exports", toy_exports, "-f", "jsonl", "--stability"),
        *("--batch-size", 6, "--workers", 2),
    )
    assert len(rows_of(done.stdout)) == 65
    assert 2 < most <= 12
