"""Decoded images on disk: the same pixels as without them, whatever happens to the files."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from forensic_cli.card import Preprocessing
from forensic_cli.errors import DataError, TrainingError
from forensic_cli.images.decode import Decoded, decode
from forensic_cli.images.header import Pixels
from forensic_cli.images.views import views
from forensic_cli.pipeline import ordered_map
from forensic_train import view_cache
from forensic_train.augment import augment_patch
from forensic_train.dataset import ImageDataset, cached
from forensic_train.encoders import ResNet50
from forensic_train.loader import loader
from forensic_train.manifest import with_hashes
from forensic_train.recipes import Recipe
from forensic_train.rows import Row
from forensic_train.seeds import generator_for
from forensic_train.view_cache import ViewCache, open_cache

WHOLE = Recipe("whole", Preprocessing("whole", 24), ResNet50)
FIRST = Recipe("first", Preprocessing("patches", 16, grid=2), ResNet50)
AUGMENTED = Recipe("augmented", Preprocessing("patches", 32, grid=2), ResNet50, 0, augment_patch)
RECIPES = pytest.mark.parametrize("recipe", [WHOLE, FIRST, AUGMENTED], ids=lambda recipe: recipe.name)
STAMP, HASHES = "ab" * 32, np.array([bytes([i + 1]) * 32 for i in range(40)], "S32")


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    """Return 12 images of several sizes and formats, one of them twice; sizes below, at and above the recipes'."""
    rng, rows = np.random.default_rng(0), []
    for i in range(12):
        path = tmp_path / "images" / f"{i}.{('png', 'jpg', 'webp')[i % 3]}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20 + 5 * i, 70 - 4 * i, 3), np.uint8)).save(path)
        rows.append(Row(path, "ab"[i % 2], "xyz"[i % 3]))
    return with_hashes([*rows, rows[3]])


def dataset_of(rows: list[Row], recipe: Recipe, cache: ViewCache | None = None) -> ImageDataset:
    return ImageDataset(rows, ("a", "b"), ("x", "y", "z"), recipe, 5, cache)


def pixels_of(path: Path) -> Pixels:
    decoded = decode(path.read_bytes())
    assert isinstance(decoded, Decoded)
    return decoded.pixels


def expected(rows: list[Row], recipe: Recipe, epoch: int, position: int, index: int) -> Pixels:
    """Return a training view as it was defined before there was a cache."""
    pixels = pixels_of(rows[index].path)
    if recipe.augment is None:
        return views(pixels, recipe.preprocessing)[0]
    return recipe.augment(pixels, recipe.preprocessing.size, generator_for("augment", 5, epoch, position)).pixels


@RECIPES
@pytest.mark.parametrize("workers", [0, 2])
def test_examples_are_the_same_bit_for_bit(rows: list[Row], tmp_path: Path, recipe: Recipe, workers: int) -> None:
    dataset = dataset_of(rows, recipe, cached(rows, recipe, tmp_path))
    for epoch in range(2):
        dataset.epoch = epoch
        order = np.random.default_rng(epoch).integers(0, len(rows), 20).tolist()
        batches = list(loader(dataset, order, 6, workers))
        inputs = torch.cat([batch.inputs for batch in batches]).numpy()
        assert inputs.dtype == np.uint8
        for position, index in enumerate(order):
            assert np.array_equal(inputs[position], expected(rows, recipe, epoch, position, index))
        assert [i for batch in batches for i in batch.generator.tolist()] == [
            "ab".index(rows[i].generator) for i in order
        ]
        assert [i for batch in batches for i in batch.subject.tolist()] == ["xyz".index(rows[i].subject) for i in order]
        assert {i for batch in batches for i in batch.state.tolist()} == {0}


