"""Throughput of a whole `genforensic scan` beside bare ONNX Runtime on pre-decoded views of the same images.

usage: python tests/benchmarks/scan_throughput.py FOLDER [--technique NAME] [--exports DIR] [--runs N]

Both sides run in pairs, one after the other, and the medians and their ratio are printed: machines are noisy.
The scan is a process of its own (start, hash, decode, report included); the bare side judges one batch of real
views again and again, with nothing else to do.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from forensic_cli.discover import discover
from forensic_cli.exports import export_files, load_models, peek_exports, select
from forensic_cli.model import Model
from forensic_cli.pipeline import prepare

BATCH = 32


def main() -> None:
    """Run the pairs and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--technique", default="baseline")
    parser.add_argument("--exports", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    files = [path for path in discover([options.folder]) if isinstance(path, Path)]
    chosen = select(peek_exports(export_files(options.exports)), [options.technique], None)
    model = load_models(chosen, "cpu")[0]
    views, images = sample_views(model, files)
    scans, bares, peaks = [], [], []
    for _ in range(options.runs):
        seconds, cpu, peak = time_scan(options.folder, options.technique, model.path.parent)
        scans.append(len(files) / seconds)
        peaks.append(peak)
        bares.append(time_bare(model, views, images, len(files)))
        print(
            f"scan {scans[-1]:.1f} images/s ({seconds:.1f} s, {cpu:.1f} CPU s, peak {peak:.0f} MB)   "
            f"bare {bares[-1]:.1f} images/s   ratio {scans[-1] / bares[-1]:.2f}"
        )
    ratio = statistics.median(s / b for s, b in zip(scans, bares, strict=True))
    print(
        f"median of {options.runs} pairs, {len(files)} files, {os.cpu_count()} cores: scan "
        f"{statistics.median(scans):.1f}, bare {statistics.median(bares):.1f} images/s, ratio {ratio:.2f}, "
        f"peak memory {statistics.median(peaks):.0f} MB"
    )


def sample_views(model: Model, files: list[Path]) -> tuple[np.ndarray, int]:
    """Return the views of the first readable images, and how many images they are."""
    prepared = (prepare(path, [model.card.preprocessing]) for path in files)
    chosen = [item.views[0] for item in islice((item for item in prepared if item.failure is None), BATCH)]
    return np.concatenate(chosen), len(chosen)


def time_scan(folder: Path, technique: str, exports: Path) -> tuple[float, float, float]:
    """Run one scan as a process; returns wall seconds, CPU seconds and peak memory in MB."""
    started = time.monotonic()
    usage = run_scan(folder, technique, exports)
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run_scan(folder: Path, technique: str, exports: Path | None) -> "resource.struct_rusage":
    """Run one scan as a process; returns what it used."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "forensic_cli", "scan", str(folder), "-t", technique, "-q"]
        command += ["--format", "jsonl", "--output", f"{temporary}/rows.jsonl"]
        command += ["--exports", str(exports)] if exports else []
        process = os.posix_spawn(sys.executable, command, os.environ)
        _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"the scan failed with exit code {os.waitstatus_to_exitcode(status)}")
    return usage


def time_bare(model: Model, views: np.ndarray, images: int, wanted: int) -> float:
    """Return images a second of the session alone, over about as many images as the scan judged."""
    model.logits(views)
    repeats = max(1, wanted // images)
    started = time.monotonic()
    for _ in range(repeats):
        model.logits(views)
    return repeats * images / (time.monotonic() - started)


if __name__ == "__main__":
    main()
