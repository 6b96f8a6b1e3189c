"""A scan on a Ray cluster: parts of the list of files -> judged by workers -> marked in order -> written to files.

The driver lists files, hands out parts, and marks copies in the order of the files. Rows never pass through it: they
wait in Ray's object store until a task on the driver's machine writes them.

Ray, because an actor keeps its session, and a lost one is a call that fails: Dask's actors are not restarted and its
scheduler keeps every key; Spark starts Python beside a JVM and repeats whole stages; Beam needs a runner of its own.
Not Ray Data, which retries a block as a whole and so cannot find the one file that kills its worker.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from forensic_cli.console import note, progress_bar
from forensic_cli.discover import LISTED, Search, Source
from forensic_cli.errors import OutputError, UsageError
from forensic_cli.exports import Export
from forensic_cli.judge import Judge, Marks, Seen, marked
from forensic_cli.model import load_models
from forensic_cli.objects import Location
from forensic_cli.parts import (
    FORMATS,
    EarlierPart,
    ManifestWriter,
    part_name,
    read_earlier,
    remove_parts,
    start_folder,
    write_part,
)
from forensic_cli.pipeline import batches, default_workers
from forensic_cli.ray_workers import Pool, Task, WorkerSpec, connected, running_versions
from forensic_cli.record import FileResult, RunHeader, Summary, printable
from forensic_cli.results_file import Part, open_results
from forensic_cli.scan import ScanSettings, Target, count_images, find_images, nothing_found, run_header

PART_SIZE = 1024
"""Files in a part: ten to twenty seconds of a core, so that workers finish at about the same time."""
_WRITERS = 4
"""Parts that are written at once."""
_AHEAD = 4
"""Parts under way for each worker: two that it has and two that wait, so that a part which is judged again, while all
those after it wait to be marked, leaves no worker idle."""


@dataclass(frozen=True)
class Cluster:
    """Where to judge, and how large the pieces are."""

    address: str | None = None
    """HOST:PORT of the cluster's head; None: RAY_ADDRESS, else a cluster on this machine that ends with the scan."""
    device: str = "auto"
    """auto, cpu or cuda."""
    part_size: int = PART_SIZE
    """Files in a part."""


@dataclass(eq=False)
class _OpenPart:
    """A part that is not written yet."""

    number: int
    files: tuple[Location, ...]
    task: Task
    earlier: EarlierPart | None
    """What an earlier scan left; None without, or when it turned out not to hold."""
    marks: Sequence[Marks] | None = None
    """Of its rows; None until all parts before it are marked."""
    writing: Any = None
    """Reference to the result of its writer."""
    written: Part | None = None
    """Its line of the manifest, when it is done."""


