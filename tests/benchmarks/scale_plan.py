"""What a scan of up to a billion images costs, and what limits it: a closed-form model and a simulation of a cluster.

usage: PYTHONPATH=. python tests/benchmarks/scale_plan.py [--figures FILE] [--seed N] [--write]

Prints the tables of train/docs/scale.md, or renews them with `--write`. They follow from the figures and assumptions
in tests/benchmarks/scale.json.

Times are seconds, rates images a second. The driver, one thread, lists files, hands out parts of the list, and marks
copies in the order of the parts; each worker, one core, judges a part at a time; writers write what is marked.
"""

import argparse
import heapq
import json
import math
import re
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import simpy

from forensic_cli.tables import Table

FIGURES = Path(__file__).with_name("scale.json")
PAGE = Path(__file__).parents[2] / "train" / "docs" / "scale.md"
RECIPES = {"native": "`native`", "resnet50_int8": "ResNet-50, int8"}
"""{name in the figures: name in the tables}."""
RESOURCES = ("worker", "network", "driver", "writer", "listing")
IMAGES = tuple(10**power for power in range(4, 10))
WORKERS = (8, 32, 128, 512, 2048)
DAY = 86_400
BUSY = 0.95
"""Share of the time from which on a resource counts as a bottleneck."""
TIMES = {"days": DAY, "h": 3600, "min": 60, "s": 1}
SIZES = {"TB": 1e12, "GB": 1e9, "MB": 1e6}
WARM_UP, LEAST_ROUNDS, LEAST_PARTS = 4, 12, 1500
"""Rounds, the mean time of a part, that a simulation skips; rounds and parts that it counts at least."""
_PLACE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

Figures: TypeAlias = dict[str, float]
"""{name in scale.json: value}, measured and assumed."""
Process: TypeAlias = Generator[simpy.Event, Any, None]


def read_record(path: Path = FIGURES) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the `measured` figures and the `assumptions` of a file, each {name: {value, unit, from}}."""
    record = json.loads(path.read_text(encoding="utf-8"))
    assumptions, _ = record.pop("assumptions"), record.pop("machine")
    return {"measured": record, "assumptions": assumptions}


def read_figures(path: Path = FIGURES) -> dict[str, float]:
    """Return the values of all figures and assumptions of a file."""
    return {name: float(e["value"]) for entries in read_record(path).values() for name, e in entries.items()}


# The closed-form model


def part_seconds(f: Figures, recipe: str, workers: int = 0) -> dict[str, float]:
    """Return {resource: seconds for which one part keeps it busy} in a scan with so many workers.

    `worker` is without failures. `network` is the busier of two links: images leave the store, rows reach the driver's
    machine. `driver` is handing out, taking in and marking, `listing` what its thread needs to find the files.
    """
    n, threads = f["part_size"], f["reads_at_once"]
    compute = f[f"{recipe}_prepare_seconds"] + f[f"{recipe}_judge_seconds"]
    stream = min(f["store_stream_bytes_per_second"], f["node_bytes_per_second"] / f["cores_per_node"])
    read = f["store_latency_seconds"] + f["image_bytes"] / stream
    return {
        # Threads wait for files at the same time, and take turns on the one core
        "worker": n * max(compute, (read + compute) / threads),
        "network": n
        * max(f["image_bytes"] / f["store_bytes_per_second"], f["jsonl_row_bytes"] / f["node_bytes_per_second"]),
        "driver": f["driver_seconds_per_part"] + workers * f["driver_seconds_per_part_and_worker"],
        "writer": n * f["writer_seconds_per_row"],
        "listing": n * f["listing_seconds_per_file"],
    }


@dataclass(frozen=True)
class Failures:
    """What failures add to an average part. The part of a worker that dies starts again from its beginning."""

    chance: float
    """Expected failures, of the worker or of its node, while one part is judged."""
    hostile: float
    """Probability that a file in the part kills every worker that reads it."""
    deaths: float
    """Workers that such a file kills: two with the whole part, then one for each halving."""
    wasted: float = 1.5
    """Parts judged in vain until it is alone: 1/2 + 1/2 with the whole part, then 1/4 + 1/8 + ..."""

    @classmethod
    def of(cls, f: Figures, recipe: str) -> "Failures":
        """Return the failures of a recipe's parts."""
        by_node = part_seconds(f, recipe)["worker"] / (3600 * f["node_hours_between_failures"])
        by_worker = f["part_size"] * f["worker_failures_per_million_images"] / 1e6
        return cls(by_node + by_worker, f["part_size"] * f["hostile_share"], 2 + math.log2(f["part_size"]))

    @property
    def workers_lost(self) -> float:
        """Workers lost per part; by chance e^c - 1, because a part is tried until it survives."""
        return math.expm1(self.chance) + self.hostile * self.deaths

    @property
    def again(self) -> float:
        """Parts judged in vain per part; by chance (e^c - 1) / c - 1, half a part for each of few failures."""
        by_chance = math.expm1(self.chance) / self.chance - 1 if self.chance else 0.0
        return by_chance + self.hostile * self.wasted