@RECIPES
def test_samples_and_grids_are_the_same_with_and_without_a_cache(
    rows: list[Row], tmp_path: Path, recipe: Recipe
) -> None:
    plain, fast = dataset_of(rows, recipe), dataset_of(rows, recipe, cached(rows, recipe, tmp_path))
    for one, other in zip(plain.samples(3, 5), fast.samples(3, 5), strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    for index, row in enumerate(rows):
        grid = fast.grid_views(index)
        assert np.array_equal(grid, views(pixels_of(row.path), recipe.preprocessing))
        torch.from_numpy(grid)  # without a warning of read-only memory


@RECIPES
def test_another_split_needs_no_image_again(rows: list[Row], tmp_path: Path, recipe: Recipe) -> None:
    wanted = [dataset_of(rows, recipe)[p, i][0] for p, i in enumerate((7, 2, 9))]
    cached(rows, recipe, tmp_path)
    shutil.rmtree(tmp_path / "images")
    subset = [rows[7], rows[2], rows[9]]
    dataset = dataset_of(subset, recipe, cached(subset, recipe, tmp_path))
    assert all(torch.equal(dataset[i, i][0], view) for i, view in enumerate(wanted))


def test_recipes_that_read_the_same_pixels_share_them_and_others_do_not(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_cache, "SHARD_BYTES", 1 << 20)
    also = Recipe("also", Preprocessing("patches", 48), ResNet50, 0, augment_patch)
    for recipe in (AUGMENTED, also, WHOLE, FIRST):
        cached(rows, recipe, tmp_path)
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "views").iterdir())
    assert names == ["patches-16", "pixels", "whole-24"]
    assert all(len(list(folder.glob("*.pixels"))) == 1 for folder in (tmp_path / "views").iterdir())


def test_an_image_that_changed_after_it_was_hashed_is_one_line(rows: list[Row], tmp_path: Path) -> None:
    rows[4].path.write_bytes(rows[5].path.read_bytes())
    with pytest.raises(DataError) as caught:
        cached(rows, WHOLE, tmp_path)
    assert str(caught.value) == (
        f"{rows[4].path}: has changed since its hash was computed; run again when nothing writes to it"
    )


def test_an_image_that_cannot_be_decoded_is_one_line(rows: list[Row], tmp_path: Path) -> None:
    rows[4].path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="repair or remove it"):
        cached(with_hashes(rows), WHOLE, tmp_path)


# The files, with pixels that are made up


def made(row: int) -> Pixels:
    return np.random.default_rng(row).integers(0, 256, (9 + row % 4, 11, 3), np.uint8)


@pytest.fixture
def asked() -> list[int]:
    return []


