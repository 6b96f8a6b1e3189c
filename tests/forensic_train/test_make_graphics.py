"""train/make_graphics.py: pictures that no camera made, the same ones every time."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from forensic_cli.images.decode import Decoded, decode
from forensic_train.manifest import read_manifest
from toys import ROOT, child_environment

KINDS = ("pattern", "gradient", "shapes", "page", "plot")


def draw(folder: Path, seed: int) -> dict[str, np.ndarray]:
    """Draw two pictures of each kind; returns their pixels by path."""
    program = [sys.executable, ROOT / "train" / "make_graphics.py", folder, "--count", "2", "--seed", str(seed)]
    subprocess.run(program, check=True, env=child_environment(), timeout=120)
    pictures = {}
    for path in sorted(folder.rglob("*.png")):
        decoded = decode(path.read_bytes())
        assert isinstance(decoded, Decoded)
        pictures[str(path.relative_to(folder))] = decoded.pixels
    return pictures


def test_pictures_are_drawn_with_a_manifest_the_same_for_each_seed(tmp_path: Path) -> None:
    first, again, other = (draw(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert set(first) == {f"{kind}/{i:04d}.png" for kind in KINDS for i in range(2)}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
    # a manifest of its own has one label only: it is joined with those of generators
    with (tmp_path / "a" / "manifest.csv").open("a", newline="") as stream:
        stream.write("../b/page/0000.png,alpha,page,,elsewhere\n")
    *rows, _ = read_manifest(tmp_path / "a" / "manifest.csv")
    assert {str(row.path.relative_to(tmp_path / "a")): row.source for row in rows} == {
        name: f"drawn {name.partition('/')[0]}" for name in first
    }
    assert {(row.generator, row.subject) for row in rows} == {("real", "graphic")}
