"""What `--engine ray` costs: throughput beside the local engine, peak memory of every process, and the driver's share.

usage: python tests/benchmarks/engine_scale.py throughput FOLDER [--files 10000] [--workers 1 2] [--technique NAME]
       python tests/benchmarks/engine_scale.py memory [--files 1000000] [--keep DIR]
       python tests/benchmarks/engine_scale.py costs [--write]

throughput: FOLDER's images, repeated up to --files, by the local engine and by Ray with so many workers, in turn.
memory: so many small files, judged by the tests' toy network; prints the peak of each kind of process.
costs: seconds of the driver for a part, of a writer for a row, and until a worker judges; --write puts them into
scale.json. Machines are noisy: run nothing beside it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from forensic_cli.discover import discover
from forensic_cli.exports import peek_exports
from forensic_cli.parts import write_part
from forensic_cli.ray_workers import Pool, WorkerSpec, connected, running_versions
from forensic_cli.results_file import open_results
from forensic_cli.scan import ScanSettings
from toys import child_environment, write_toy_exports

_FIGURES = Path(__file__).with_name("scale.json")
_TICK = 0.5
"""Seconds between two looks at the memory of all processes."""


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("throughput")
    one.add_argument("folder", type=Path)
    one.add_argument("--files", type=int, default=10_000)
    one.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    one.add_argument("--technique", default="baseline")
    one.set_defaults(run=throughput)
    two = commands.add_parser("memory")
    two.add_argument("--files", type=int, default=1_000_000)
    two.add_argument("--keep", type=Path)
    two.set_defaults(run=memory)
    three = commands.add_parser("costs")
    three.add_argument("--write", action="store_true")
    three.set_defaults(run=costs)
    options = parser.parse_args()
    options.run(options)


def throughput(options: argparse.Namespace) -> None:
    """Print images/s of the local engine and of Ray for each number of workers, and their ratio."""
    files = [str(path) for path in discover([options.folder]) if isinstance(path, Path)]
    listed = "\n".join(islice(cycle(files), options.files))
    print(f"{options.files} images\nworkers  engine  seconds  images/s  of local")
    for workers in options.workers:
        with tempfile.TemporaryDirectory() as folder:
            scan = ("scan", "-", "-t", options.technique, "-q", "--workers", workers)
            local = timed([*scan, "-o", f"{folder}/local.jsonl"], listed)[0]
            ray = timed([*scan, "--engine", "ray", "-o", f"{folder}/parts"], listed)[0]
        for engine, seconds in (("local", local), ("ray", ray)):
            print(f"{workers:7}  {engine:6}  {seconds:7.0f}  {options.files / seconds:8.1f}  {local / seconds:8.3f}")


def memory(options: argparse.Namespace) -> None:
    """Print time and the peak memory of each kind of process for a scan of many small files."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        exports, images = write_toy_exports(folder / "exports"), folder / "images"
        make_small_files(images, options.files)
        command = ["scan", images, "--exports", exports, "--engine", "ray", "-q", "-o", folder / "parts", "--force"]
        seconds, peaks = timed(command)
        rows = sum(json.loads(line).get("rows", 0) for line in (folder / "parts" / "manifest.jsonl").open())
    print(f"{rows} rows, {seconds:.0f} s, {rows / seconds:.0f} images/s; peak memory (RSS) of a process:")
    for kind, (peak, most) in sorted(peaks.items(), key=lambda item: -item[1][0]):
        print(f"  {kind:30} {peak / 1e6:6.0f} MB, at most {most} at once")