def scan_in_parts(
    paths: Sequence[Source],
    search: Search,
    exports: Sequence[Export],
    settings: ScanSettings,
    cluster: Cluster,
    target: Target,
) -> Summary:
    """Scan on a Ray cluster into a folder of parts with a sealed manifest; returns the totals.

    The rows are those of `scan.report_scan`, field by field. `settings.workers`: workers, 0 for one a core or GPU.
    Raises UsageError for what cannot work, before any work where that can be known, and OutputError if a part cannot
    be written; parts before it are whole, and the same call with `resume` goes on.
    """
    folder = _check_target(target)
    models = load_models(exports, "cpu")
    Judge(models).labels  # noqa: B018  # raises for models that cannot be fused
    summary = Summary()
    files = find_images(paths, search, summary)
    first = next(files, None)
    if first is None:
        raise UsageError(nothing_found(paths, summary.left_out))
    start_folder(folder, target.force, target.resume)
    with connected(cluster.address, settings.workers or default_workers()) as ray:
        folder_of_paths = Path.cwd() if any(_is_relative(path) for path in paths) else None
        pool = _start_workers(ray, exports, settings, cluster, folder_of_paths)
        header = replace(run_header(models, settings), search=asdict(search), providers=pool.providers or ())
        flow = _Flow(ray, pool, header, target)
        size = -(-cluster.part_size // header.batch_size) * header.batch_size
        total = None if target.quiet else count_images(paths, search)
        manifest = ManifestWriter(folder, header)
        try:
            with progress_bar(disable=target.quiet) as bars:
                bar = bars.add_task("scanning", total=total, info="")
                for part in flow.parts(batches(chain([first], files), size)):
                    manifest.add(part)
                    summary.merge(part.summary())
                    bars.advance(bar, part.rows)
            manifest.finish(summary.left_out)
        except KeyboardInterrupt as interrupt:
            note("To go on, give the same command with --resume")
            raise KeyboardInterrupt("the parts that were written are whole") from interrupt
        finally:
            manifest.close()
    remove_parts(folder, flow.names)
    return summary


def _is_relative(path: Source) -> bool:
    """Tell whether paths under an argument depend on the working folder; those in a list may."""
    return path is LISTED or (isinstance(path, Path) and not path.is_absolute())


def _start_workers(
    ray: Any, exports: Sequence[Export], settings: ScanSettings, cluster: Cluster, start: Path | None
) -> Pool:
    """Start a worker for each core, or for each GPU if there are any, and wait until one can judge."""
    resources = ray.cluster_resources()
    gpus = 0 if cluster.device == "cpu" else int(resources.get("GPU", 0))
    size = settings.workers or gpus or max(1, int(resources.get("CPU", 1)))
    contents = {path: path.read_bytes() for path in {export.path for export in exports}}
    spec = WorkerSpec(exports, contents, settings, cluster.device, running_versions(), start)
    pool = Pool(ray, spec, size, gpus > 0)
    pool.wait()
    return pool


def _check_target(target: Target) -> Path:
    """Return the folder to write to. Raises UsageError for what parts cannot be."""
    if target.format not in FORMATS:
        raise UsageError(f"--engine ray writes parts; --format is {' or '.join(FORMATS)}, not {target.format}")
    if target.output is None:
        raise UsageError("--engine ray writes a folder of parts; add --output FOLDER")
    if target.output.is_file():
        raise UsageError(f"{target.output}: --engine ray writes a folder of parts, and this is a file")
    if target.watch or not target.selection.is_all:
        raise UsageError(
            "--engine ray writes the rows of all files in their order; leave out --watch, --sort, --only and "
            "--min-confidence"
        )
    return target.output.absolute()


class _Flow:
    """The parts between the list of files and the manifest."""

    def __init__(self, ray: Any, pool: Pool, header: RunHeader, target: Target) -> None:
        self._ray, self._pool, self._target, self._folder = ray, pool, target, _check_target(target)
        self._header, self._header_reference, self._seen = header, ray.put(header), Seen(header.dedupe)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), False
        )
        # Writers wait for the disk more than they compute, so they need no core of their own
        self._write = ray.remote(_write).options(num_cpus=0, max_retries=3, scheduling_strategy=here).remote
        self._open: deque[_OpenPart] = deque()
        self.names: set[str] = set()
        """Of the parts so far."""

    def parts(self, lists: Iterator[list[Location]]) -> Iterator[Part]:
        """Yield what was written, in order; as many parts are under way as keep the workers busy."""
        upcoming = enumerate(lists)
        while True:
            ahead = _AHEAD * len(self._pool.workers) + _WRITERS
            while len(self._open) < ahead and (following := next(upcoming, None)) is not None:
                self._begin(*following)
            if not self._open:
                return
            self._mark_and_write()
            while self._open and (part := self._open[0].written) is not None:
                self._open.popleft()
                yield part
            if not self._open:
                continue  # a worker that never starts is not waited for
            writing = {part.writing: part for part in self._open if part.writing is not None}
            if references := self._pool.references() + list(writing):
                ready, _ = self._ray.wait(references)
                self._pool.settle(ready)
                for reference in ready:
                    if reference in writing:
                        self._settle_writer(writing[reference])

    def _begin(self, number: int, files: Sequence[Location]) -> None:
        name = part_name(number, self._target.format)
        self.names.add(name)
        earlier = read_earlier(self._folder / name, self._header) if self._target.resume else None
        if earlier and [stub.path for stub in earlier.rows] != [printable(file) for file in files]:
            earlier = None
        task = Task(tuple(files), earlier.rows if earlier else None)
        self._open.append(_OpenPart(number, task.files, task, earlier))
        self._pool.submit(task)

    def _mark_and_write(self) -> None:
        """Mark the parts whose turn it is, and have them written."""
        writers = sum(part.writing is not None for part in self._open)
        for part in self._open:
            if not part.task.is_done:
                if part.marks is None:
                    return  # copies are marked in the order of the files
                continue
            if part.task.still_hold is False:
                self._judge_again(part)
                return
            if part.marks is None:
                part.marks = [self._seen.marks(*key) for key in self._keys(part)]
            if part.written or part.writing is not None or writers >= _WRITERS:
                continue
            if part.earlier and part.marks == [stub.marks for stub in part.earlier.rows]:
                part.written = part.earlier.part
                continue
            path = self._folder / part_name(part.number, self._target.format)
            rows = [path] if part.earlier else [piece.rows for piece in part.task.pieces()]
            part.writing = self._write(path, self._header_reference, part.marks, *rows)
            writers += 1

    def _keys(self, part: _OpenPart) -> Iterator[Any]:
        if part.earlier:
            return (stub.key for stub in part.earlier.rows)
        return chain.from_iterable(piece.keys or () for piece in part.task.pieces())

    def _judge_again(self, part: _OpenPart) -> None:
        part.task, part.earlier = Task(part.files), None
        self._pool.submit(part.task, first=True)

    def _settle_writer(self, part: _OpenPart) -> None:
        errors = self._ray.exceptions
        try:
            part.written = self._ray.get(part.writing)
        except OutputError as error:
            raise OutputError(str(getattr(error, "cause", None) or error)) from error
        except (errors.ObjectLostError, errors.OwnerDiedError, errors.RayTaskError) as error:
            if not isinstance(error, errors.ObjectLostError) and not isinstance(
                getattr(error, "cause", None), errors.ObjectLostError
            ):
                raise
            self._judge_again(part)  # the machine that held the rows is gone
        except errors.WorkerCrashedError as error:
            raise OutputError("the process that writes parts died; perhaps memory is short here") from error
        finally:
            part.writing = None


def _write(path: Path, header: RunHeader, marks: Sequence[Marks], *pieces: Path | Sequence[FileResult]) -> Part:
    """Write a part in a Ray task: rows that were judged, or those that are in the file already, with new marks."""
    rows = chain.from_iterable(open_results(piece).rows() if isinstance(piece, Path) else piece for piece in pieces)
    return write_part(path, header, (marked(row, *mark) for row, mark in zip(rows, marks, strict=True)))
