"""Feeds damaged images of every format to all that a scan does before a model: does anything raise, die or hang?

usage: python tests/benchmarks/fuzz_decode.py --minutes 20 --seed 0 [--max-pixels N] [--memory GB] [--limit SECONDS]
       [--keep FOLDER]

The work is done in a child process with a memory limit, so that a decoder that dies costs one input, which is kept.
Input number i of a seed is always the same. Exit code 1: something raised, died, hung or broke a promise.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forensic_cli.card import Preprocessing
from forensic_cli.images.header import STATUSES, WARNINGS
from forensic_cli.pipeline import Prepared, Reading, prepare_bytes
from mutations import mutant
from pictures import seeds

RECIPES = (Preprocessing("patches", 128, 2), Preprocessing("whole", 224, 1))


@dataclass
class Figures:
    """What a run found."""

    inputs: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_name: str = ""
    peak: float = 0.0
    faults: list[str] = field(default_factory=list)


def broken_promise(found: Prepared, max_pixels: int) -> str | None:
    """Return what is wrong with the result that a scan would go on with, or None."""
    if found.failure is not None:
        status, reason = found.failure.status, found.failure.reason
        return None if status in STATUSES and reason and "\n" not in reason else f"status {status!r}, reason {reason!r}"
    if found.header is None or not 0 < found.header.width * found.header.height <= max_pixels:
        return f"header {found.header}"
    if not set(found.warnings) <= set(WARNINGS):
        return f"warnings {found.warnings}"
    for recipe, views in zip(RECIPES, found.sample.views if found.sample else (), strict=True):
        if views.dtype != np.uint8 or views.shape[1:] != (recipe.size, recipe.size, 3):
            return f"views {views.shape} of {views.dtype}"
    return None


def judge(data: bytes, max_pixels: int) -> tuple[str, str | None]:
    """Read metadata, decode and cut as a scan does; returns the status, and what is wrong."""
    found = prepare_bytes(Path("fuzz.png"), data, Reading(RECIPES, max_pixels=max_pixels))
    named = bool({"damaged_data", "damaged_metadata", "scans_missing"} & set(found.warnings))
    status = found.failure.status if found.failure else "ok, with damage named" if named else "ok"
    return status, broken_promise(found, max_pixels)


def work(pipe: Connection, seed: int, first: int, options: argparse.Namespace) -> None:
    """Child: judge inputs from number `first` on; send what each is before it, and how it went after it."""
    resource.setrlimit(resource.RLIMIT_AS, (int(options.memory * 1e9),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    files = seeds()
    for number in range(first, sys.maxsize):
        name, data = mutant(files, np.random.default_rng((seed, number)))
        pipe.send((number, name, data))
        started = time.monotonic()
        try:
            status, wrong = judge(data, options.max_pixels)
        except Exception as error:
            status, wrong = "raised", f"{type(error).__name__}: {error}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send((status, wrong, time.monotonic() - started, peak))


def watch(figures: Figures, until: float, options: argparse.Namespace) -> None:
    """Parent: run one child until the time is up or it dies."""
    context = multiprocessing.get_context("spawn")
    pipe, end = context.Pipe()
    child = context.Process(target=work, args=(end, options.seed, figures.inputs, options), daemon=True)
    child.start()
    end.close()
    name, data = "start", b""
    try:
        while time.monotonic() < until:
            number, name, data = pipe.recv()
            figures.inputs = number + 1
            if not pipe.poll(options.limit):
                keep(figures, f"no answer within {options.limit:g} s", number, name, data, options.keep)
                return
            status, wrong, seconds, figures.peak = take(figures, pipe.recv())
            if seconds > figures.slowest:
                figures.slowest, figures.slowest_name = seconds, f"input {number}, {name}"
                (options.keep / "slowest.bin").write_bytes(data)
            figures.statuses[status] += 1
            if wrong is not None:
                keep(figures, wrong, number, name, data, options.keep)
    except EOFError:
        child.join()
        if not data:
            raise SystemExit("the child cannot start") from None
        keep(figures, f"the process died (exit code {child.exitcode})", figures.inputs - 1, name, data, options.keep)
    finally:
        child.kill()
        child.join()


def take(figures: Figures, answer: tuple[str, str | None, float, float]) -> tuple[str, str | None, float, float]:
    """Return an answer of the child, with the largest memory peak of all children in place of its own."""
    return (*answer[:3], max(answer[3], figures.peak))


def keep(figures: Figures, wrong: str, number: int, name: str, data: bytes, folder: Path) -> None:
    """Save an input and note what it did."""
    path = folder / f"{number:08}.bin"
    path.write_bytes(data)
    figures.faults.append(f"input {number} ({name}): {wrong}; kept as {path}")
    print(figures.faults[-1], flush=True)


def main() -> int:
    """Fuzz and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-pixels", type=int, default=20_000_000)
    parser.add_argument("--memory", type=float, default=4, help="GB that the child may map")
    parser.add_argument("--limit", type=float, default=20, help="seconds for one input")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    figures, started = Figures(), time.monotonic()
    while (left := started + options.minutes * 60) > time.monotonic():
        watch(figures, left, options)
    seconds = time.monotonic() - started
    print(
        f"seed {options.seed}: {figures.inputs} inputs of {len(seeds())} kinds in {seconds / 60:.1f} minutes, "
        f"{figures.inputs / seconds:.0f} a second\n"
        f"statuses: {', '.join(f'{name} {count}' for name, count in figures.statuses.most_common())}\n"
        f"slowest input: {figures.slowest:.2f} s ({figures.slowest_name})\n"
        f"peak memory: {figures.peak:.0f} MB\n"
        f"crashes, hangs and broken promises: {len(figures.faults)}"
    )
    return 1 if figures.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
