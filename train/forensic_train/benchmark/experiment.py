"""The benchmark from images to report: what is drawn, what is trained, in which order, on how many cores."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from forensic_cli.console import note, track
from forensic_cli.errors import UsageError
from forensic_train.benchmark.attributors import Attributor, run_attributor, write_soft_tiers
from forensic_train.benchmark.checkpoints import ALL_CHECKPOINTS, CHECKPOINTS
from forensic_train.benchmark.samples import FULL, QUICK, Plan, draw_cells, plan_cells, tier_rows
from forensic_train.run import write_json

PAPER_TECHNIQUES = ("baseline", "weighted", "finetune", "adversarial")
_STABLE = (("stable", "true"),)
_STEPS = (
    ("paper-32", "baseline"),
    ("augmented-32", "baseline"),
    ("residual-32", "baseline"),
    ("native-32", "baseline", "adversarial", "discriminant"),
)
"""What is trained again on two checkpoints of each generator: a recipe and its techniques."""
_LOG = "log.txt"
_CONFIG = "benchmark.json"
_SECONDS = "seconds.txt"


@dataclass(frozen=True)
class Experiment:
    """A size of the benchmark."""

    plan: Plan = FULL
    """Images."""
    seeds: int = 3
    """Attributors of each kind."""
    settings: tuple[tuple[str, str], ...] = ()
    """Overrides for every training."""
    checkpoints: Path = CHECKPOINTS
    """Folder of the miniature generators."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes, one thread each."""


QUICK_EXPERIMENT = Experiment(plan=QUICK, seeds=1, settings=(("epochs", "1"),))
"""Shows in a few minutes that everything holds together; its figures mean nothing."""


def wanted_attributors(experiment: Experiment) -> list[Attributor]:
    """Return everything that is trained: the techniques, the controls, and the steps beyond."""
    kinds = (  # the longest first, so that no core waits for the last one
        ("paper-32", PAPER_TECHNIQUES, ()),
        ("paper-32", ("adversarial",), _STABLE),
        ("native-32", (*PAPER_TECHNIQUES, "discriminant"), ()),
        ("residual-32", ("baseline", "finetune"), ()),
        ("native-32", ("adversarial",), _STABLE),
        ("augmented-32", ("baseline",), ()),
    )
    wanted = [
        Attributor(recipe, techniques, seed, settings=settings)
        for recipe, techniques, settings in kinds
        for seed in range(experiment.seeds)
    ]
    for recipe, *techniques in _STEPS:
        wanted += [Attributor(recipe, tuple(techniques), seed, "two") for seed in range(experiment.seeds)]
    for recipe in ("paper-32", "native-32", "residual-32"):
        wanted += [Attributor(recipe, ("baseline",), 0, data) for data in ("shuffled", "soft")]
    return [replace(one, settings=(*one.settings, *experiment.settings)) for one in wanted]


def run_experiment(experiment: Experiment, output: Path) -> float:
    """Draw every image and train every attributor that OUTPUT lacks; returns the wall time of all starts, in seconds.

    Raises UsageError where OUTPUT holds another experiment, TrainingError for damaged or missing checkpoints.
    """
    started = time.monotonic()
    _begin(experiment, output)
    images = output / "images"
    cells = plan_cells(experiment.plan, experiment.checkpoints)
    sources = list(dict.fromkeys(cell.source for cell in cells))
    drawing = [partial(draw_cells, [cell for cell in cells if cell.source == one], images) for one in sources]
    _run_all(drawing, "drawing images", experiment.workers, output)
    tiers = tier_rows(cells, images)
    wanted = wanted_attributors(experiment)
    write_soft_tiers(tiers, output)
    training = [partial(run_attributor, one, tiers, output) for one in wanted]
    _run_all(training, "training attributors", experiment.workers, output)
    clock = output / _SECONDS
    seconds = time.monotonic() - started + (float(clock.read_text()) if clock.exists() else 0.0)
    clock.write_text(f"{seconds:.0f}\n")
    return seconds


def _begin(experiment: Experiment, output: Path) -> None:
    """Create the folder, or check that what it holds was made from the same images and settings."""
    mine = {
        "plan": asdict(experiment.plan),
        "settings": dict(experiment.settings),
        "checkpoints": {one.stem: replace(one, folder=experiment.checkpoints).sha256() for one in ALL_CHECKPOINTS},
    }
    path = output / _CONFIG
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != mine:
        raise UsageError(f"{output}: holds a benchmark of other images or settings; choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


def peak_memory() -> str:
    """Describe the largest resident size of any finished child process and of this one."""
    try:
        import resource
    except ImportError:  # not on Windows
        return "not measured"
    unit = 1 if sys.platform == "darwin" else 1024
    sizes = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return f"{max(sizes) * unit / 2**20:.0f} MiB in one process"


def _run_all(tasks: Sequence[Callable[[], None]], what: str, workers: int, output: Path) -> None:
    """Run tasks in processes of one thread each; what they print goes to OUTPUT/log.txt."""
    for _ in track(_finished(tasks, workers, output / _LOG), what, len(tasks)):
        pass


def _finished(tasks: Sequence[Callable[[], None]], workers: int, log: Path) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")  # a forked process inherits threads' locks
    with ProcessPoolExecutor(workers, context, _start_worker, (log,)) as pool:
        try:
            for done in as_completed([pool.submit(task) for task in tasks]):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            note(f"What was finished is kept; the details are in {log}", "yellow")
            raise


def _start_worker(log: Path) -> None:
    import torch

    torch.set_num_threads(1)
    sys.stderr = log.open("a", encoding="utf-8")
