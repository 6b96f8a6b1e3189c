"""Bounded, threaded work on files: each worker reads, hashes, decodes, cuts and judges its own, one after another.

So no core waits for another one: decoding never waits for inference, nor the other way round. Order is kept, and memory
does not grow with the number of files.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import BinaryIO, TypeVar

from forensic_cli.card import Preprocessing
from forensic_cli.copies import Original, Originals, Turns
from forensic_cli.images.decode import MAX_BYTES, MAX_PIXELS, decode, inspect, name_warnings
from forensic_cli.images.header import Header, Pixels, Unreadable, state_of
from forensic_cli.images.history import traces_of, variants
from forensic_cli.images.views import view_warnings, views
from forensic_cli.model import Sample
from forensic_cli.provenance import read_metadata
from forensic_cli.record import Claim

T = TypeVar("T")
R = TypeVar("R")

CHANGED = Unreadable("changed", "the file changed while it was read; scan it again when nothing writes to it")
MOST_HELD = 64_000_000
"""Bytes of encoded files that a worker keeps of one batch."""
AHEAD = 64
"""Files that may be done before the one whose turn it is: a large one holds the others up for no longer than that."""


@dataclass(frozen=True)
class Content:
    """One file's bytes."""

    path: Path
    """As found."""
    data: bytes | Unreadable | None
    """Or why they cannot be had; None: they were read and hashed, and are too many to be kept."""
    sha256: str | None
    """Of the bytes; None where they cannot be had."""


@dataclass(frozen=True)
class Prepared:
    """One file, read and cut into views; its pixels are gone."""

    path: Path
    """As found."""
    sha256: str | None
    """Of its bytes; None where it could not be read."""
    size: int | None
    """Bytes; None where it could not be read, and for a copy."""
    header: Header | None
    """None where there is none to read, and for a copy."""
    sample: Sample | None
    """What models judge; None when unreadable, and for a copy."""
    warnings: tuple[str, ...]
    """Names from preprocess.WARNINGS."""
    failure: Unreadable | None
    """Why there are no views."""
    variants: Mapping[str, Sample] = field(default_factory=dict)
    """{re-encoding: its sample}; empty where none is wanted, without those that do not fit the image."""
    fingerprint: int | None = None
    """Perceptual hash of the pixels; None where none is wanted."""
    original: Original | None = None
    """What is remembered of the content; None where nothing is."""
    is_copy: bool = False
    """An earlier file has the same bytes: this one was not decoded, and has its row."""
    metadata: tuple[Claim, ...] = ()
    """What the file says of its own origin."""
    traces: tuple[str, ...] = ()
    """What the pixels tell of the picture's past (traces.py)."""


def read_file(path: Path) -> bytes | Unreadable:
    """Return a file's bytes, or why they cannot be had."""
    try:
        with open(path, "rb", opener=_open_at_once) as stream:
            return _read_unchanged(stream)
    except FileNotFoundError:
        return Unreadable("missing", "the file is gone")
    except ValueError:
        return Unreadable("missing", "no file can have a name with a NUL in it")
    except IsADirectoryError:
        return Unreadable("unreadable", "the folder cannot be listed")
    except OSError as error:
        return Unreadable("unreadable", f"the file cannot be read ({error.strerror})")
    except MemoryError:
        return Unreadable("unreadable", "the file is too large for this machine's memory")


def _open_at_once(path: str, flags: int) -> int:
    # A pipe that took the file's place must not keep the scan waiting for a writer
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_unchanged(stream: BinaryIO) -> bytes | Unreadable:
    before = os.fstat(stream.fileno())
    if not stat.S_ISREG(before.st_mode):
        return Unreadable("unreadable", "not a regular file (any more)")
    if before.st_size > MAX_BYTES:
        reason = f"{before.st_size} bytes are more than the {MAX_BYTES / (1 << 30):g} GiB that are read"
        return Unreadable("too_large", reason)
    data = stream.read(before.st_size + 1)  # not to the end: a file may grow faster than it is read
    after = os.fstat(stream.fileno())
    if len(data) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return CHANGED
    return data


def read(path: Path) -> Content:
    """Read and hash one file."""
    data = read_file(path)
    return Content(path, data, None if isinstance(data, Unreadable) else hashlib.sha256(data).hexdigest())


def prepare(
    path: Path, wanted: Sequence[Preprocessing], reencodings: Sequence[str] = (), max_pixels: int = MAX_PIXELS
) -> Prepared:
    """Read, hash and decode one file once; cut it, and each of its re-encodings, for every wanted preprocessing."""
    return cut(read(path), Reading(tuple(wanted), tuple(reencodings), max_pixels))


