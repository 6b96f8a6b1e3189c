"""Workers on a Ray cluster: each holds the models and judges lists of files, and a worker that dies loses nothing.

A list whose worker dies is judged again; if that kills the next worker too, it is halved until the one file is left
that does it, which then gets a row that says so.
"""

import hashlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from forensic_cli import __version__
from forensic_cli.console import note
from forensic_cli.errors import GenforensicError, UsageError, require
from forensic_cli.exports import Export
from forensic_cli.images.header import Unreadable
from forensic_cli.judge import make_row
from forensic_cli.model import Model, load_models
from forensic_cli.objects import Location, ObjectUrl, in_one_line
from forensic_cli.parts import Key, RowStub, key_of
from forensic_cli.pipeline import Prepared, read_file
from forensic_cli.record import FileResult
from forensic_cli.resume import holds
from forensic_cli.scan import ScanSettings, installed, judge_files, versions

_CONNECT_SECONDS = 5.0
"""Within which the head of a cluster answers."""
_START_SECONDS = 300.0
"""Within which some worker must start while none runs."""
_QUEUE = 2
"""Lists that a worker has at once: the next one waits there already when one is done."""
_DEATHS_IN_A_ROW = 40
"""Workers that may die without any of them finishing something; one bad file among a million takes 20."""
_OBJECT_STORE_BYTES = 1 << 30
"""Of memory for rows that wait to be written, in a cluster on this machine."""
_REMOTE_THREADS = 4
"""Files of an object store that a worker reads at once, because each one takes a while to arrive."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to judge as the driver would."""

    exports: Sequence[Export]
    """The techniques, in order."""
    contents: Mapping[Path, bytes]
    """The export files."""
    settings: ScanSettings
    """How to judge."""
    device: str
    """auto, cpu or cuda."""
    versions: Mapping[str, str]
    """What the driver runs on; see running_versions()."""
    threads: int = 1
    """Threads within each run of a model."""
    folder: Path | None = None
    """Where relative paths start; None if there are none."""
    sources: Sequence[Location] = ()
    """What a worker must be able to see."""


@dataclass(eq=False)
class Task:
    """Files that one worker judges, or whose earlier rows it checks."""

    files: tuple[Location, ...]
    """In the scan's order."""
    earlier: Sequence[RowStub] | None = None
    """Rows of an earlier scan to compare with the files, instead of judging them."""
    rows: Any = None
    """A reference to the rows in Ray's object store, or the rows themselves."""
    keys: Sequence[Key] | None = None
    """Of the rows; None until judged."""
    still_hold: bool | None = None
    """Whether the earlier rows are still true; None until compared."""
    deaths: int = 0
    """Workers that died on it."""
    halves: tuple["Task", ...] = ()
    """What it was divided into."""

    @property
    def is_done(self) -> bool:
        """Whether all files are judged, or compared."""
        if self.halves:
            return all(half.is_done for half in self.halves)
        return self.keys is not None or self.still_hold is not None

    def pieces(self) -> list["Task"]:
        """Return what was judged as a whole, in order."""
        return list(chain.from_iterable(half.pieces() for half in self.halves)) if self.halves else [self]


class JudgingWorker:
    """The code of a Ray actor."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Start the sessions. What is wrong is kept for about(): an exception here would hide its own message."""
        self._spec, self._models = spec, list[Model]()
        self._problem = _unlike(spec.versions) or _cannot_see(spec)
        try:
            if not self._problem:
                self._models = load_models(spec.exports, spec.device, spec.threads, spec.contents)
        except GenforensicError as error:
            self._problem = str(error)

    def about(self) -> tuple[tuple[str, ...], str | None]:
        """Return the models' providers, and what keeps the worker from judging, if anything does."""
        where = f"a worker on {socket.gethostname()}"
        return tuple(model.provider for model in self._models), self._problem and f"{where}: {self._problem}"

    def judge(self, files: Sequence[Location]) -> tuple[list[FileResult], list[Key]]:
        """Return the rows of files, without marks of copies, and their keys."""
        threads = _REMOTE_THREADS if isinstance(files[0], ObjectUrl) else 1
        rows = list(judge_files(files, self._models, replace(self._spec.settings, workers=threads)))
        return rows, [key_of(row) for row in rows]

    def compare(self, files: Sequence[Location], earlier: Sequence[RowStub]) -> bool:
        """Tell whether all files are still what the rows of an earlier scan were made of."""
        return all(holds(row, file) for row, file in zip(earlier, files, strict=True))


