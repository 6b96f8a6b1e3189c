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
from forensic_cli.exports import Export, check_labels
from forensic_cli.judge import Marks, Seen, marked
from forensic_cli.model import has_cuda_runtime, images_per_run, load_models
from forensic_cli.objects import Location, ObjectUrl, in_one_line
from forensic_cli.parts import (
    FORMATS,
    EarlierPart,
    ManifestWriter,
    check_folder,
    check_same_scan,
    key_of,
    known_hashes,
    part_name,
    read_earlier,
    remove_parts,
    write_part,
)
from forensic_cli.pipeline import batches, default_workers
from forensic_cli.ray_workers import Pool, Task, WorkerSpec, connected, fetch, running_versions
from forensic_cli.record import FileResult, RunHeader, Summary, printable
from forensic_cli.reports import make_report
from forensic_cli.results_file import Part, open_results
from forensic_cli.scan import ScanSettings, Target, count_images, find_images, nothing_found, run_header

_WRITERS = 4
"""Parts that are written at once."""
_AHEAD = 4
"""Parts under way for each worker: two that it has and two that wait, so that a part which is judged again, while all
those after it wait to be marked, leaves no worker idle."""


@dataclass(frozen=True)
class Cluster:
    """Where to judge, and how large the pieces are."""

    address: str | None
    """HOST:PORT of the cluster's head; None: RAY_ADDRESS, else a cluster on this machine that ends with the scan."""
    device: str
    """auto, cpu or cuda."""
    part_size: int
    """Files in a part."""
    threads: int
    """Threads within each run of a model."""