@pytest.fixture
def load(asked: list[int]) -> Callable[[int], Pixels]:
    lock = threading.Lock()

    def load(row: int) -> Pixels:
        with lock:
            asked.append(row)
        return made(row)

    return load


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close a shard after a dozen of the images."""
    monkeypatch.setattr(view_cache, "SHARD_BYTES", 4000)
    monkeypatch.setattr(view_cache, "_SAMPLE", 1)


def largest(folder: Path) -> Path:
    return max(shards_in(folder), key=lambda path: path.stat().st_size)


def all_right(cache: ViewCache) -> bool:
    return len(cache) == len(HASHES) and all(np.array_equal(cache[i], made(i)) for i in range(len(cache)))


def shards_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.pixels"))


def test_images_are_decoded_once(tmp_path: Path, load: Any, asked: list[int]) -> None:
    assert all_right(open_cache(tmp_path, STAMP, HASHES, load))
    assert len(shards_in(tmp_path)) == 4
    assert sorted(asked) == [0, *range(40)]  # the first one twice, to estimate the disk space
    asked.clear()
    assert all_right(open_cache(tmp_path, STAMP, HASHES, load))
    again = open_cache(tmp_path, STAMP, HASHES[::-1], load)
    assert all(np.array_equal(again[i], made(39 - i)) for i in range(40))
    assert asked == []


def test_more_images_are_added_to_those_that_are_there(tmp_path: Path, load: Any, asked: list[int]) -> None:
    open_cache(tmp_path, STAMP, HASHES[:30], load)
    asked.clear()
    assert all_right(open_cache(tmp_path, STAMP, HASHES, load))
    assert set(asked) == set(range(30, 40))


def test_pixels_cannot_be_written_by_accident(tmp_path: Path, load: Any) -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_cache(tmp_path, STAMP, HASHES, load)[0][0, 0, 0] = 1


def test_a_cache_is_sent_to_another_process_without_its_pixels(tmp_path: Path, load: Any) -> None:
    cache = open_cache(tmp_path, STAMP, HASHES, made)
    assert all_right(cache)
    sent = pickle.dumps(cache)
    assert len(sent) < sum(path.stat().st_size for path in shards_in(tmp_path)) / 2
    assert all_right(pickle.loads(sent))


def test_more_shards_than_are_mapped_at_once(tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_cache, "_MOST_MAPS", 2)
    cache = open_cache(tmp_path, STAMP, HASHES, load)
    assert all(ordered_map(lambda _: all_right(cache), range(40), 8, 40))


def test_a_changed_byte_anywhere_never_gives_wrong_pixels(tmp_path: Path, load: Any, asked: list[int]) -> None:
    open_cache(tmp_path / "good", STAMP, HASHES, load)
    name = largest(tmp_path / "good").name
    good = (tmp_path / "good" / name).read_bytes()
    for position in (*range(0, len(good), 97), *range(len(good) - 53, len(good), 5)):
        folder = tmp_path / str(position)
        shutil.copytree(tmp_path / "good", folder)
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        (folder / name).write_bytes(bad)
        asked.clear()
        assert all_right(open_cache(folder, STAMP, HASHES, load))
        assert 0 < len(asked) <= 14  # a single image, or the shard if its index is damaged
        asked.clear()
        assert all_right(open_cache(folder, STAMP, HASHES, load))
        assert asked == []  # it was repaired


def test_a_damaged_image_is_reported_once_a_shard(
    tmp_path: Path, load: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    open_cache(tmp_path, STAMP, HASHES, load)
    path = largest(tmp_path)
    path.write_bytes(b"\0" * 900 + path.read_bytes()[900:])
    assert all_right(open_cache(tmp_path, STAMP, HASHES, load))
    assert capsys.readouterr().err == f"{path}: is damaged; the images in question are decoded again.\n"


@pytest.mark.parametrize("kept", [0, 1, 51, 52, 53, 400, 2000, -1])
def test_a_shard_that_was_cut_is_made_again(
    tmp_path: Path, load: Any, asked: list[int], kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    open_cache(tmp_path, STAMP, HASHES, load)
    path = largest(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    asked.clear()
    assert all_right(open_cache(tmp_path, STAMP, HASHES, load))
    assert 0 < len(asked) <= 14
    assert (
        capsys.readouterr().err
        == f"{path}: is damaged or of another cache and is removed; its images are decoded again.\n"
    )


def test_a_shard_of_another_cache_is_not_used(tmp_path: Path, load: Any) -> None:
    open_cache(tmp_path / "other", "cd" * 32, HASHES, lambda row: made(row) // 2)
    (tmp_path / "mine").mkdir()
    for path in shards_in(tmp_path / "other"):
        shutil.copy(path, tmp_path / "mine")
    assert all_right(open_cache(tmp_path / "mine", STAMP, HASHES, load))


def test_a_damaged_image_whose_file_is_gone_is_its_error(tmp_path: Path, load: Any) -> None:
    open_cache(tmp_path, STAMP, HASHES, load)
    path = largest(tmp_path)
    path.write_bytes(b"\0" * 900 + path.read_bytes()[900:])

    def gone(row: int) -> Pixels:
        raise DataError(f"{row}.png: the file is gone; repair or remove it")

    with pytest.raises(DataError, match="the file is gone; repair or remove it"):
        all_right(open_cache(tmp_path, STAMP, HASHES, gone))


def test_pixels_of_another_decoder_are_not_mixed_in(tmp_path: Path, load: Any) -> None:
    open_cache(tmp_path, STAMP, HASHES, load)
    path = largest(tmp_path)
    path.write_bytes(b"\0" * 900 + path.read_bytes()[900:])
    with pytest.raises(TrainingError) as caught:
        all_right(open_cache(tmp_path, STAMP, HASHES, lambda row: made(row) // 2))
    assert str(caught.value) == f"{path}: was made by another decoder; remove the folder {tmp_path}, and run again"


def test_a_shard_that_is_lost_during_the_training_is_one_line(tmp_path: Path, load: Any) -> None:
    cache = open_cache(tmp_path, STAMP, HASHES, load)
    shutil.rmtree(tmp_path)
    with pytest.raises(TrainingError, match=r"was removed or emptied while in use \(.*\); run again$"):
        all_right(cache)


# Processes that are killed, that meet, or that have no room

CHILD = """
import os, resource, signal, sys, time
import numpy as np
from pathlib import Path
from forensic_cli.errors import TrainingError
from forensic_cli.pipeline import ordered_map
from forensic_train import view_cache
view_cache.SHARD_BYTES, view_cache._SAMPLE = 4000, 1
folder, last, pause, limit = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
log = folder.with_suffix(".log")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
print("ready", flush=True)
sys.stdin.readline()

