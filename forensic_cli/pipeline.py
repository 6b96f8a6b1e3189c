"""Bounded, threaded read -> hash -> decode -> views -> batches; order is kept, memory does not grow."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from forensic_cli.card import Preprocessing
from forensic_cli.metadata import Finding, read_metadata
from forensic_cli.preprocess import MAX_PIXELS, Decoded, Header, Unreadable, Views, decode, view_warnings, views
from forensic_cli.reencode import variants

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Prepared:
    """One file, read and cut into views; its pixels are gone."""

    path: Path
    """As found."""
    sha256: str | None
    """Of its bytes; None where it could not be read."""
    size: int | None
    """Bytes."""
    header: Header | None
    """None where there is none to read."""
    views: tuple[Views, ...]
    """One array for each wanted preprocessing; empty when unreadable."""
    warnings: tuple[str, ...]
    """Names from preprocess.WARNINGS."""
    failure: Unreadable | None
    """Why there are no views."""
    variants: Mapping[str, tuple[Views, ...]] = field(default_factory=dict)
    """{re-encoding: its views, as in `views`}; empty where none is wanted, without those that do not fit the image."""
    metadata: tuple[Finding, ...] = ()
    """What the file says of its own origin."""


def read_file(path: Path) -> bytes | Unreadable:
    """Return a file's bytes, or why they cannot be had."""
    try:
        return path.read_bytes()
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


def prepare(
    path: Path, wanted: Sequence[Preprocessing], reencodings: Sequence[str] = (), max_pixels: int = MAX_PIXELS
) -> Prepared:
    """Read, hash and decode one file once; cut it, and each of its re-encodings, for every wanted preprocessing."""
    data = read_file(path)
    if isinstance(data, Unreadable):
        return Prepared(path, None, None, None, (), (), data)
    digest = hashlib.sha256(data).hexdigest()
    said = read_metadata(data)
    decoded = decode(data, max_pixels)
    if isinstance(decoded, Unreadable):
        return Prepared(path, digest, len(data), decoded.header, (), (), decoded, metadata=said)
    prepared = replace(_cut(path, digest, len(data), decoded, wanted), metadata=said)
    changed = variants(decoded.pixels, reencodings)
    return replace(prepared, variants={name: tuple(views(one, w) for w in wanted) for name, one in changed})


def _cut(path: Path, digest: str, size: int, decoded: Decoded, wanted: Sequence[Preprocessing]) -> Prepared:
    warnings = set(decoded.header.warnings)
    for one in wanted:
        warnings.update(view_warnings(decoded.pixels, one))
    cut = tuple(views(decoded.pixels, one) for one in wanted)
    return Prepared(path, digest, size, decoded.header, cut, tuple(sorted(warnings)), None)


def ordered_map(function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int) -> Iterator[R]:
    """Apply `function` in threads, at most `ahead` items beyond the one being yielded, in the items' order."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def batches(items: Iterable[Prepared], batch_size: int) -> Iterator[list[Prepared]]:
    """Group files until their views (of the first preprocessing) fill a batch; unreadable ones weigh nothing."""
    batch: list[Prepared] = []
    filled = 0
    for item in items:
        batch.append(item)
        filled += len(item.views[0]) if item.views else 0
        if is_full(filled, len(batch), batch_size):
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def is_full(views: int, files: int, batch_size: int) -> bool:
    """Tell whether a batch of so many views, of so many files with the unreadable ones, waits for no more."""
    return views >= batch_size or files >= 4 * batch_size


def default_workers() -> int:
    """Return how many threads decode: one a core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