def running_versions() -> dict[str, str]:
    """Return what rows depend on besides the models: the versions of this tool and of its libraries."""
    import onnxruntime

    own = {"genforensic": __version__, "onnxruntime": onnxruntime.__version__}
    extras = {name: installed(name) for name in ("pyarrow", "imagehash")}
    return own | extras | {name: text for name, text in versions().items() if name not in ("python", "platform")}


def _unlike(wanted: Mapping[str, str]) -> str | None:
    here = running_versions()
    other = [
        f"{name} {here.get(name)} (this scan: {wanted[name]})" for name in wanted if here.get(name) != wanted[name]
    ]
    return f"has {', '.join(other)}; install the same versions on every machine" if other else None


def _cannot_see(spec: WorkerSpec) -> str | None:
    """Enter the folder where relative paths start; returns what cannot be seen from here."""
    try:
        if spec.folder is not None:
            os.chdir(spec.folder)
        for source in spec.sources:
            if isinstance(source, ObjectUrl):
                source.size()
            else:
                source.lstat()
    except OSError as error:
        return f"does not see the images ({in_one_line(error)}); mount them there under the same path"
    return None


def fetch(ray: Any, reference: Any) -> Any:
    """Return a result. Raises the GenforensicError that a task ended with, and Ray's own errors as they are."""
    errors = ray.exceptions
    try:
        return ray.get(reference)
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, GenforensicError | errors.RayError):
            raise cause from None
        raise UsageError(f"a worker failed ({type(cause).__name__}: {in_one_line(cause)})") from error


@contextmanager
def connected(address: str | None, cpus: int) -> Iterator[Any]:
    """Join a Ray cluster, or start one on this machine with `cpus` workers' places; yields the module `ray`.

    Raises UsageError if Ray is not installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a case leaves the machine
    # Ray copies its daemons' messages to standard output; this skips every line, and they are in its logs as well
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    require(("ray",), "ray", "--engine ray")
    import ray

    option = "--address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        _check_answers(option, address)
    if ray.is_initialized():  # by a program that calls this one
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL"}
    own: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(address=address or "local", **({} if address else own), **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"{option} {address}: no Ray cluster can be joined there" if address else "Ray cannot start here"
        raise UsageError(f"{where} ({in_one_line(error)})") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(option: str, address: str) -> None:
    """Raise UsageError at once for an address at which nothing answers: Ray itself tries for a minute."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal():
        raise UsageError(f"{option} {address!r} is not understood; give HOST:PORT of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise UsageError(
            f"{option} {address}: nothing answers there ({error}); start a head with `ray start --head`"
        ) from error


@dataclass(eq=False)
class _Worker:
    """A handle of an actor."""

    actor: Any
    starting: Any
    """Reference to what about() returns; None once it is known."""
    queue: deque[tuple[Task, Any]] = field(default_factory=deque)
    """Tasks it was given, the one it works on first, each with the reference to its small result."""


