"""`genforensic reproduce` on toy images: one report, figures that `evaluate` confirms, resumed, and wrong options."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_train.manifest import read_manifest, write_rows
from forensic_train.paper import PUBLISHED, TECHNIQUES

RunCommand = Callable[..., Any]
NOISE = {"stylegan2": 1.0, "lsgm": 14.0, "gamma": 45.0}
"""Two generators of the paper, and one that it does not have."""
LEVEL = {"face": 70.0, "horse": 110.0, "car": 150.0, "cat": 190.0}
EMPTY = {("lsgm", "horse"), ("gamma", "car")}
UNSEEN = "subject=car"
QUICK = ("--recipe", "toy", "--epochs", "1", "--device", "cpu")
SETTINGS = {"epochs": "1"}
_PER_CELL = 10


def write_images(root: Path) -> Path:
    """Write ROOT/<generator>/<subject>/N.png, whose noise tells the generator and whose brightness the subject."""
    rng = np.random.default_rng(2)
    for generator, noise in NOISE.items():
        for subject, level in LEVEL.items():
            folder = root / generator / subject
            if (generator, subject) not in EMPTY:
                folder.mkdir(parents=True)
                for i in range(_PER_CELL):
                    pixels = level + rng.normal(0, noise, (40, 40, 3))
                    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose manifest has one source for each generator and subject."""
    root = write_images(tmp_path_factory.mktemp("reproduce") / "data")
    rows = [replace(row, source=f"{row.generator} {row.subject}") for row in read_manifest(root)]
    write_rows(root / "manifest.csv", rows)
    return root


@pytest.fixture
def arguments(data: Path, tmp_path: Path) -> tuple[Any, ...]:
    return ("reproduce", "--data", data, "--holdout", UNSEEN, *QUICK, "--output", tmp_path / "out")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of two seeds; tests must not write into it."""
    from forensic_train.protocol import Protocol
    from forensic_train.reproduce import reproduce
    from forensic_train.reproduce_report import write_report

    output = tmp_path_factory.mktemp("reproduce") / "out"
    for seeds in (1, 2):  # a seed can be added
        outcome, failure = reproduce(Protocol(data, UNSEEN, output, "toy", seeds, overrides=SETTINGS, device="cpu"))
        assert failure is None
        assert [len(results) for results in outcome.results.values()] == [seeds] * 4
    write_report(outcome)
    return output


def record_of(output: Path) -> Any:
    return json.loads((output / "report.json").read_text(encoding="utf-8"))


def failed(result: Any, code: int) -> str:
    """Check that a command failed with its code and a single line; returns the line."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return str(result.stderr)


def test_the_report_has_the_papers_figures_beside_the_measured(finished: Path) -> None:
    text = (finished / "report.md").read_text(encoding="utf-8")
    for technique in TECHNIQUES:
        assert f"### {technique}\n" in text
        picture = f"confusion-{technique}.png"
        assert f"]({picture})" in text
        assert (finished / picture).stat().st_size > 5000
    adversarial = text.partition("### adversarial\n")[2]
    lsgm = next(line for line in adversarial.splitlines() if line.startswith("| lsgm "))
    assert [cell.strip() for cell in lsgm.split("|")][3:9:2] == ["1.00", "0.93", "0.97"]
    average = next(line for line in adversarial.splitlines() if "macro average" in line)
    assert [cell.strip() for cell in average.split("|")][3:9:2] == ["0.47", "0.55", "0.50"]
    assert "gamma" not in adversarial.partition("![")[0]  # it has no image of the unseen subject
    assert "no image of the unseen subject by gamma" in text
    assert "recipe `toy`" in text
    assert "3 generators, 2 of them among the paper's 6" in text
    assert "100% of the images of seen subjects come from a source that the technique was fitted on" in text
    assert "0% of the images of the unseen subject come from" in text
    assert "100% of the images of finetune's test come from" in text
    assert "H(S|G)" in text
    assert "python 3." in text


def test_figures_are_those_of_evaluate(finished: Path, run: RunCommand, tmp_path: Path) -> None:
    record = record_of(finished)
    for seed in range(2):
        done = run("evaluate", finished / f"seed-{seed}", "--output", tmp_path, "--format", "json", "--device", "cpu")
        assert done.exit_code == 0, done.stderr
        evaluated = {(each["technique"], each["images"]): each["metrics"] for each in json.loads(done.stdout)}
        for technique in TECHNIQUES:
            measured = record["results"][technique][seed]["metrics"]
            assert set(measured) == {"seen", "test"} | ({"unseen"} if technique != "finetune" else set())
            for name in set(measured) - {"seen"}:
                assert measured[name] == evaluated[technique, name]


