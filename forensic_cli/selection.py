"""Which rows of a scan a report shows, and in which order; every image is judged and counted all the same."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forensic_cli.card import GENERATED, INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN
from forensic_cli.errors import UsageError
from forensic_cli.record import FileResult


def _confidence(row: FileResult) -> float:
    return -row.verdict.confidence if row.verdict else 1.0


def _disagreement(row: FileResult) -> tuple[float, float]:
    """Order by the share of techniques that agree, then by how far their probabilities of the label lie apart."""
    if row.verdict is None:
        return 2.0, 0.0
    found = [one.scores.get(row.verdict.label, 0.0) for one in row.verdict.techniques.values()]
    return row.verdict.agreement, min(found, default=0.0) - max(found, default=0.0)


SORTS: Mapping[str, Callable[[FileResult], Any]] = {
    "confidence": _confidence,
    "path": lambda row: row.path,
    "disagreement": _disagreement,
}
"""Every order by its name: surest first; by path; techniques that disagree first. Unreadable files come last."""


@dataclass(frozen=True)
class Selection:
    """What a report shows of a scan."""

    sort: str | None = None
    """Name from SORTS; None: as found, each row written when it is known."""
    only: tuple[str, ...] = ()
    """Verdicts and headlines whose rows are shown; none: all. A file that could not be read is always shown."""
    min_confidence: float = 0.0
    """Rows with less are not shown."""

    @property
    def is_all(self) -> bool:
        """Tell whether every row is shown, in the order in which it was found."""
        return self.sort is None and not self.only and not self.min_confidence

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict; empty where every row is shown as found."""
        if self.is_all:
            return {}
        return {"sort": self.sort, "only": list(self.only), "min_confidence": self.min_confidence}

    def shows(self, row: FileResult) -> bool:
        """Tell whether a row is shown."""
        if row.verdict is None:
            return True
        shown = not self.only or row.verdict.verdict in self.only or row.verdict.headline in self.only
        return shown and row.verdict.confidence >= self.min_confidence

    def apply(self, rows: Iterable[FileResult]) -> Iterator[FileResult]:
        """Yield the rows that are shown, in their order. Sorted ones are all held, and come even when interrupted."""
        shown = (row for row in rows if self.shows(row))
        if self.sort is None:
            yield from shown
            return
        held: list[FileResult] = []
        interrupted = None
        try:
            held.extend(shown)
        except KeyboardInterrupt as error:
            interrupted = error
        yield from sorted(held, key=SORTS[self.sort])
        if interrupted is not None:
            raise interrupted


def check_verdicts(option: str, names: Sequence[str], labels: Sequence[str]) -> None:
    """Raise UsageError for a name that is no verdict or headline of a scan with these labels."""
    allowed = list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *labels, INCONCLUSIVE, UNKNOWN]))
    for name in names:
        if name not in allowed:
            raise UsageError(f"{option} {name!r} is no answer of this scan; allowed: {', '.join(allowed)}")