class Pool:
    """Hands tasks to workers, in order, and replaces workers that die."""

    def __init__(self, ray: Any, spec: WorkerSpec, size: int, on_gpus: bool) -> None:
        """Start `size` workers with a core each, or with a GPU each."""
        self._ray, self._spec = ray, ray.put(spec)
        options = {"num_cpus": int(not on_gpus), "num_gpus": int(on_gpus), "max_restarts": 0}
        self._make = ray.remote(JudgingWorker).options(**options).remote
        self._waiting: deque[Task] = deque()
        self._deaths = 0
        self.providers: tuple[str, ...] | None = None
        self.workers = [self._start() for _ in range(size)]

    def wait(self) -> None:
        """Return when some worker can judge. Raises UsageError if none starts, or it cannot judge."""
        while self.providers is None:
            self.settle(self.wait_for(()))

    def wait_for(self, others: Sequence[Any]) -> list[Any]:
        """Return references that are ready, of the workers or `others`. Raises UsageError if no worker starts."""
        starting = all(worker.starting is not None for worker in self.workers)
        seconds = _START_SECONDS if starting and not others else None
        ready, _ = self._ray.wait([*self.references(), *others], timeout=seconds)
        if not ready:
            raise UsageError(
                f"no worker has started within {seconds:.0f} seconds: the cluster has {self._free()}; "
                "add machines, or wait until others have finished"
            )
        return list(ready)

    def close(self) -> None:
        """Stop all workers."""
        for worker in self.workers:
            self._ray.kill(worker.actor)

    def submit(self, task: Task, first: bool = False) -> None:
        """Have a task done; `first`: before those that wait."""
        (self._waiting.appendleft if first else self._waiting.append)(task)
        self._hand_out()

    def references(self) -> list[Any]:
        """Return what to wait for."""
        starting = [worker.starting for worker in self.workers if worker.starting is not None]
        return starting + [worker.queue[0][1] for worker in self.workers if worker.queue]

    def settle(self, ready: Sequence[Any]) -> None:
        """Take in the results that are ready. Raises GenforensicError for what no other worker could do better."""
        done = set(ready)
        errors = self._ray.exceptions
        for worker in list(self.workers):
            try:
                if worker.starting in done:
                    self._welcome(worker)
                while worker.queue and worker.queue[0][1] in done:
                    task, reference = worker.queue[0]
                    self._take(task, reference)
                    worker.queue.popleft()
                    done |= set(self._ray.wait([worker.queue[0][1]], timeout=0)[0]) if worker.queue else set()
            except (errors.RayActorError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
                if worker.starting is not None and getattr(error, "actor_init_failed", False):
                    raise UsageError(
                        f"a worker cannot start ({str(error).strip().splitlines()[-1][:200]}); "
                        "install the same genforensic on every machine"
                    ) from error
                self._replace(worker)
        self._hand_out()

    def _take(self, task: Task, reference: Any) -> None:
        try:
            result = fetch(self._ray, reference)
        except self._ray.exceptions.ObjectLostError:  # the machine that held it is gone
            self._waiting.appendleft(task)
            return
        if task.earlier is None:
            task.keys = result
        else:
            task.still_hold = result
        self._deaths = 0

    def _start(self) -> _Worker:
        actor = self._make(self._spec)
        return _Worker(actor, actor.about.remote())

    def _welcome(self, worker: _Worker) -> None:
        providers, problem = fetch(self._ray, worker.starting)
        if problem:
            raise UsageError(problem)
        if self.providers not in (None, providers):
            raise UsageError(
                f"some workers run on {self.providers[0]} and others on {providers[0]}; "
                "their results differ in the sixth digit, so choose one with --device"
            )
        self.providers, worker.starting = providers, None

    def _replace(self, dead: _Worker) -> None:
        """Start another worker, and put the tasks of a dead one back, the one that it worked on as a suspect."""
        self._deaths += 1
        if self._deaths > _DEATHS_IN_A_ROW:
            raise UsageError(
                f"{self._deaths} workers died one after another; perhaps the machines have too little memory: "
                "use fewer --workers, and see the logs in Ray's session folder"
            )
        self.workers[self.workers.index(dead)] = self._start()
        if dead.queue:
            note("A worker died; its files are judged again", "yellow")
        for place, (task, _) in reversed(list(enumerate(dead.queue))):
            if place == 0:
                self._suspect(task)
            else:
                self._waiting.appendleft(task)

    def _suspect(self, task: Task) -> None:
        task.deaths += 1
        if task.deaths < 2:
            self._waiting.appendleft(task)
        elif task.earlier is not None:
            task.still_hold = False
        elif len(task.files) == 1:
            row = _row_of_killer(task.files[0])
            task.rows, task.keys, self._deaths = [row], [key_of(row)], 0
        else:
            middle = len(task.files) // 2
            # A half has one death on its account, as the file is in one of them; a single file must kill twice itself
            halves = (task.files[:middle], task.files[middle:])
            task.halves = tuple(Task(files, deaths=min(1, len(files) - 1)) for files in halves)
            self._waiting.extendleft(reversed(task.halves))

    def _hand_out(self) -> None:
        """Give waiting tasks to the workers with the fewest."""
        able = [worker for worker in self.workers if worker.starting is None and len(worker.queue) < _QUEUE]
        while self._waiting and able:
            worker = min(able, key=lambda worker: len(worker.queue))
            task = self._waiting.popleft()
            if task.earlier is None:
                judge = worker.actor.judge.options(num_returns=2)
                task.rows, reference = judge.remote(task.files)
            else:
                reference = worker.actor.compare.remote(task.files, task.earlier)
            worker.queue.append((task, reference))
            able = [worker for worker in able if len(worker.queue) < _QUEUE]

    def _free(self) -> str:
        resources = self._ray.available_resources()
        return f"{resources.get('CPU', 0):.0f} free cores and {resources.get('GPU', 0):.0f} free GPUs"


def _row_of_killer(file: Location) -> FileResult:
    reason = "the process that judged the file died, twice; the file may be made to crash decoders"
    failure, data = Unreadable("unreadable", reason), read_file(file)
    if isinstance(data, Unreadable):
        return make_row(Prepared(file, failure=failure))
    return make_row(Prepared(file, hashlib.sha256(data).hexdigest(), len(data), failure=failure))