def worker_seconds(f: Figures, recipe: str) -> float:
    """Return the time of a worker per part, failures and restarts included."""
    failures = Failures.of(f, recipe)
    restarts = failures.workers_lost * f["worker_start_seconds"]
    return part_seconds(f, recipe)["worker"] * (1 + failures.again) + restarts


def capacities(f: Figures, recipe: str, workers: int) -> dict[str, float]:
    """Return {resource: images a second that it can serve}; `driver` is its whole thread, listing included."""
    load = part_seconds(f, recipe, workers)
    seconds = {
        "worker": worker_seconds(f, recipe) / workers,
        "network": load["network"] * (1 + Failures.of(f, recipe).again),
        "driver": load["driver"] + load["listing"],
        "writer": load["writer"] / f["writers_at_once"],
    }
    return {name: f["part_size"] / each for name, each in seconds.items()}


def shared_rate(f: Figures, recipe: str, workers: int) -> float:
    """Return how many images a second pass through what the workers share."""
    return min(rate for name, rate in capacities(f, recipe, workers).items() if name != "worker")


def reached(f: Figures, recipe: str, resource: str) -> tuple[int, float]:
    """Return the number of workers from which a shared resource serves fewer images than they judge, and its rate."""
    for workers in count(1):
        rates = capacities(f, recipe, workers)
        if rates[resource] < rates["worker"]:
            return workers, rates[resource]
    raise AssertionError


def elapsed(f: Figures, recipe: str, images: int, workers: int) -> float:
    """Return the seconds of a whole scan: whole rounds of the workers, or what the slowest shared resource needs."""
    rounds = math.ceil(math.ceil(images / f["part_size"]) / workers) * worker_seconds(f, recipe)
    return f["worker_start_seconds"] + max(rounds, images / shared_rate(f, recipe, workers))


# The simulation


class Piece(NamedTuple):
    """A part of the list, or what is left of one that was halved; lower ones are handed out first."""

    rank: int
    """0 once a worker died that had it, else 1."""
    part: int
    """Place in the list."""
    files: int
    """Number of them."""
    hostile: bool
    """Whether one of the files kills every worker."""
    deaths: int = 0
    """Workers that died of it."""