def make_small_files(folder: Path, count: int) -> None:
    """Write different PNGs of 40 by 36 pixels, a thousand in a folder, unless they are there."""
    for i in range(count):
        place = folder / f"{i // 1000:05}"
        if i % 1000 == 0:
            place.mkdir(parents=True, exist_ok=True)
        path = place / f"{i % 1000:03}.png"
        if not path.exists():
            Image.new("RGB", (40, 36), (i % 256, i // 256 % 256, i // 65536 % 256)).save(path)


def timed(command: Sequence[object], listed: str = "") -> tuple[float, dict[str, tuple[int, int]]]:
    """Run a command line; returns its seconds, and {kind of process: (peak bytes of one, most at once)}."""
    started, peaks = time.perf_counter(), defaultdict[str, tuple[int, int]](lambda: (0, 0))
    with tempfile.TemporaryFile("w+") as stream:
        stream.write(listed)
        stream.seek(0)
        scan = subprocess.Popen(
            [sys.executable, "-m", "forensic_cli", *map(str, command)], stdin=stream, env=child_environment()
        )
        while scan.poll() is None:
            for kind, sizes in memory_by_kind(scan.pid).items():
                peak, most = peaks[kind]
                peaks[kind] = max(peak, *sizes), max(most, len(sizes))
            time.sleep(_TICK)
    if scan.returncode not in (0, 1):
        raise SystemExit(scan.returncode)
    return time.perf_counter() - started, peaks


def memory_by_kind(process: int) -> dict[str, list[int]]:
    """Return the resident bytes of a process and of all below it, by what they do."""
    sizes = defaultdict[str, list[int]](list)
    try:
        top = psutil.Process(process)
        for below in (top, *top.children(recursive=True)):
            name = "driver" if below == top else below.cmdline()[0].split("/")[-1].split()[0]
            sizes[name].append(below.memory_info().rss)
    except (psutil.Error, IndexError):
        pass  # it has just ended
    return sizes


def costs(options: argparse.Namespace) -> None:
    """Print the engine's figures of scale.json."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure_costs(Path(folder))
    for name, value in figures.items():
        print(f"{name} {value:.3g}")
    if options.write:
        stored = json.loads(_FIGURES.read_text(encoding="utf-8"))
        for name, value in figures.items():
            stored[name].pop("placeholder", None)
            stored[name] |= {"value": float(f"{value:.2g}"), "from": "`python tests/benchmarks/engine_scale.py costs`"}
        _FIGURES.write_text(json.dumps(stored, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def measure_costs(folder: Path) -> dict[str, float]:
    """Measure each figure by itself, with toy models and 20 parts of small files."""
    exports = write_toy_exports(folder / "exports")
    make_small_files(folder / "images", 20 * 1024)
    parts = folder / "parts"
    command = ["scan", folder / "images", "--exports", exports, "--engine", "ray", "-q", "-o", parts]
    few, many = (
        driver_seconds([*command, "--part-size", 10_240]),
        driver_seconds([*command, "--part-size", 128, "--force"]),
    )
    opened = open_results(parts)
    rows = list(islice(opened.rows(), 1024))
    write = shortest(lambda: write_part(folder / "part-000000.jsonl", opened.header, rows)) / len(rows)
    found = peek_exports([exports / "native-baseline.onnx"])
    contents = {export.path: export.path.read_bytes() for export in found}
    with connected(None, 1) as ray:
        pool = Pool(ray, WorkerSpec(found, contents, ScanSettings(), "cpu", running_versions()), 1, False)
        started = time.perf_counter()
        pool.wait()
        start = time.perf_counter() - started
        waits = [shortest(lambda n=n: ray.wait(never(ray, n), timeout=0)) for n in (64, 512)]
    return {
        # The same rows in many parts and in few: the difference is what parts cost
        "driver_seconds_per_part": (many - few) / (160 - 2),
        "driver_seconds_per_part_and_worker": (waits[1] - waits[0]) / (512 - 64),
        "writer_seconds_per_row": write,
        "worker_start_seconds": start,
    }


def driver_seconds(command: Sequence[object]) -> float:
    """Return the processor time of the scan's own process, without Ray's."""
    program = (
        "import sys, time\nfrom forensic_cli.main import app\n"
        "try: app(sys.argv[1:])\nexcept SystemExit: pass\nprint(time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], env=child_environment(), stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout.split()[-1])


_NEVER: dict[int, list[Any]] = {}


def never(ray: Any, count: int) -> list[Any]:
    """Return references to results that never come, as those of busy workers."""
    if count not in _NEVER:
        task = ray.remote(lambda: None).options(num_cpus=10_000)
        _NEVER[count] = [task.remote() for _ in range(count)]
    return _NEVER[count]


def shortest(work: Callable[[], object], runs: int = 9) -> float:
    """Return the least seconds of several runs."""
    least = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - started)
    return least


if __name__ == "__main__":
    main()
