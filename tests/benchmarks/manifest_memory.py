"""How much memory and time a manifest of many images takes before the first epoch, without decoding any of them.

usage: PYTHONPATH=.:train python tests/benchmarks/manifest_memory.py 1000000

Writes as many names of a few small files (hard links) and a manifest below a temporary folder (TMPDIR), reads the
manifest, gives each row a made-up hash, because links have the same, and then does what a training does with rows.
"""

import csv
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from forensic_train.dataset import ImageDataset
from forensic_train.loader import loader
from forensic_train.manifest import count_cells, read_manifest, same_bytes_two_generators, write_rows
from forensic_train.recipes import find_recipe
from forensic_train.seeds import generator_for
from forensic_train.splits import split_rows
from forensic_train.training_plan import split_digest

GENERATORS, SUBJECTS, SOURCES, FOLDER_SIZE, LINKS = 12, 40, 300, 1000, 50_000
T = TypeVar("T")


def write_manifest(root: Path, count: int) -> Path:
    """Write `count` links and a manifest of them; returns its path."""
    path = root / "manifest.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["path", "generator", "subject", "group", "source"])
        for i in range(count):
            folder = (
                root / f"generator-{i % GENERATORS}" / f"subject-{i % SUBJECTS}" / f"{i // FOLDER_SIZE // SUBJECTS}"
            )
            if i % LINKS == 0:
                original = root / f"original-{i // LINKS}"
                original.write_bytes(b"image")
            if not folder.exists():
                folder.mkdir(parents=True)
            link = folder / f"image-{i:09}.png"
            os.link(original, link)
            names = (f"generator-{i % GENERATORS}", f"subject-{i % SUBJECTS}", f"group-{i}", f"source-{i % SOURCES}")
            writer.writerow([link, *names])
    return path


def measured(what: str, action: Callable[[], T]) -> T:
    """Do something; prints how long it took and the largest memory of the process so far."""
    started = time.monotonic()
    result = action()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {what} | {time.monotonic() - started:.0f} | {peak:.0f} |", flush=True)
    return result


def main() -> None:
    """Print a table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    recipe = find_recipe("paper")
    print(f"{count} rows\n\n| step | seconds | peak memory so far, MB |\n|---|---|---|")
    with TemporaryDirectory() as folder:
        path = write_manifest(Path(folder), count)
        measured("the program itself", lambda: None)
        rows = measured("read the manifest, look for the files", lambda: read_manifest(path))
        digests = generator_for("made-up hashes", 0).bytes(32 * count)
        rows = measured("give each row a hash", partial(rows.with_digests, digests))
        measured("look for copies", partial(same_bytes_two_generators, rows))
        split = measured("split", partial(split_rows, rows, 0))
        measured("hash the split", lambda: split_digest(split))
        measured("write the split", lambda: write_rows(Path(folder) / "split.csv", split))
        chosen = measured("choose the training images", lambda: split.where("split", ["train"]))
        measured("count the cells", lambda: count_cells(chosen))
        labels, subjects = sorted(set(chosen.column("generator"))), sorted(set(chosen.column("subject")))
        dataset = measured("make the dataset", lambda: ImageDataset(chosen, labels, subjects, recipe, 0))
        order = measured("order an epoch", lambda: generator_for("order", 0).permutation(len(chosen)))
        measured("divide it into batches", lambda: len(loader(dataset, order, 64, 0)))


if __name__ == "__main__":
    main()
