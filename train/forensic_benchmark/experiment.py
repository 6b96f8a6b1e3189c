"""The benchmark from images to results: what is drawn, what is trained, in which order, on how many cores."""

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

from forensic_benchmark.attributors import Attributor, is_finished, run_attributor, write_soft_tiers
from forensic_benchmark.checkpoints import ALL_CHECKPOINTS, CHECKPOINTS
from forensic_benchmark.samples import FULL, QUICK, Cell, Plan, draw_cells, plan_cells, tier_rows
from forensic_cli.console import note, progress_bar
from forensic_cli.errors import UsageError
from forensic_train.paper import TECHNIQUES
from forensic_train.run import write_json

Setting: TypeAlias = tuple[str, str]
_STABLE: tuple[Setting, ...] = (("stable", "true"),)
_LOG = "log.txt"
_CONFIG = "benchmark.json"
_SECONDS = "seconds.txt"
_SECONDS_AN_IMAGE = 0.015


@dataclass(frozen=True)
class Trainings:
    """Which recipes and techniques are trained; the longest first, so that no core has to wait at the end."""

    plain: tuple[tuple[str, tuple[str, ...], tuple[Setting, ...]], ...] = (
        ("paper-32", TECHNIQUES, ()),
        ("paper-32", ("adversarial",), _STABLE),
        ("native-32", (*TECHNIQUES, "discriminant"), ()),
        ("residual-32", ("baseline", "finetune"), ()),
        ("native-32", ("adversarial",), _STABLE),
        ("augmented-32", ("baseline",), ()),
    )
    """On one checkpoint of each generator: recipe, techniques and settings."""
    two: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("paper-32", ("baseline",)),
        ("augmented-32", ("baseline",)),
        ("residual-32", ("baseline",)),
        ("native-32", ("baseline", "adversarial", "discriminant")),
    )
    """Also on two checkpoints of each generator."""
    controls: tuple[str, ...] = ("paper-32", "native-32", "residual-32")
    """Recipes whose baseline is also trained on shuffled labels, and on images low-passed to the softest."""


@dataclass(frozen=True)
class Experiment:
    """A version of the benchmark, full or quick."""

    plan: Plan = FULL
    """Numbers of images."""
    seeds: int = 3
    """Training runs of each kind, with different seeds."""
    trainings: Trainings = Trainings()
    """What is trained."""
    settings: tuple[Setting, ...] = ()
    """Overrides of the settings of every training."""
    checkpoints: Path = CHECKPOINTS
    """Folder of the miniature generators."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Number of processes, with one thread each."""
    seconds: float = 75.0
    """Time that one core needs to train and measure a technique, as a first guess (AMD EPYC)."""


QUICK_EXPERIMENT = Experiment(
    plan=QUICK,
    seeds=1,
    trainings=Trainings(
        plain=(
            ("paper-32", TECHNIQUES, ()),
            ("paper-32", ("adversarial",), _STABLE),
            ("native-32", ("baseline", "discriminant"), ()),
            ("augmented-32", ("baseline",), ()),
            ("residual-32", ("baseline",), ()),
        ),
        two=(("paper-32", ("baseline",)),),
        controls=("residual-32",),
    ),
    settings=(("epochs", "1"),),
    seconds=8.0,
)
"""Shows in a few minutes that everything works together; its figures mean nothing."""


def wanted_attributors(experiment: Experiment) -> list[Attributor]:
    """Return all training runs: the techniques of the paper, the controls, and the extensions."""
    trainings = experiment.trainings
    wanted = [
        Attributor(recipe, techniques, seed, settings=settings)
        for recipe, techniques, settings in trainings.plain
        for seed in range(experiment.seeds)
    ]
    for recipe, techniques in trainings.two:
        wanted += [Attributor(recipe, techniques, seed, "two") for seed in range(experiment.seeds)]
    for recipe in trainings.controls:
        wanted += [Attributor(recipe, ("baseline",), 0, data) for data in ("shuffled", "soft")]
    return [replace(run, settings=(*run.settings, *experiment.settings)) for run in wanted]


def run_experiment(experiment: Experiment, output: Path) -> float:
    """Draw all images and train all attributors that OUTPUT does not have; returns the total wall time in seconds.

    Raises UsageError if OUTPUT has another experiment, and TrainingError for damaged or missing checkpoints.
    """
    started = time.monotonic()
    _begin(experiment, output)
    images = output / "images"
    cells = plan_cells(experiment.plan, experiment.checkpoints)
    _run_all(_drawing(cells, images), "drawing images", experiment.workers, output)
    tiers = tier_rows(cells, images)
    wanted = wanted_attributors(experiment)
    write_soft_tiers(tiers, output)
    training = [
        _Task(run.label, experiment.seconds * len(run.techniques), partial(run_attributor, run, tiers, output))
        for run in wanted
        if not is_finished(run, output)
    ]
    _run_all(training, "training attributors", experiment.workers, output)
    clock = output / _SECONDS
    seconds = time.monotonic() - started + (float(clock.read_text()) if clock.exists() else 0.0)
    clock.write_text(f"{seconds:.0f}\n")
    return seconds


