"""How often traces of a JPEG and of resizing are found, in images that have them and in images that have none.

    PYTHONPATH=. python tests/benchmarks/trace_rates.py MANIFEST [--images 250] [--seed 0]

MANIFEST: a CSV with path, generator and source, such as `genforensic corpus` writes. Lossless files of generators are
assumed never to have been compressed or resized; eight of each source are taken. Images drawn by a formula are reported
by themselves.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from forensic_cli.images.decode import decode
from forensic_cli.images.header import Pixels, Unreadable, state_of
from forensic_cli.images.history import EARLIER_JPEG, RESIZED, jpeg, traces_of

_OF_A_SOURCE = 8
_LEAST, _MOST = 256, 1032


def forms(pixels: Pixels, rng: np.random.Generator) -> Iterator[tuple[str, Pixels]]:
    """Yield (name, pixels) of an image as it is, compressed and cut, and resized."""
    yield "as it is", pixels
    top, left = rng.integers(0, 8, 2)
    for quality in (75, 85, 92, 96):
        yield f"JPEG {quality}, cut", np.ascontiguousarray(jpeg(pixels, quality)[top:, left:])
    for factor in (0.5, 0.75, 0.9, 1.3, 1.6):
        smooth = cv2.INTER_CUBIC if factor > 1 else cv2.INTER_AREA
        resized = np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=smooth), np.uint8)
        yield f"resized {factor} (OpenCV)", resized
        yield f"resized {factor} (OpenCV), JPEG 85", jpeg(resized, 85)
        size = (resized.shape[1], resized.shape[0])
        yield f"resized {factor} (Lanczos)", np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def main() -> None:
    """Print a Markdown table of the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with options.manifest.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    traces_by_form: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    taken: Counter[str] = Counter()
    for i in rng.permutation(len(rows)):
        row = rows[i]
        drawn = row["source"].startswith("drawn")
        if taken[row["source"]] >= _OF_A_SOURCE or (row["generator"] == "real" and not drawn):
            continue
        decoded = decode((options.manifest.parent / row["path"]).read_bytes())
        if isinstance(decoded, Unreadable) or state_of(decoded.header).name != "lossless":
            continue
        if min(decoded.pixels.shape[:2]) < _LEAST:
            continue
        taken[row["source"]] += 1
        if drawn:
            traces_by_form[row["source"]].append(traces_of(decoded.pixels, lossless=True))
        elif len(traces_by_form["as it is"]) < options.images:
            for name, pixels in forms(np.ascontiguousarray(decoded.pixels[:_MOST, :_MOST]), rng):
                traces_by_form[name].append(traces_of(pixels, lossless=True))
    print("| picture | images | was a JPEG | was resized |\n|---|---|---|---|")
    for name, traces in traces_by_form.items():
        shares = (np.mean([trace in image for image in traces]) for trace in (EARLIER_JPEG, RESIZED))
        print(f"| {name} | {len(traces)} |", " | ".join(f"{share:.2f}" for share in shares), "|")


if __name__ == "__main__":
    main()
