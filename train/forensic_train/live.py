"""What a training shows while it runs: a table of its epochs on a terminal, elsewhere a line from time to time."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from forensic_cli.console import note, progress_bar

if TYPE_CHECKING:
    from rich.console import Group

_EPOCHS_SHOWN = 10
_PAUSE = 60.0
"""Least seconds between two lines where there is no terminal, for example in the log of a batch job."""
_PAUSE_WITHIN = 600.0
"""The same within an epoch."""
_HIDDEN = ("epoch", "seconds")

Figures = Mapping[str, float]


class LiveTable:
    """Epochs with their losses and accuracies above a progress bar. Use as a context manager."""

    def __init__(self, name: str, epochs: int, updates_per_epoch: int, is_shown: bool) -> None:
        """`is_shown`: False in all but one of several processes."""
        self._name, self._epochs, self._per_epoch, self._is_shown = name, epochs, updates_per_epoch, is_shown
        self._progress = progress_bar(disable=not is_shown, guesses=False)
        self._task = self._progress.add_task(name, total=epochs * updates_per_epoch, info="")
        self._finished: Sequence[Figures] = ()
        self._current: Figures = {}
        self._started = self._spoken = time.monotonic()
        self._start: int | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        from rich.live import Live

        if not self._progress.disable:
            self._stack.enter_context(
                Live(
                    get_renderable=self._picture,
                    console=self._progress.console,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def show(
        self, finished: Sequence[Figures], updates: int = 0, means: Figures | None = None, is_over: bool = False
    ) -> None:
        """Show the log of the finished epochs, and how far the next one is with the means of what it logged.

        `is_over`: this was the last epoch, which line() describes.
        """
        done = len(finished) * self._per_epoch + updates
        is_first, is_new = self._start is None, len(finished) > len(self._finished)
        if self._start is None:
            self._start = done
        self._finished, self._current = tuple(finished), means or {}
        self._progress.update(self._task, completed=done, info=self._time_left(done))
        silent = time.monotonic() - self._spoken
        is_due = not is_first and not is_over and silent > (_PAUSE if is_new else _PAUSE_WITHIN)
        if self._is_shown and self._progress.disable and is_due:
            self._spoken = time.monotonic()
            note(f"{self.line()}  {self._time_left(done)}".rstrip())

    def line(self) -> str:
        """Return the last epoch's figures as one line."""
        epoch, figures = len(self._finished), self._finished[-1] if self._finished else {}
        if self._current:
            epoch, figures = epoch + 1, self._current
        shown = [f"{name} {value:.3f}" for name, value in figures.items() if name not in _HIDDEN]
        return f"{self._name}: epoch {epoch}/{self._epochs}  {'  '.join(shown)}"

    def _time_left(self, done: int) -> str:
        if self._start is None or done <= self._start:
            return ""
        seconds = (time.monotonic() - self._started) / (done - self._start)
        minutes = round(seconds * (self._epochs * self._per_epoch - done) / 60)
        return f"about {minutes // 60} h {minutes % 60:02} min left"

    def _picture(self) -> "Group":
        from rich.console import Group
        from rich.table import Table

        names = [name for name in (self._finished[-1] if self._finished else self._current) if name not in _HIDDEN]
        if not names:
            return Group(self._progress)
        table = Table("epoch", *names, "time", box=None, pad_edge=False, header_style="bold")
        for column in table.columns:
            column.justify = "right"
        best = _best(self._finished)
        last = range(len(self._finished))[-_EPOCHS_SHOWN:]
        for i in [*({best} - {None, *last}), *last]:
            entry = self._finished[i]
            style = "green" if i == best else ""
            table.add_row(str(i + 1), *_cells(entry, names), f"{entry['seconds']:.0f} s", style=style)
        if self._current:
            table.add_row(str(len(self._finished) + 1), *_cells(self._current, names), style="dim")
        return Group(table, self._progress)


def _cells(entry: Figures, names: Sequence[str]) -> list[str]:
    return [f"{entry[name]:.3f}" if name in entry else "" for name in names]


def _best(finished: Sequence[Figures]) -> int | None:
    """Return the index of the epoch whose weights are kept: the latest with the lowest validation loss, if any."""
    losses = [(entry["val_loss"], -i) for i, entry in enumerate(finished) if "val_loss" in entry]
    return -min(losses)[1] if losses else None
