"""The benchmark in a box: its generators, its tiers, its gates, and the whole of it in small."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from forensic_benchmark.attributors import blurs_to_softest
from forensic_benchmark.checkpoints import ALL_CHECKPOINTS, THIRD_SEED, Checkpoint, draw_images, find_checkpoint
from forensic_benchmark.generators.families import BLUEPRINTS, PAPER_FAMILIES
from forensic_benchmark.images import write_png
from forensic_benchmark.quality import Quality, measure_quality
from forensic_benchmark.samples import FULL, UNSEEN_SUBJECT, plan_cells, scaled_counts
from forensic_benchmark.scenes import SUBJECTS, render_many
from forensic_benchmark.spectra import radial_spectrum, residual_spectrum
from forensic_cli.errors import TrainingError, UsageError
from forensic_train.rows import Row

RunCommand = Callable[..., Any]
MOST_BYTES = 2_000_000


def test_training_keeps_the_papers_proportions_and_empty_cells() -> None:
    counts = scaled_counts(FULL.training)
    assert list(counts) == list(PAPER_FAMILIES)
    assert abs(sum(sum(row.values()) for row in counts.values()) - FULL.training) < 10
    assert sum(len(row) for row in counts.values()) == 42 - 27
    assert counts["lsgm"] == {"face": 240}
    assert counts["stylegan2"]["horse"] == counts["stylegan2"]["car"] == 198


def test_the_unseen_subject_and_separate_checkpoints_are_in_no_training_image() -> None:
    cells = plan_cells(FULL)
    trained = [cell for cell in cells if cell.tier in ("train", "second", "seen")]
    assert UNSEEN_SUBJECT not in {cell.subject for cell in trained}
    by_tier = {tier: {cell.source for cell in cells if cell.tier == tier} for tier in {cell.tier for cell in cells}}
    assert by_tier["unseen"] == by_tier["adapt"] == by_tier["train"]
    assert not by_tier["separate"] & by_tier["train"]
    assert by_tier["separate"] - by_tier["second"] == {f"{name}-{THIRD_SEED}" for name in PAPER_FAMILIES}
    assert by_tier["outsider"] == {"transposed_gan-0"}
    assert by_tier["real"] == {"real"}
    for tier in ("adapt", "unseen", "separate", "outsider", "swapped", "real"):
        assert {cell.subject for cell in cells if cell.tier == tier} == {UNSEEN_SUBJECT}


@pytest.mark.parametrize("checkpoint", ALL_CHECKPOINTS, ids=lambda one: one.stem)
def test_a_shipped_checkpoint_is_small_and_draws_what_its_seed_says(checkpoint: Checkpoint) -> None:
    assert checkpoint.weights.stat().st_size < MOST_BYTES
    known = checkpoint.describe()
    assert known["command"] == f"genforensic benchmark --make {checkpoint.stem}"
    assert set(known["quality"]) == {"power", "diversity", "recognised", "diagnostics"}
    generator = checkpoint.load()
    subjects = np.array([0, len(SUBJECTS) - 1])
    first, again, other = (draw_images(generator, subjects, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert (first.shape, first.dtype) == ((2, 32, 32, 3), np.dtype(np.uint8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_an_altered_or_missing_checkpoint_is_refused(tmp_path: Path) -> None:
    shipped = ALL_CHECKPOINTS[0]
    mine = replace(shipped, folder=tmp_path)
    with pytest.raises(TrainingError, match=rf"make it with `genforensic benchmark --make {shipped.stem}`"):
        mine.load()
    mine.weights.write_bytes(b"")
    with pytest.raises(TrainingError, match=r"json: cannot be read .* make it with"):
        mine.load()
    mine.about.write_bytes(shipped.about.read_bytes())
    data = bytearray(shipped.weights.read_bytes())
    data[len(data) // 2] ^= 1
    mine.weights.write_bytes(data)
    with pytest.raises(TrainingError, match=r"is not the file that .* describes \(sha256 differs\)"):
        mine.load()


@pytest.mark.parametrize("stem", ["nobody-0", "stylegan2", "stylegan2-x", ""])
def test_an_unknown_checkpoint_is_a_usage_error(stem: str, run: RunCommand) -> None:
    with pytest.raises(UsageError, match="is no checkpoint; allowed: NAME-SEED with a name of guided_diffusion"):
        find_checkpoint(stem)
    done = run("benchmark", "--make", stem)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1


def test_every_family_has_shipped_checkpoints_of_three_seeds() -> None:
    stems = {one.stem for one in ALL_CHECKPOINTS}
    assert {f"{name}-{seed}" for name in PAPER_FAMILIES for seed in range(3)} <= stems
    assert {one.name for one in ALL_CHECKPOINTS} == set(BLUEPRINTS)


SUBJECT_NUMBERS = np.arange(128) % len(SUBJECTS)


@pytest.fixture(scope="module")
def scenes() -> np.ndarray:
    return np.asarray(render_many(SUBJECT_NUMBERS.tolist(), "gate test"))


def test_scenes_pass_the_gates_and_blur_collapse_and_wrong_subjects_do_not(scenes: np.ndarray) -> None:
    from forensic_cli.images.history import blur

    assert measure_quality(scenes, SUBJECT_NUMBERS).failed() == []
    blurred = np.stack([blur(one, 1.5) for one in scenes])
    assert "power 11-16" in measure_quality(blurred, SUBJECT_NUMBERS).failed()
    collapsed = scenes[SUBJECT_NUMBERS]
    assert measure_quality(collapsed, SUBJECT_NUMBERS).failed() == ["diversity"]
    assert "recognised" in measure_quality(scenes, np.roll(SUBJECT_NUMBERS, 1)).failed()
    assert Quality((1, 1, 1, 1), 1, 1, {"codebook_use": 0.2}).failed() == ["codebook"]


def test_the_radial_spectrum_finds_a_wave() -> None:
    wave = 127 + 100 * np.sin(2 * np.pi * 5 * np.arange(32) / 32)
    images = np.broadcast_to(wave[None, None, :, None], (2, 32, 32, 3)).astype(np.uint8)
    assert radial_spectrum(images).argmax() == 5
    assert len(radial_spectrum(images)) == 17


def test_the_residual_spectrum_of_a_flat_image_is_empty_and_of_noise_is_not() -> None:
    flat = np.full((2, 32, 32, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    assert residual_spectrum(flat).max() == pytest.approx(-3)
    assert residual_spectrum(noise).mean() > 3


def test_every_generator_is_low_passed_to_the_softest(tmp_path: Path, scenes: np.ndarray) -> None:
    from forensic_cli.images.history import blur

    rows = []
    for i, pixels in enumerate(scenes[:16]):
        for name, image in (("sharp", pixels), ("soft", blur(pixels, 1.0))):
            write_png(tmp_path / name / f"{i}.png", image)
            rows.append(Row(tmp_path / name / f"{i}.png", name, "horse"))
    widths = blurs_to_softest(rows)
    assert widths["soft"] == 0
    assert widths["sharp"] == pytest.approx(1.0, abs=0.15)


def test_the_whole_benchmark_holds_together(run: RunCommand, tmp_path: Path) -> None:
    done = run("benchmark", "--quick", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    assert re.search(r"^training attributors: 1 of 8, .* seed 0.*; about \d+ (s|min) left$", done.stderr, re.MULTILINE)
    for title in ("paper-32: baseline", "paper-32: adversarial (stable)", "Ranking by accuracy on the unseen subject"):
        assert title in done.stdout
    assert "published" in done.stdout
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    for title in (
        "Summary",
        "Steps towards separately trained generators",
        "Controls",
        "The paper's tables",
        "The miniature generators",
    ):
        assert f"## {title}" in report
    assert "the figures mean nothing" in report
    record = json.loads((tmp_path / "out" / "report" / "report.json").read_text())
    lines = {(one["recipe"], one["technique"], one["data"]) for one in record["entries"]}
    for technique in ("baseline", "weighted", "finetune", "adversarial", "adversarial (stable)"):
        assert ("paper-32", technique, "plain") in lines
        slug = technique.replace(" (stable)", "-stable")
        assert (tmp_path / "out" / "report" / f"confusion-paper-32-{slug}.png").stat().st_size > 5000
    assert ("native-32", "discriminant", "plain") in lines
    for recipe, data in (("paper-32", "two"), ("residual-32", "shuffled"), ("residual-32", "soft")):
        assert (recipe, "baseline", data) in lines
    again = run("benchmark", "--quick", "--output", str(tmp_path / "out"))
    assert again.exit_code == 0, again.stderr
    assert "training attributors: 1 of" not in again.stderr
    assert again.stdout == done.stdout
    assert json.loads((tmp_path / "out" / "report" / "report.json").read_text())["entries"] == record["entries"]
    other = run("benchmark", "--output", str(tmp_path / "out"))
    assert other.exit_code == 2
    assert "contains a benchmark with other images or settings; choose another --output" in other.stderr