class Simulation:
    """A scan of endlessly many parts, of which a window in steady state is counted.

    The time of a part has a gamma distribution with the measured mean and spread: it is a sum of many positive, skewed
    times. Failures by chance have no memory, so the time to the next one is exponential; a hostile file is anywhere in
    its part. All other times are constant.
    """

    def __init__(self, f: Figures, recipe: str, workers: int, seed: int = 0) -> None:
        self._f, self._workers, self._rng = f, workers, np.random.default_rng([seed, workers])
        self._load, self._failures = part_seconds(f, recipe, workers), Failures.of(f, recipe)
        self._shape, one_round = f[f"{recipe}_part_cv"] ** -2, worker_seconds(f, recipe)
        self._size, writers = int(f["part_size"]), int(f["writers_at_once"])
        self._env = env = simpy.Environment()
        self._waiting = simpy.PriorityStore(env)
        self._room = simpy.Container(env, init=f["parts_open_per_worker"] * workers + writers)
        self._judged: dict[int, simpy.Event] = defaultdict(env.event)
        self._unjudged: dict[int, int] = defaultdict(lambda: self._size)
        self._free_at = {"network": [0.0], "thread": [0.0], "writer": [0.0] * writers}
        self._busy, self._files = dict.fromkeys((*RESOURCES, "lost"), 0.0), 0
        # Until the slowest resource is where a queue has formed, workers are faster than they can remain
        slowest = max(self._load[name] / (writers if name == "writer" else 1) for name in RESOURCES[1:])
        self._begin = WARM_UP * one_round + self._room.level * slowest
        self._window = one_round * max(LEAST_ROUNDS, LEAST_PARTS / workers)
        for process in (self._list(), self._mark(), *(self._work(one_round) for _ in range(workers))):
            env.process(process)

    def run(self) -> dict[str, float]:
        """Return images a second (`rate`), the share of the workers' time that is `lost`, and each resource's use."""
        self._env.run(until=self._begin + self._window)
        servers = {"worker": self._workers, "lost": self._workers, "writer": len(self._free_at["writer"])}
        use = {name: seconds / self._window / servers.get(name, 1) for name, seconds in self._busy.items()}
        return {"rate": self._files / self._window, **use}

    def _use(self, seconds: float, *names: str) -> simpy.Event:
        """Return the end of a time in which a worker is busy."""
        return self._until(self._env.now + seconds, seconds, *names)

    def _serve(self, queue: str, resource: str, share: float = 1.0) -> simpy.Event:
        """Return the end of a service by the first server that is free, in the order of arrival."""
        seconds = self._load[resource] * share
        end = max(self._env.now, heapq.heappop(self._free_at[queue])) + seconds
        heapq.heappush(self._free_at[queue], end)
        return self._until(end, seconds, resource)

    def _until(self, end: float, seconds: float, *names: str) -> simpy.Event:
        for name in names:
            self._busy[name] += seconds * (self._begin < end <= self._begin + self._window)
        return self._env.timeout(end - self._env.now)

    def _list(self) -> Process:
        for part in count():
            yield self._room.get(1)
            yield self._serve("thread", "listing")
            self._waiting.put(Piece(1, part, self._size, bool(self._rng.random() < self._failures.hostile)))

    def _work(self, latest: float) -> Process:
        yield self._env.timeout(self._rng.uniform(0, latest))  # else all workers would finish in step
        following = self._waiting.get()
        while True:
            piece = yield following
            following = self._waiting.get()  # waits here while this one is judged
            share = piece.files / self._size
            yield self._serve("network", "network", share)
            seconds = share * self._rng.gamma(self._shape, self._load["worker"] / self._shape)
            survived = self._survives(seconds, piece.hostile)
            if survived >= seconds:
                yield self._use(seconds, "worker")
                self._finish(piece)
                continue
            yield self._use(survived, "worker", "lost")
            if following.triggered and following.value:
                self._waiting.put(following.value._replace(rank=0))
            else:
                following.cancel()
            self._blame(piece)
            yield self._use(self._f["worker_start_seconds"], "worker", "lost")
            following = self._waiting.get()

    def _survives(self, seconds: float, hostile: bool) -> float:
        """Return for how long the worker would live on."""
        chance = self._failures.chance
        by_chance = self._rng.exponential(self._load["worker"] / chance) if chance else math.inf
        return min(by_chance, self._rng.uniform(0, seconds) if hostile else math.inf)

    def _blame(self, piece: Piece) -> None:
        """Put a piece back, in halves if it was the second time; a single file is given up."""
        if piece.deaths == 0:
            self._waiting.put(piece._replace(rank=0, deaths=1))
        elif piece.files == 1:
            self._finish(piece)
        else:
            half = piece.files // 2
            self._waiting.put(piece._replace(rank=0, files=half))
            self._waiting.put(piece._replace(rank=0, files=piece.files - half, hostile=False))

    def _finish(self, piece: Piece) -> None:
        self._files += piece.files * (self._env.now > self._begin)
        self._unjudged[piece.part] -= piece.files
        if not self._unjudged[piece.part]:
            del self._unjudged[piece.part]
            self._judged[piece.part].succeed()

    def _mark(self) -> Process:
        for part in count():
            yield self._judged[part]
            del self._judged[part]
            yield self._serve("thread", "driver")
            self._env.process(self._write())

    def _write(self) -> Process:
        yield self._serve("writer", "writer")
        yield self._room.put(1)


