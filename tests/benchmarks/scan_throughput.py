"""A whole `genforensic scan` beside bare ONNX Runtime and beside plain PyTorch loops over the same images.

usage: python tests/benchmarks/scan_throughput.py FOLDER [--technique NAME ...] [--recipe NAME] [--exports DIR]
           [--cores N ...] [--runs N] [--against torchvision timm]

For each number of cores all sides run one after the other, several times, and medians are printed: machines are noisy.
The scan and the loops are processes of their own (start, reading and report included). The bare side has views that are
decoded already, one image a run, and as many threads that run the session as there are cores: the most that the
runtime gives on them.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from forensic_cli.discover import discover
from forensic_cli.exports import export_files, peek_exports, select
from forensic_cli.model import Model, Sample, judge_samples, load_models
from forensic_cli.pipeline import Reading, prepare

_SAMPLE = 64
_BARE_SECONDS = 4.0


def main() -> None:
    """Run all sides and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--technique", nargs="+", default=["discriminant"])
    parser.add_argument("--recipe")
    parser.add_argument("--exports", type=Path)
    parser.add_argument("--cores", type=int, nargs="+", default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", nargs="*", choices=["torchvision", "timm"], default=[])
    options = parser.parse_args()
    files = [path for path in discover([options.folder]) if isinstance(path, Path)]
    chosen = select(peek_exports(export_files(options.exports)), options.technique, options.recipe)
    models = load_models(chosen, "cpu")
    samples = read_samples(models, files)
    print(f"{len(files)} files, {', '.join(model.card.name for model in models)}, median of {options.runs} runs")
    print("cores  side          images/s   of bare  CPU s  peak MB")
    for cores in options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
        sides: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(options.runs):
            sides.setdefault("bare", []).append((bare_rate(models, samples, cores), 0, 0))
            command = scan_command(options.folder, options.technique, options.recipe, options.exports)
            sides.setdefault("scan", []).append(process_rate(command, len(files)))
            for kind in options.against:
                loop = [str(Path(__file__).with_name("loops.py")), kind, str(options.folder)]
                sides.setdefault(kind, []).append(process_rate(loop, len(files)))
        bare = statistics.median(rate for rate, _, _ in sides["bare"])
        for name, runs in sides.items():
            rate, cpu, peak = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{cores:5}  {name:12} {rate:9.1f} {rate / bare:9.2f} {cpu:6.1f} {peak:8.0f}", flush=True)


def read_samples(models: Sequence[Model], files: Sequence[Path]) -> list[Sample]:
    """Return the first readable images, cut for the one preprocessing of the models."""
    prepared = (prepare(path, Reading((models[0].card.preprocessing,))) for path in files)
    return list(islice((item.sample for item in prepared if item.sample), _SAMPLE))


def bare_rate(models: Sequence[Model], samples: Sequence[Sample], cores: int) -> float:
    """Return images a second of the sessions alone, run by as many threads as there are cores."""
    wanted = [models[0].card.preprocessing]
    end = time.monotonic() + _BARE_SECONDS
    done = [0] * cores

    def run(place: int) -> None:
        while time.monotonic() < end:
            judge_samples(models, wanted, [samples[(place + done[place]) % len(samples)]])
            done[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(cores)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - started)


def scan_command(folder: Path, techniques: Sequence[str], recipe: str | None, exports: Path | None) -> list[str]:
    """Return the arguments of Python that scan a folder."""
    named = [part for name in techniques for part in ("-t", name)]
    named += ["--recipe", recipe] if recipe else []
    named += ["--exports", str(exports)] if exports else []
    return ["-m", "forensic_cli", "scan", str(folder), *named, "-q", "-f", "jsonl"]


def process_rate(command: Sequence[str], files: int) -> tuple[float, float, float]:
    """Run Python as a process; returns images a second, CPU seconds and peak memory in MB, its children's included."""
    started = time.monotonic()
    usage = run_python(command)
    seconds = time.monotonic() - started
    return files / seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def run_python(command: Sequence[str]) -> "resource.struct_rusage":
    """Run Python with some arguments; returns what it and its children used."""
    with tempfile.TemporaryFile() as rows:
        process = subprocess.Popen([sys.executable, *command], stdout=rows, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command} failed with exit code {process.returncode}")
    return usage


if __name__ == "__main__":
    main()
