"""Bounded, threaded work on files: each worker reads, hashes, decodes, cuts and judges files of its own.

No core waits for another: decoding never waits for inference, nor the other way round. The order is kept, and memory
does not grow with the number of files.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import BinaryIO, TypeVar

from forensic_cli.card import Preprocessing
from forensic_cli.images.decode import MAX_BYTES, MAX_PIXELS, decode, has_wrong_suffix, inspect
from forensic_cli.images.header import Header, Pixels, Unreadable, state_of
from forensic_cli.images.history import traces_of, variants
from forensic_cli.images.views import view_warnings, views
from forensic_cli.model import Sample
from forensic_cli.objects import Location, ObjectUrl, in_one_line
from forensic_cli.provenance import read_metadata
from forensic_cli.record import Claim

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 64
"""Files that may be done before the one whose turn it is: a large one holds up the others no longer than that."""


@dataclass(frozen=True)
class Reading:
    """What is taken from each file, whatever is then done with it."""

    wanted: tuple[Preprocessing, ...]
    """Each different preprocessing that views are cut for."""
    reencodings: tuple[str, ...] = ()
    """Names from images.history.REENCODINGS that each image is cut under as well."""
    max_pixels: int = MAX_PIXELS
    """Images with more are `too_large`."""
    fingerprint: Callable[[Pixels], int] | None = None
    """Perceptual hash to take of each image; None: no hash."""


@dataclass(frozen=True)
class Prepared:
    """One file, read and cut into views; its bytes and pixels are gone."""

    path: Location
    """As found."""
    sha256: str | None = None
    """Of its bytes; None if it could not be read."""
    size: int | None = None
    """Bytes; None if it could not be read."""
    header: Header | None = None
    """None if there is none to read."""
    failure: Unreadable | None = None
    """Why there are no views."""
    sample: Sample | None = None
    """What models judge; None on failure."""
    variants: Mapping[str, Sample] = field(default_factory=dict)
    """{re-encoding: its sample}, without those that cannot hold the image."""
    warnings: tuple[str, ...] = ()
    """Names from images.header.WARNINGS."""
    fingerprint: int | None = None
    """Perceptual hash of the pixels, if one is wanted."""
    metadata: tuple[Claim, ...] = ()
    """What the file claims about its own origin."""
    traces: tuple[str, ...] = ()
    """What the pixels tell about earlier processing (images.history)."""


def prepare(path: Location, reading: Reading) -> Prepared:
    """Read one file, hash and decode it; cut it, and each of its re-encodings, for every wanted preprocessing."""
    data = read_file(path)
    return Prepared(path, failure=data) if isinstance(data, Unreadable) else prepare_bytes(path, data, reading)


def prepare_bytes(path: Location, data: bytes, reading: Reading) -> Prepared:
    """Prepare a file whose bytes are known; its path only matters for its suffix."""
    inspection = inspect(data)
    sha256, claims = hashlib.sha256(data).hexdigest(), read_metadata(data, inspection.blocks)
    decoded = decode(data, reading.max_pixels, inspection)
    if isinstance(decoded, Unreadable):
        return Prepared(path, sha256, len(data), decoded.header, decoded, metadata=claims)
    pixels, header = decoded.pixels, decoded.header
    warnings = {*header.warnings, *(("wrong_suffix",) if has_wrong_suffix(path.suffix, header.format) else ())}
    warnings.update(name for preprocessing in reading.wanted for name in view_warnings(pixels, preprocessing))
    return Prepared(
        path,
        sha256,
        len(data),
        header,
        sample=_sample(pixels, reading, state_of(header).name),
        variants={
            name: _sample(changed, reading, state) for name, changed, state in variants(pixels, reading.reencodings)
        },
        warnings=tuple(sorted(warnings)),
        fingerprint=reading.fingerprint(pixels) if reading.fingerprint else None,
        metadata=claims,
        traces=traces_of(pixels, header.compression == "lossless"),
    )


def work_on(
    files: Iterable[Location],
    reading: Reading,
    work: Callable[[list[Prepared]], R],
    batch_size: int = 1,
    workers: int = 0,
) -> Iterator[R]:
    """Read files and work on `batch_size` of them together, in threads (0: one a core).

    Yields what `work` returns, in the files' order.
    """
    threads = workers or default_workers()

    def work_on_batch(paths: list[Location]) -> R:
        return work([prepare(path, reading) for path in paths])

    return ordered_map(work_on_batch, batches(files, batch_size), threads, -(-AHEAD // batch_size) + threads)


def _sample(pixels: Pixels, reading: Reading, state: str) -> Sample:
    return Sample(tuple(views(pixels, preprocessing) for preprocessing in reading.wanted), state)


def read_file(path: Location) -> bytes | Unreadable:
    """Return a file's bytes, or why they cannot be had."""
    if isinstance(path, ObjectUrl):
        return _read_object(path)
    try:
        # A pipe that took the file's place must not keep the scan waiting for a writer
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))) as stream:
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


def _read_object(url: ObjectUrl) -> bytes | Unreadable:
    try:
        data = url.read(MAX_BYTES + 1)
        return data if len(data) <= MAX_BYTES else _too_large(url.size() or 0)
    except FileNotFoundError:
        return Unreadable("missing", "the object is gone")
    except OSError as error:
        return Unreadable("unreadable", f"the object cannot be read ({in_one_line(error)})")
    except MemoryError:
        return Unreadable("unreadable", "the object is too large for this machine's memory")


def _too_large(size: int) -> Unreadable:
    return Unreadable("too_large", f"{size} bytes are more than the {MAX_BYTES / (1 << 30):g} GiB that are read")


def _read_unchanged(stream: BinaryIO) -> bytes | Unreadable:
    before = os.fstat(stream.fileno())
    if not stat.S_ISREG(before.st_mode):
        return Unreadable("unreadable", "not a regular file (any more)")
    if before.st_size > MAX_BYTES:
        return _too_large(before.st_size)
    data = stream.read(before.st_size + 1)  # not to the end: a file may grow faster than it is read
    after = os.fstat(stream.fileno())
    if len(data) != before.st_size or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Unreadable("changed", "the file changed while it was read; scan it again when nothing writes to it")
    return data


def batches(files: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items, `size` at a time; the last group may be smaller."""
    items = iter(files)
    while batch := list(islice(items, size)):
        yield batch


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Iterator[R]:
    """Apply `function` in threads, at most `ahead` items beyond the one being yielded, in the items' order.

    A result is yielded as soon as it and those before it are known, however long the next item takes to arrive.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="worker")
    room = Semaphore(ahead + 1)
    left = Event()
    pending: SimpleQueue[Future[R] | None] = SimpleQueue()

    def submit_all() -> None:
        """Submit items while there is room; None marks their end, after the error that ended them, if any."""
        try:
            for item in items:
                room.acquire()
                if left.is_set():
                    return
                pending.put(pool.submit(function, item))
        except Exception as error:  # raised where the results are consumed
            failed: Future[R] = Future()
            failed.set_exception(error)
            pending.put(failed)
        finally:
            pending.put(None)

    # A daemon, so that nothing waits for it: items may come from a pipe that is never closed
    Thread(target=submit_all, daemon=True).start()
    try:
        while (future := pending.get()) is not None:
            yield future.result()
            room.release()
    finally:
        left.set()
        room.release()
        pool.shutdown(wait=True, cancel_futures=True)


def default_workers() -> int:
    """Return the number of worker threads: one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