@dataclass(eq=False)
class _OpenPart:
    """A part that is not written yet."""

    path: Path
    """The file that it becomes."""
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
    check_labels(exports)
    models = load_models(exports, "cpu")
    summary = Summary()
    files = find_images(paths, search, summary)
    first = next(files, None)
    if first is None:
        raise UsageError(nothing_found(paths, summary.left_out))
    with connected(cluster.address, settings.workers or default_workers()) as ray:
        pool = _start_workers(ray, paths, exports, settings, cluster)
        try:
            pool.wait()
            providers = pool.providers or ()
            settings = replace(settings, batch_size=settings.batch_size or images_per_run(providers))
            header = replace(run_header(models, settings), search=asdict(search), providers=providers)
            if target.resume:
                check_same_scan(folder, header, printable(first))
            known = known_hashes(folder) if target.resume else None
            # Its lock keeps other scans out; nothing is removed before
            manifest = ManifestWriter(folder, header)
            if not target.resume:
                remove_parts(folder)
            flow = _Flow(ray, pool, header, folder, known)
            size = -(-cluster.part_size // settings.batch_size) * settings.batch_size
            total = None if target.quiet else count_images(paths, search)
            parts = flow.parts(batches(chain([first], files), size), target.format)
            _write_manifest(manifest, parts, summary, total, target.quiet)
            remove_parts(folder, flow.names)
        finally:
            pool.close()
    return summary


def _write_manifest(
    manifest: ManifestWriter, parts: Iterator[Part], summary: Summary, total: int | None, quiet: bool
) -> None:
    """Take parts as they are written, and count them."""
    try:
        with progress_bar(disable=quiet) as bars:
            bar = bars.add_task("scanning", total=total, info="")
            for part in parts:
                manifest.add(part)
                summary.merge(part.summary())
                bars.advance(bar, part.rows)
        manifest.finish(summary)
    except KeyboardInterrupt as interrupt:
        note("To go on, give the same command with --resume")
        raise KeyboardInterrupt("the parts that were written are whole") from interrupt
    finally:
        manifest.close()


def _start_workers(
    ray: Any, paths: Sequence[Source], exports: Sequence[Export], settings: ScanSettings, cluster: Cluster
) -> Pool:
    """Start a worker for each core, or for each GPU if there are any that ONNX Runtime can use."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if cluster.device != "cpu" and has_cuda_runtime() else 0
    size = settings.workers or gpus or max(1, int(resources.get("CPU", 1)))
    named = [path for path in paths if path is not LISTED]
    # What a list names may be relative as well
    is_relative = LISTED in paths or not all(isinstance(path, ObjectUrl) or path.is_absolute() for path in named)
    spec = WorkerSpec(
        exports=exports,
        contents={path: path.read_bytes() for path in {export.path for export in exports}},
        settings=settings,
        device=cluster.device,
        versions=running_versions(),
        threads=cluster.threads,
        folder=Path.cwd() if is_relative else None,
        sources=named,
    )
    return Pool(ray, spec, size, gpus > 0)


def _check_target(target: Target) -> Path:
    """Return the folder to write to. Raises UsageError for what parts cannot be."""
    if target.format not in FORMATS:
        raise UsageError(f"--engine ray writes parts; --format is {' or '.join(FORMATS)}, not {target.format}")
    if target.output is None:
        raise UsageError("--engine ray writes a folder of parts; add --output FOLDER")
    if target.watch or not target.selection.is_all:
        raise UsageError(
            "--engine ray writes the rows of all files in their order; leave out --watch, --sort, --only and "
            "--min-confidence"
        )
    make_report(target.format)  # a package that is missing is missed now
    folder = target.output.absolute()
    check_folder(folder, target.force, target.resume)
    return folder


class _Flow:
    """The parts between the list of files and the manifest."""

    def __init__(self, ray: Any, pool: Pool, header: RunHeader, folder: Path, known: dict[str, str] | None) -> None:
        """`known`: hashes of the parts of an earlier scan that goes on; None starts a new one."""
        self._ray, self._pool, self._folder, self._known = ray, pool, folder, known
        self._header, self._header_reference, self._seen = header, ray.put(header), Seen(header.dedupe)
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), False
        )
        # Writers wait for the disk more than they compute, so they need no core of their own
        self._write = ray.remote(_write).options(num_cpus=0, max_retries=3, scheduling_strategy=here).remote
        self._open: deque[_OpenPart] = deque()
        self.names: set[str] = set()
        """Of the parts so far."""

    def parts(self, lists: Iterator[list[Location]], report_format: str) -> Iterator[Part]:
        """Yield what was written, in order; as many parts are under way as keep the workers busy."""
        upcoming = enumerate(lists)
        while True:
            ahead = _AHEAD * len(self._pool.workers) + _WRITERS
            while len(self._open) < ahead and (following := next(upcoming, None)) is not None:
                self._begin(*following, report_format)
            if not self._open:
                return
            self._mark_and_write()
            while self._open and (part := self._open[0].written) is not None:
                self._open.popleft()
                yield part
            if not self._open:
                continue  # a worker that never starts is not waited for
            writing = {part.writing: part for part in self._open if part.writing is not None}
            ready = self._pool.wait_for(list(writing))
            self._pool.settle(ready)
            for reference in ready:
                if reference in writing:
                    self._settle_writer(writing[reference])

    def _begin(self, number: int, files: Sequence[Location], report_format: str) -> None:
        name = part_name(number, report_format)
        self.names.add(name)
        path = self._folder / name
        earlier = None if self._known is None else read_earlier(path, self._header, self._known)
        if earlier and [stub.path for stub in earlier.rows] != [printable(file) for file in files]:
            earlier = None
        task = Task(tuple(files), earlier.rows if earlier else None)
        self._open.append(_OpenPart(path, task.files, task, earlier))
        self._pool.submit(task)

    def _mark_and_write(self) -> None:
        """Mark the parts whose turn it is, and have them written."""
        for part in self._open:
            if part.task.still_hold is False:
                self._judge_again(part)
        writers = sum(part.writing is not None for part in self._open)
        for part in self._open:
            if not part.task.is_done:
                if part.marks is None:
                    return  # copies are marked in the order of the files
                continue
            if part.marks is None:
                part.marks = [self._seen.marks(*key) for key in self._keys(part)]
            if part.written or part.writing is not None or writers >= _WRITERS:
                continue
            if part.earlier and part.marks == [stub.marks for stub in part.earlier.rows]:
                part.written = part.earlier.part
                continue
            rows = [part.path] if part.earlier else [piece.rows for piece in part.task.pieces()]
            part.writing = self._write(part.path, self._header_reference, part.marks, *rows)
            writers += 1

    def _keys(self, part: _OpenPart) -> Iterator[Any]:
        if part.earlier:
            return map(key_of, part.earlier.rows)
        return chain.from_iterable(piece.keys or () for piece in part.task.pieces())

    def _judge_again(self, part: _OpenPart) -> None:
        part.task, part.earlier = Task(part.files), None
        self._pool.submit(part.task, first=True)

    def _settle_writer(self, part: _OpenPart) -> None:
        errors = self._ray.exceptions
        try:
            part.written = fetch(self._ray, part.writing)
        except errors.ObjectLostError:
            self._judge_again(part)  # the machine that held the rows is gone
        except errors.RayError as error:
            raise OutputError(
                f"the process that writes parts died ({in_one_line(error)}); perhaps memory or disk is short here"
            ) from error
        finally:
            part.writing = None


def _write(path: Path, header: RunHeader, marks: Sequence[Marks], *pieces: Path | Sequence[FileResult]) -> Part:
    """Write a part in a Ray task: rows that were judged, or those that are in the file already, with new marks."""
    rows = chain.from_iterable(open_results(piece).rows() if isinstance(piece, Path) else piece for piece in pieces)
    return write_part(path, header, (marked(row, *mark) for row, mark in zip(rows, marks, strict=True)))