def _drawing(cells: Sequence[Cell], images: Path) -> list["_Task"]:
    """Return a task for each checkpoint that has images to draw, the longest first."""
    tasks = []
    for source in dict.fromkeys(cell.source for cell in cells):
        mine = [cell for cell in cells if cell.source == source and not cell.drawn(images)]
        seconds = _SECONDS_AN_IMAGE * sum(cell.count for cell in mine)
        if mine:
            tasks.append(
                _Task(
                    f"{source} ({sum(cell.count for cell in mine)} images)", seconds, partial(draw_cells, mine, images)
                )
            )
    return sorted(tasks, key=lambda task: -task.seconds)


def _begin(experiment: Experiment, output: Path) -> None:
    """Create the folder, or check that it was made from the same images and settings."""
    mine = {
        "plan": asdict(experiment.plan),
        "settings": dict(experiment.settings),
        "checkpoints": {
            known.stem: replace(known, folder=experiment.checkpoints).sha256() for known in ALL_CHECKPOINTS
        },
    }
    path = output / _CONFIG
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != mine:
        raise UsageError(f"{output}: contains a benchmark with other images or settings; choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    write_json(path, mine)


def peak_memory() -> str:
    """Describe the largest resident memory of this process and of all finished child processes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return "not measured"
    unit = 1 if sys.platform == "darwin" else 1024
    sizes = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return f"{max(sizes) * unit / 2**20:.0f} MiB in one process"


@dataclass(frozen=True)
class _Task:
    """A piece of work for one process."""

    name: str
    """Name to show."""
    seconds: float
    """Time that it takes, as a first guess, corrected by the pace of finished tasks."""
    run: Callable[[], None]


def _run_all(tasks: Sequence[_Task], what: str, workers: int, output: Path) -> None:
    """Run tasks in processes of one thread each, whose output goes to OUTPUT/log.txt.

    Shows the running tasks and the remaining time in a progress bar, or without a terminal in a line for each task.
    """
    log, started = output / _LOG, time.monotonic()
    context = multiprocessing.get_context("spawn")  # a forked process would inherit the locks of threads
    waiting, running, finished = list(tasks), dict[Future[None], tuple[_Task, float]](), list[tuple[_Task, float]]()
    pool = ProcessPoolExecutor(workers, context, _start_worker, (log,))
    with pool, progress_bar(guesses=False) as progress:
        bar = progress.add_task(what, total=len(tasks), info="")
        try:
            while waiting or running:
                while waiting and len(running) < workers:  # submit only what can run at once, to know what is running
                    task = waiting.pop(0)
                    running[pool.submit(task.run)] = task, time.monotonic()
                left = _time_left(waiting, running.values(), finished, workers)
                now = ", ".join(task.name for task, _ in running.values())
                progress.update(bar, completed=len(finished), info=f"{left}; now {now}")
                for future in wait(running, timeout=1, return_when=FIRST_COMPLETED).done:
                    task, begun = running.pop(future)
                    future.result()
                    finished.append((task, time.monotonic() - begun))
                    if progress.disable:
                        left = _time_left(waiting, running.values(), finished, workers)
                        note(f"{what}: {len(finished)} of {len(tasks)}, {task.name}; {left}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            note(f"Finished parts are kept; see {log} for details", "yellow")
            raise
    note(f"{what}: done after {_minutes(time.monotonic() - started)}")


def _time_left(
    waiting: Sequence[_Task],
    running: Iterable[tuple[_Task, float]],
    finished: Sequence[tuple[_Task, float]],
    workers: int,
) -> str:
    """Return the remaining time in words: the guesses, corrected by how far off they were for finished tasks."""
    guessed = sum(task.seconds for task, _ in finished)
    pace = sum(seconds for _, seconds in finished) / guessed if guessed else 1.0
    now = time.monotonic()
    # a task that takes longer than guessed is assumed to be nearly finished
    rests = [max(0.0, pace * task.seconds - (now - begun)) for task, begun in running]
    work = pace * sum(task.seconds for task in waiting) + sum(rests)
    return f"about {_minutes(max(work / workers, *rests, 0.0))} left"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _start_worker(log: Path) -> None:
    import torch

    torch.set_num_threads(1)
    sys.stderr = log.open("a", encoding="utf-8")