def test_no_training_image_shows_the_unseen_subject_and_adapt_is_drawn_again(finished: Path) -> None:
    from forensic_train.run import read_split

    splits = [read_split(finished / f"seed-{seed}") for seed in range(2)]
    for rows in splits:
        assert {row.subject for row in rows if row.split in ("adapt", "test")} == {"car"}
        assert "car" not in {row.subject for row in rows if row.split in ("train", "val")}
        assert sum(row.split == "adapt" for row in rows) == 16  # four fifths of 20
    first, second = ({row.path for row in rows if row.split == "adapt"} for rows in splits)
    assert first != second
    trained = [{row.path for row in rows if row.split == "train"} for rows in splits]
    assert trained[0] == trained[1]


def test_the_ranking_is_by_mean_accuracy(finished: Path) -> None:
    record = record_of(finished)
    means = {
        name: np.mean([seed["metrics"]["test" if name == "finetune" else "unseen"]["accuracy"] for seed in seeds])
        for name, seeds in record["results"].items()
    }
    assert record["ranking"] == means
    assert list(record["ranking"].values()) == sorted(means.values(), reverse=True)
    assert "Published: finetune > adversarial > baseline = weighted." in (finished / "report.md").read_text()
    assert {name: figures["accuracy"] for name, figures in record["published"].items()} == {
        "baseline": 0.49,
        "weighted": 0.49,
        "finetune": 0.91,
        "adversarial": 0.56,
    }


@pytest.mark.parametrize("technique", PUBLISHED)
def test_the_published_averages_are_those_of_the_published_generators(technique: str) -> None:
    published = PUBLISHED[technique]
    means = np.mean(list(published.generators.values()), axis=0)
    assert np.abs(means - published.average).max() < 0.0101, means


def test_finished_parts_are_kept(finished: Path, data: Path, run: RunCommand, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    before = record_of(output)["results"]
    (output / "seed-1" / "finetune.json").unlink()
    checkpoint = output / "seed-0" / "baseline" / "last.ckpt"
    written = checkpoint.stat().st_mtime_ns
    command = ("reproduce", "--data", data, "--holdout", UNSEEN, *QUICK, "--output", output)
    done = run(*command, "--seeds", "2")
    assert done.exit_code == 0, done.stderr
    after = record_of(output)["results"]
    for technique in TECHNIQUES:
        assert [each["metrics"] for each in after[technique]] == [each["metrics"] for each in before[technique]]
    assert checkpoint.stat().st_mtime_ns == written
    assert "Measured: " in done.stdout
    assert f"Report: {output / 'report.md'}" in done.stderr
    other = run(*command, "--set", "adversarial.stable=true")
    assert "contains a reproduction with another settings; repeat its options" in failed(other, 2)


def test_the_same_command_goes_on_after_ctrl_c_and_a_technique_that_diverges_leaves_the_others(
    arguments: Any, run: RunCommand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    command = (*arguments, "--seeds", "1", "--set", "weighted.lr=1e30")
    with monkeypatch.context() as patch:
        patch.setattr("forensic_train.techniques.weighted.Weighted.sampler", interrupt)
        done = run(*command)
    assert done.exit_code == 130
    assert "repeat the command to go on" in done.stderr
    again = run(*command)
    assert again.exit_code == 4
    assert "baseline, seed 0 of" not in again.stderr
    assert "weighted, seed 0: " in again.stderr
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "**incomplete**: weighted (1 of 1 seeds) could not be trained" in text
    assert "### adversarial\n" in text


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--holdout", "subject=dog"), 2, "matches no row; subjects are: car, cat, face, horse"),
        (("--holdout", "car"), 2, "--holdout 'car' is not understood; write subject=NAME"),
        (("--holdout", "source=x"), 2, "write subject=NAME"),
        (("--recipe", "nothing"), 2, "recipe 'nothing' is not known; allowed: "),
        (("--set", "speed=9"), 2, "setting 'speed' is not known to baseline"),
        (("--adapt", "20"), 2, "--adapt 20 leaves nothing to test on"),
        (("--data", "nowhere"), 2, "nowhere: no such file or folder"),
    ],
)
def test_a_wrong_option_is_one_line_before_anything_is_written(
    arguments: Any, options: tuple[str, str], code: int, message: str, run: RunCommand, tmp_path: Path
) -> None:
    assert message in failed(run(*arguments, *options), code)
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_used_is_one_line(run: RunCommand, tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    command = ("reproduce", "--data", root, *QUICK, "--output", tmp_path / "out", "--holdout")
    shutil.rmtree(root / "lsgm" / "cat")
    shutil.rmtree(root / "gamma" / "cat")
    assert "only stylegan2 has images of cat" in failed(run(*command, "subject=cat"), 4)
    (root / "lsgm" / "face" / "3.png").write_bytes(b"no image")
    assert "1 images cannot be read (" in failed(run(*command, UNSEEN), 4)
    assert not list((tmp_path / "out").glob("seed-*"))