def cut(content: Content, reading: "Reading") -> Prepared:
    """Decode one file that was read; cut it, and each of its re-encodings, for every wanted preprocessing."""
    path, data = content.path, _read_again(content) if content.data is None else content.data
    if isinstance(data, Unreadable):
        return Prepared(path, None, None, None, None, (), data)
    inspection = inspect(data)
    said = read_metadata(data, inspection.blocks)
    decoded = decode(data, reading.max_pixels, inspection)
    if isinstance(decoded, Unreadable):
        return Prepared(path, content.sha256, len(data), decoded.header, None, (), decoded, metadata=said)
    pixels, header = decoded.pixels, decoded.header
    warnings = {*header.warnings, *name_warnings(path, header.format)}
    warnings.update(name for one in reading.wanted for name in view_warnings(pixels, one))
    return Prepared(
        path,
        content.sha256,
        len(data),
        header,
        sample=sample_of(pixels, reading.wanted, state_of(header).name),
        warnings=tuple(sorted(warnings)),
        failure=None,
        variants={
            name: sample_of(changed, reading.wanted, state)
            for name, changed, state in variants(pixels, reading.reencodings)
        },
        fingerprint=reading.fingerprint(pixels) if reading.fingerprint else None,
        metadata=said,
        traces=traces_of(pixels, header.compression == "lossless"),
    )


def sample_of(pixels: Pixels, wanted: Sequence[Preprocessing], state: str) -> Sample:
    """Cut pixels for every wanted preprocessing."""
    return Sample(tuple(views(pixels, one) for one in wanted), state)


@dataclass(frozen=True)
class Reading:
    """How files are read, whatever is then done with them."""

    wanted: tuple[Preprocessing, ...]
    """Each different preprocessing that views are cut for."""
    reencodings: tuple[str, ...] = ()
    """Names from reencode.REENCODINGS that each image is cut under, too."""
    max_pixels: int = MAX_PIXELS
    """Images with more are `too_large`."""
    batch_size: int = 1
    """Files that are worked on together."""
    workers: int = 0
    """Threads; 0: one a core."""
    fingerprint: Callable[[Pixels], int] | None = None
    """Perceptual hash that is taken of each image; None: none."""


def work_on(
    files: Iterable[Path], reading: Reading, work: Callable[[list[Prepared]], R], originals: Originals | None = None
) -> Iterator[R]:
    """Read files in batches and work on each batch, in threads; yields what `work` returns, in the files' order.

    A file with the bytes of an earlier one is not decoded: it comes as a copy of what `originals` remembers; without
    them every file is.
    """
    workers = reading.workers or default_workers()
    ahead = -(-AHEAD // reading.batch_size) + workers
    task = partial(_work, reading=reading, work=work, turns=Turns(originals or Originals(0)))
    return ordered_map(task, enumerate(batches(files, reading.batch_size)), workers, ahead)


def _work(batch: tuple[int, list[Path]], reading: Reading, work: Callable[[list[Prepared]], R], turns: Turns) -> R:
    number, files = batch
    with turns.turn(number) as claim:
        contents = list(_within(MOST_HELD, map(read, files)))
        claimed = claim([content.sha256 for content in contents])
    contents.reverse()  # each one's bytes go when it is cut
    return work([_prepare_once(contents.pop(), original, is_copy, reading) for original, is_copy in claimed])


def _within(most: int, contents: Iterable[Content]) -> Iterator[Content]:
    """Yield contents, without the bytes of those that are too much for a batch together: these are read again later."""
    held = 0
    for content in contents:
        held += len(content.data) if isinstance(content.data, bytes) else 0
        yield content if held <= most else replace(content, data=None)


def _read_again(content: Content) -> bytes | Unreadable:
    data = read_file(content.path)
    same = isinstance(data, Unreadable) or hashlib.sha256(data).hexdigest() == content.sha256
    return data if same else CHANGED


def _prepare_once(content: Content, original: Original | None, is_copy: bool, reading: Reading) -> Prepared:
    if not is_copy:
        return replace(cut(content, reading), original=original)
    return Prepared(content.path, content.sha256, None, None, None, (), None, original=original, is_copy=True)


def batches(files: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items, `size` at a time; the last group may be smaller."""
    items = iter(files)
    while batch := list(islice(items, size)):
        yield batch


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Iterator[R]:
    """Apply `function` in threads, at most `ahead` items beyond the one being yielded, in the items' order.

    A result is yielded as soon as it and those before it are known, however long the next item is in coming.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="worker")
    room = Semaphore(ahead + 1)
    left = Event()
    pending: SimpleQueue[Future[R] | None] = SimpleQueue()

    def submit(item: T) -> Future[R]:
        return pool.submit(function, item)

    # A daemon, which nothing waits for: items may come from a pipe that nobody writes to any more
    Thread(target=_submit_all, args=(items, submit, room, left, pending), daemon=True).start()
    try:
        while (future := pending.get()) is not None:
            yield future.result()
            room.release()
    finally:
        left.set()
        room.release()
        pool.shutdown(wait=True, cancel_futures=True)


def _submit_all(
    items: Iterable[T],
    submit: Callable[[T], "Future[R]"],
    room: Semaphore,
    left: Event,
    pending: "SimpleQueue[Future[R] | None]",
) -> None:
    """Submit items while there is room; None ends them, behind the error that the items themselves ended with."""
    try:
        for item in items:
            room.acquire()
            if left.is_set():
                return
            pending.put(submit(item))
    except Exception as error:  # raised where the results are taken
        failed: Future[R] = Future()
        failed.set_exception(error)
        pending.put(failed)
    finally:
        pending.put(None)


def default_workers() -> int:
    """Return how many threads work: one a core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