def bottleneck(use: Mapping[str, float]) -> str:
    """Return the resource of a simulation that was used most; the driver's one thread by what takes most of it.

    `order` if nothing was busy: then workers waited for the oldest part.
    """
    thread = max("driver", "listing", key=lambda name: use[name])
    rivals = {name: use[name] for name in ("worker", "network", "writer")}
    rivals |= {thread: use["driver"] + use["listing"], "order": BUSY}
    return max(rivals, key=lambda name: rivals[name])


# The tables


def tables(path: Path = FIGURES, seed: int = 0) -> dict[str, Table]:
    """Return every table of the page by the name of its place."""
    f = read_figures(path)
    return {
        "workers": workers_table(f),
        **{recipe: plan_table(f, recipe) for recipe in RECIPES},
        "storage": storage_table(f),
        "limits": limits_table(f),
        "simulation": simulation_table(f, seed),
        "failures": failures_table(f, seed),
        **{kind: figures_table(kind, entries) for kind, entries in read_record(path).items()},
    }


def workers_table(f: Figures) -> Table:
    """Return what one worker does, and what it costs."""
    core, gpu = f["price_per_core_hour"], f["price_per_gpu_hour"]
    workers: list[tuple[str, float, float, float, float]] = []
    for recipe, title in (RECIPES | {"resnet50_fp32": "ResNet-50, fp32"}).items():
        prepare, judge = (f[f"{recipe}_{step}_seconds"] for step in ("prepare", "judge"))
        workers.append((f"{title}, one core", prepare, judge, capacities(f, recipe, 1)["worker"], core))
    prepare, judge = f["resnet50_fp32_prepare_seconds"] / f["cores_beside_gpu"], f["gpu_judge_seconds"]
    workers.append(("ResNet-50, one GPU (assumed)", prepare, judge, 1 / max(prepare, judge), gpu))
    columns = ("worker", "prepare, ms", "judge, ms", "images/s", "dollars for a million images")
    rows = [[name, *map(rough, (a * 1e3, b * 1e3, rate, 1e6 / rate / 3600 * p))] for name, a, b, rate, p in workers]
    return Table("Workers", columns, rows)


def plan_table(f: Figures, recipe: str) -> Table:
    """Return time, machines, failures and price by the number of images."""
    rows, failures, per_day = [], Failures.of(f, recipe), DAY - f["worker_start_seconds"]
    for images in IMAGES:
        parts = images / f["part_size"]
        hours = parts * worker_seconds(f, recipe) / 3600
        workers = math.ceil(hours * 3600 / per_day)
        for_a_day = [workers / f["cores_per_node"], images / shared_rate(f, recipe, workers) / per_day]
        times = [in_unit(elapsed(f, recipe, images, number), TIMES) for number in WORKERS[::2]]
        sums = (parts * failures.workers_lost, images * failures.again, hours * f["price_per_core_hour"])
        rows.append([f"{images:,}", rough(hours), *times, *map(math.ceil, for_a_day), *map(rough, sums)])
    columns = (
        *("images", "core hours", *(f"with {number:,} workers" for number in WORKERS[::2])),
        *("machines for one day", "scans side by side", "workers lost", "images judged again", "dollars"),
    )
    return Table(RECIPES[recipe], columns, rows)


def storage_table(f: Figures) -> Table:
    """Return what is read and what is kept by the number of images."""
    rows = []
    for images in IMAGES:
        sizes = [images * f[name] for name in ("image_bytes", "jsonl_row_bytes", "parquet_row_bytes")]
        prices = [f"{size / 1e12 * f['price_per_terabyte_month']:.2f}" for size in sizes[1:]]
        parts = math.ceil(images / f["part_size"])
        rows.append([f"{images:,}", f"{parts:,}", *(in_unit(size, SIZES) for size in sizes), *prices])
    columns = (
        "images",
        "parts",
        "read",
        "JSON Lines",
        "Parquet",
        "dollars a month, JSON Lines",
        "dollars a month, Parquet",
    )
    return Table("Storage", columns, rows)


