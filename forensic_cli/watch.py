"""Watches folders: yields new and changed files that a search would find, once they are no longer being written."""

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from forensic_cli.discover import Search, rediscover
from forensic_cli.errors import UsageError, require
from forensic_cli.record import FileResult
from forensic_cli.reports import ROW_BY_ROW

SETTLED_SECONDS = 1.0
"""A file is complete when its size and modification time have not changed for this long."""
_REMEMBERED = 4096
"""Files whose latest rows are remembered."""
_TICK_MS = 200
"""Interval at which files that may still be written are checked."""

_State: TypeAlias = tuple[int, int] | None
"""Size and modification time in nanoseconds; None for a broken link."""


def check_watch(
    paths: Sequence[object], report_format: str, resume: bool, sort: str | None, fail_on: Sequence[str] = ()
) -> None:
    """Raise UsageError if --watch cannot be combined with the other options, or its package is not installed."""
    require(("watchfiles",), "watch", "--watch")
    for path in paths:
        if not isinstance(path, Path):
            raise UsageError("--watch watches folders, and the list that - stands for ends; name the folders")
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises for odd links
            raise UsageError(f"--watch watches folders, and {path} is not one; name its folder, and it with --include")
    if report_format not in ROW_BY_ROW:
        allowed = ", ".join(ROW_BY_ROW)
        raise UsageError(f"--watch never ends a report, and --format {report_format} needs an end; use {allowed}")
    for option, value in (("--resume", resume), ("--sort", sort), ("--fail-on", fail_on)):
        if value:
            raise UsageError(f"--watch writes rows as files arrive, until interrupted; leave {option} out")


def arrivals(folders: Sequence[Path], search: Search) -> Iterator[list[Path]]:
    """Yield, several times a second and without end, the image files that have arrived and settled; often none.

    The first list comes as soon as the folders are watched: no file that arrives later is missed, however long the
    caller takes in between. Raises UsageError if the folders cannot be watched.
    """
    from watchfiles import Change, watch
    from watchfiles._rust_notify import WatchfilesRustInternalError

    # Innermost first, so that a file in nested folders gets the path that belongs to the innermost
    roots = sorted(((os.path.realpath(folder), folder) for folder in folders), key=lambda root: -len(root[0]))
    settling = _Settling()
    try:
        for changes in watch(
            *(location for location, _ in roots),
            watch_filter=None,
            debounce=_TICK_MS,
            rust_timeout=_TICK_MS,
            yield_on_timeout=True,
            recursive=search.recursive,
        ):
            for change, name in sorted(changes):
                location, folder = next((root for root in roots if Path(name).is_relative_to(root[0])), ("", None))
                if folder and change != Change.deleted and name != location:
                    settling.add(rediscover(folder, Path(name).relative_to(location), search))
            yield settling.settled()
    except (OSError, WatchfilesRustInternalError) as error:
        raise UsageError(
            f"--watch: the folders cannot be watched ({error}); set WATCHFILES_FORCE_POLLING=1 in the environment to "
            "look at them at regular intervals instead"
        ) from error


class _Settling:
    """Files that may still be written to."""

    def __init__(self) -> None:
        self._waiting: dict[Path, tuple[_State, float]] = {}

    def add(self, paths: Iterator[Path]) -> None:
        for path in paths:
            self._waiting.setdefault(path, (None, time.monotonic()))

    def settled(self) -> list[Path]:
        """Return the files that have settled, in name order, and forget them and those that are gone."""
        now = time.monotonic()
        done = []
        for path, (before, since) in list(self._waiting.items()):
            if not os.path.lexists(path):
                del self._waiting[path]
                continue
            state = _state(path)
            if state != before:
                self._waiting[path] = state, now
            elif now - since >= SETTLED_SECONDS:
                del self._waiting[path]
                done.append(path)
        return sorted(done)


def _state(path: Path) -> _State:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class LastRows:
    """Remembers the latest row of each file, so that a file that was only touched gets no second row."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, str | None]] = OrderedDict()

    def is_news(self, result: FileResult) -> bool:
        """Tell whether a row differs from the last one for its path, and remember it."""
        content = result.status, result.sha256
        is_news = self._last.pop(result.path, None) != content
        self._last[result.path] = content
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return is_news
