"""The bias audit: PAPER's figures, and shortcuts that lie in the file rather than in the image."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forensic_cli.errors import DataError
from forensic_train.audit import Shortcut, bias_of, probe_shortcuts, read_counts, subject_entropies
from forensic_train.manifest import read_manifest
from forensic_train.rows import Row

PAPER_COUNTS = Path(__file__).parents[2] / "train" / "forensic_train" / "paper_counts.csv"


def test_the_papers_table_has_the_papers_figures() -> None:
    bias = bias_of(read_counts(PAPER_COUNTS))
    assert sum(map(sum, bias.counts)) == 123_920
    assert round(bias.generator_entropy, 3) == 1.700
    assert round(bias.subject_entropy, 3) == 1.628
    assert round(bias.mutual_information, 3) == 0.683
    assert round(bias.conditional_entropy, 3) == 0.946
    assert bias.empty_cells == 27
    assert round(bias.subject_rule_accuracy, 3) == 0.452


def test_an_unbiased_table_shares_no_information() -> None:
    bias = bias_of({"a": {"cat": 10, "dog": 10}, "b": {"cat": 30, "dog": 30}})
    assert bias.mutual_information == pytest.approx(0, abs=1e-12)
    assert bias.conditional_entropy == pytest.approx(math.log(2))
    assert bias.empty_cells == 0
    assert bias.subject_rule_accuracy == pytest.approx(0.75)


def test_a_subject_that_names_the_generator_shares_all_of_it() -> None:
    bias = bias_of({"a": {"cat": 5}, "b": {"dog": 5}})
    assert bias.mutual_information == pytest.approx(math.log(2))
    assert bias.conditional_entropy == pytest.approx(0, abs=1e-12)
    assert (bias.empty_cells, bias.subject_rule_accuracy) == (2, 1.0)


def test_the_subjects_entropy_is_counted_within_each_generator() -> None:
    found = subject_entropies({"a": {"cat": 1, "dog": 1}, "b": {"cat": 7, "dog": 0}, "c": {"cat": 1, "dog": 3}})
    assert found == pytest.approx({"a": math.log(2), "b": 0, "c": 0.75 * math.log(4 / 3) + 0.25 * math.log(4)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("generator,cat\na,1\nb,many\n", "not a table of counts"),
        ("name,cat\na,1\nb,2\n", "not a table of counts"),
        ("generator,cat,dog\na,1\nb,2,3\n", "not a table of counts"),
        ("generator,cat\na,1\na,2\n", "a generator appears twice"),
        ("generator,cat\na,1\nb,-2\n", "a count is negative"),
        ("generator,cat\na,1\nb,0\n", "every generator needs images"),
        ("generator,cat\na,1\n", "at least two generators"),
        ("", "at least two generators"),
    ],
)
def test_a_bad_table_of_counts_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=words) as caught:
        read_counts(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def write(root: Path, generator: str, suffix: str, size: tuple[int, int] = (40, 40), **options: int) -> None:
    rng = np.random.default_rng(3 if generator == "alpha" else 4)
    for i in range(9):
        path = root / generator / "cat" / f"{i}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path, **options)


def probe(root: Path) -> dict[str, Shortcut]:
    return {shortcut.name: shortcut for shortcut in probe_shortcuts(read_manifest(root))}


def test_a_format_that_names_the_generator_is_flagged(tmp_path: Path) -> None:
    write(tmp_path, "alpha", ".png")
    write(tmp_path, "beta", ".jpg", quality=90)
    found = probe(tmp_path)
    assert (found["format"].balanced_accuracy, found["format"].chance) == (1.0, 0.5)
    assert found["format"].suspicious
    assert found["all of these"].suspicious


def test_a_jpeg_quality_or_a_size_that_names_the_generator_is_flagged(tmp_path: Path) -> None:
    write(tmp_path / "q", "alpha", ".jpg", quality=60)
    write(tmp_path / "q", "beta", ".jpg", quality=95)
    found = probe(tmp_path / "q")
    assert found["JPEG quality"].suspicious
    assert not found["format"].suspicious
    write(tmp_path / "s", "alpha", ".png")
    write(tmp_path / "s", "beta", ".png", (40, 48))
    assert probe(tmp_path / "s")["size"].suspicious


def test_identical_wrapping_is_not_flagged(tmp_path: Path) -> None:
    """The same files under two generators: whatever a tree finds in them is chance."""
    for generator in ("alpha", "beta"):
        folder = tmp_path / generator / "cat"
        folder.mkdir(parents=True)
        for i in range(9):
            Image.new("RGB", (40, 40), (i, 20, 30)).save(folder / f"{i}.bmp")
    assert [name for name, shortcut in probe(tmp_path).items() if shortcut.suspicious] == []


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (2, 9), (1, 9)])
def test_a_probe_of_very_few_images_neither_warns_nor_fails(tmp_path: Path, counts: tuple[int, int]) -> None:
    for generator, count in zip(("alpha", "beta"), counts, strict=True):
        for i in range(count):
            path = tmp_path / generator / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (20, 20), (i, 9, 9)).save(path)
    for shortcut in probe_shortcuts(read_manifest(tmp_path)):
        assert 0 <= shortcut.balanced_accuracy <= 1


def test_a_probe_of_generators_with_one_group_each_does_not_fail(tmp_path: Path) -> None:
    write(tmp_path, "alpha", ".png")
    write(tmp_path, "beta", ".jpg")
    rows = [replace(row, group=row.generator) for row in read_manifest(tmp_path)]
    for shortcut in probe_shortcuts(rows):
        assert 0 <= shortcut.balanced_accuracy <= 1


def test_an_unreadable_file_does_not_stop_the_probe(tmp_path: Path) -> None:
    write(tmp_path, "alpha", ".png")
    write(tmp_path, "beta", ".png")
    (tmp_path / "beta" / "cat" / "0.png").write_bytes(b"")
    rows = [*read_manifest(tmp_path), Row(tmp_path / "gone.png", "beta", "cat")]
    assert "format" in {shortcut.name for shortcut in probe_shortcuts(rows)}