def limits_table(f: Figures) -> Table:
    """Return what the workers share, and from how many workers on it limits the scan; the first limit first."""
    ways = {
        "driver, listing a store (assumed)": "store_listing_seconds_per_file",
        "driver, listing a local disk": "listing_seconds_per_file",
        "driver, reading a list of paths": "list_seconds_per_file",
    }
    cases = {name: ("driver", f | {"listing_seconds_per_file": f[figure]}) for name, figure in ways.items()}
    cases |= {name: (name, f) for name in ("network", "writer")}
    rows = []
    for name, (resource, case) in cases.items():
        limits = [reached(case, recipe, resource) for recipe in RECIPES]
        rows.append((limits[0], [name, *(cell for n, rate in limits for cell in (f"{n:,}", rough(rate)))]))
    columns = [text for title in RECIPES.values() for text in (f"{title}: from workers", "images/s")]
    return Table("Limits", ("limit", *columns), [cells for _, cells in sorted(rows)])


def simulation_table(f: Figures, seed: int) -> Table:
    """Return what the simulation gives by the number of workers."""
    rows = []
    for workers in WORKERS:
        result = Simulation(f, "native", workers, seed).run()
        shares = [f"{result[name]:.0%}" for name in RESOURCES]
        rows.append([f"{workers:,}", rough(result["rate"]), _of_ideal(f, workers, result), *shares, bottleneck(result)])
    columns = ("workers", "images/s", "of the ideal", *RESOURCES, "first bottleneck")
    return Table("Simulation", columns, rows, left=(len(columns) - 1,))


def failures_table(f: Figures, seed: int) -> Table:
    """Return what failures cost where nothing that the workers share limits."""
    failing = f | dict.fromkeys(("store_bytes_per_second", "node_bytes_per_second"), math.inf)
    failing |= {name: 0.0 for name in f if name.startswith(("driver_", "writer_", "listing_"))}
    rates = {"worker_failures_per_million_images": 0.0, "hostile_share": 0.0, "node_hours_between_failures": math.inf}
    fewer_open = {"parts_open_per_worker": f["parts_open_per_worker"] / 2}
    rows = []
    for workers in WORKERS[1:4]:
        cases = (failing | rates, failing, failing | fewer_open)
        results = [Simulation(case, "native", workers, seed).run() for case in cases]
        rows.append([f"{workers:,}", f"{results[1]['lost']:.1%}", *(_of_ideal(f, workers, each) for each in results)])
    columns = ("workers", "work in vain", "without failures", "with failures", "with half as many parts open")
    return Table("Failures", columns, rows)


def _of_ideal(f: Figures, workers: int, result: Mapping[str, float]) -> str:
    return f"{result['rate'] / (workers * f['part_size'] / part_seconds(f, 'native')['worker']):.0%}"


def figures_table(title: str, entries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return figures with their units and where they come from; a `placeholder` was not measured yet."""
    rows = []
    for name, e in entries.items():
        source = e["from"] + (" (**placeholder**, not measured yet)" if e.get("placeholder") else "")
        rows.append([f"`{name}`", f"{Decimal(str(e['value'])):,f}", e["unit"], source])
    return Table(title, ("figure", "value", "unit", "from"), rows, left=(0, 2, 3))


def rough(value: float) -> str:
    """Return a number with two digits that count."""
    rounded = Decimal(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:f}"


def in_unit(value: float, units: Mapping[str, float]) -> str:
    """Return a value in the largest unit that it has at least 1.5 of; the units come from large to small."""
    name = next((name for name, size in units.items() if value >= 1.5 * size), list(units)[-1])
    return f"{rough(value / units[name])} {name}"


def updated(page: str, made: Mapping[str, Table]) -> str:
    """Return the text of the page with these tables in their places."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{made[place[2]].markdown()}\n\n{place[3]}", page)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    made = tables(options.figures, options.seed)
    if options.write:
        PAGE.write_text(updated(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    else:
        print("\n\n".join(table.markdown(2) for table in made.values()))


if __name__ == "__main__":
    main()
