"""Files as they arrive in folders: new or changed, found by the rules of a search, and no longer being written."""

import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from forensic_cli.discover import Search, rediscover
from forensic_cli.errors import UsageError, require
from forensic_cli.record import FileResult
from forensic_cli.reports import ROW_BY_ROW

SETTLED_SECONDS = 1.0
"""A file is whole when its size and its time of change have stayed the same for so long."""
_REMEMBERED = 4096
"""Files whose last rows are remembered."""
_TICK_MS = 200
"""How often files that are being written are looked at."""

_State = tuple[int, int] | None
"""Size and time of change, in nanoseconds; None for a link that leads nowhere."""


def check_watch(
    paths: Sequence[object], report_format: str, resume: bool, sort: str | None, fail_on: Sequence[str] = ()
) -> None:
    """Raise UsageError where --watch cannot do what the other options ask for, or its package is missing."""
    require(("watchfiles",), "watch", "--watch")
    for path in paths:
        if not isinstance(path, Path):
            raise UsageError("--watch watches folders, and - is a list that ends; name the folders")
        if not os.path.isdir(path):  # noqa: PTH112  # Path.is_dir() raises for odd links
            raise UsageError(f"--watch watches folders, and {path} is none; name its folder, and it with --include")
    if report_format not in ROW_BY_ROW:
        raise UsageError(
            f"--watch goes on without an end, and --format {report_format} needs one; take {', '.join(ROW_BY_ROW)}"
        )
    if resume:
        raise UsageError("--watch writes rows in the order of arrival, which --resume cannot go on with; leave one out")
    if sort:
        raise UsageError("--watch writes rows in the order of arrival, which --sort cannot wait for; leave one out")
    if fail_on:
        raise UsageError("--watch ends by an interrupt alone, and --fail-on needs another exit code; leave one out")


def arrivals(folders: Sequence[Path], search: Search) -> Iterator[list[Path]]:
    """Yield image files that have arrived and settled, again and again without an end; often none.

    The first time is as soon as the folders are watched: what arrives from then on is yielded some time later,
    whatever the caller does in between. Raises UsageError where the folders cannot be watched.
    """
    from watchfiles import Change, watch
    from watchfiles._rust_notify import WatchfilesRustInternalError

    roots = _roots(folders)
    settling = Settling()
    changing = watch(
        *roots,
        watch_filter=None,
        debounce=_TICK_MS,
        rust_timeout=_TICK_MS,
        yield_on_timeout=True,
        recursive=search.recursive,
    )
    try:
        for changes in changing:
            for change, name in sorted(changes):
                if change != Change.deleted:
                    for path in _found(Path(name), roots, search):
                        settling.add(path)
            yield settling.settled()
    except (OSError, WatchfilesRustInternalError) as error:
        raise UsageError(
            f"--watch: the folders cannot be watched ({error}); WATCHFILES_FORCE_POLLING=1 in the environment looks "
            "at them again and again instead"
        ) from error


class Settling:
    """Files that may still be written."""

    def __init__(self) -> None:
        self._waiting: dict[Path, tuple[_State, float]] = {}

    def add(self, path: Path) -> None:
        """Wait for a file from now on."""
        self._waiting.setdefault(path, (None, time.monotonic()))

    def settled(self) -> list[Path]:
        """Return the files that have not changed for a while, in name order, and wait for them no longer."""
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


class LastRows:
    """What the rows of the last files said, so that a file that was only touched gets no second row."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, tuple[str, str | None]] = OrderedDict()

    def is_news(self, result: FileResult) -> bool:
        """Tell whether a row says of its path what the last one did not, and remember it."""
        content = result.status, result.sha256
        is_news = self._last.pop(result.path, None) != content
        self._last[result.path] = content
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return is_news


def _state(path: Path) -> _State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _roots(folders: Sequence[Path]) -> dict[Path, Path]:
    """Return {where a folder really is: the folder as it was named}, the innermost first."""
    found = {Path(os.path.realpath(folder)): folder for folder in folders}
    return dict(sorted(found.items(), key=lambda item: -len(item[0].parts)))


def _found(path: Path, roots: dict[Path, Path], search: Search) -> Iterator[Path]:
    for root, folder in roots.items():
        if path == root:
            return
        if path.is_relative_to(root):
            yield from rediscover(folder, PurePath(path.relative_to(root)), search)
            return