def load(row):
    if row == last:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(pause)
    with log.open("a") as stream:
        stream.write(f"{row}\\n")
    return np.random.default_rng(row).integers(0, 256, (9 + row % 4, 11, 3), np.uint8)

try:
    cache = view_cache.open_cache(folder, "ab" * 32, np.array([bytes([i + 1]) * 32 for i in range(40)], "S32"), load)
    print(all(np.array_equal(cache[i], load(i)) for i in range(40)))
except TrainingError as error:
    sys.exit(str(error))
"""


def child(folder: Path, last: int = -1, pause: float = 0.0, limit: int = 0) -> "subprocess.Popen[str]":
    """Start a process that opens the cache as soon as it gets a line, and is killed at image number `last`."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, folder, str(last), str(pause), str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_build_that_was_killed_continues(tmp_path: Path, load: Any, asked: list[int]) -> None:
    folder = tmp_path / "cache"
    with child(folder, last=33, pause=0.005) as process:
        process.communicate("go\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    complete = len(shards_in(folder))
    assert 0 < complete < 4
    assert len(list(folder.glob(".*.tmp"))) == 1
    assert all_right(open_cache(folder, STAMP, HASHES, load))
    assert len(set(asked)) < 40 - 10 * complete
    assert list(folder.glob(".*.tmp")) == []


def test_of_two_processes_that_start_together_one_decodes(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with child(folder, pause=0.03) as one, child(folder, pause=0.03) as other:
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [process.communicate(timeout=60) for process in (one, other)]
    assert [out for out, _ in results] == ["True\n", "True\n"]
    waiting = f"{folder}: waiting for another process that decodes images into it.\n"
    assert sorted(err for _, err in results) == ["", waiting]
    assert len(shards_in(folder)) == 4
    decoded = folder.with_suffix(".log").read_text().splitlines()
    assert len(decoded) == 41 + 2 * 40  # one of them decoded; both compared all images at the end


def test_a_full_disk_is_one_line_and_complete_shards_stay(tmp_path: Path, load: Any, asked: list[int]) -> None:
    folder = tmp_path / "cache"
    open_cache(folder, STAMP, HASHES[:20], load)
    before = shards_in(folder)
    with child(folder, limit=3000) as process:
        out, err = process.communicate("go\n", timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"{folder}: decoded images cannot be kept there (File too large); free some disk space, or name another "
        "folder with --signals; a second run continues with the images that were decoded\n"
    )
    assert shards_in(folder) == before
    assert list(folder.glob(".*.tmp")) == []
    asked.clear()
    assert all_right(open_cache(folder, STAMP, HASHES, load))
    assert set(asked) == set(range(20, 40))


def test_the_disk_space_is_checked_first(tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TrainingError) as caught:
        open_cache(tmp_path, STAMP, HASHES, load)
    assert str(caught.value) == (
        f"{tmp_path}: 40 decoded images need about 11.9 kB, and 5.0 kB are free; "
        "free some disk space, or name a folder on another disk with --signals"
    )
    assert shards_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, load: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match=r"cannot be kept there \(Not a directory\)"):
        open_cache(tmp_path / "file" / "cache", STAMP, HASHES, load)
