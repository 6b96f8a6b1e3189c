"""Rows -> entries of the page: short records as JSON text, in which nothing from a file can end the script element."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forensic_cli.card import GENERATED, INCONCLUSIVE, REAL, UNDECIDED, UNKNOWN
from forensic_cli.provenance import CONFLICT
from forensic_cli.record import Summary

_KNOWN = {
    *(
        "path",
        "status",
        "reason",
        "headline",
        "p_generated",
        "generated_log10_lr",
        "strength",
        "state",
        "verdict",
        "label",
        "confidence",
        "agreement",
        "candidates",
        "scores",
        "log10_lr",
    ),
    *("techniques", "stability", "sha256", "bytes", "format", "width", "height", "views", "warnings"),
    *("duplicate_of", "cluster", "phash", "metadata"),
}
"""Fields that the page knows how to show; every other one is shown as it is."""
_COPIED = (
    *("status", "reason", "generated_log10_lr", "strength", "state"),
    *("verdict", "agreement", "stability"),
    *("sha256", "bytes", "format", "width", "height", "views", "warnings"),
    *("duplicate_of", "cluster", "phash", "metadata"),
)
_TURNS = (GENERATED, REAL, UNDECIDED)
"""Headlines in the order in which the page shows them."""
_LONGEST_TEXT = 4000
_LONGEST_LIST = 500
_DEEPEST = 12


@dataclass(frozen=True)
class Entry:
    """One file, as the page needs it."""

    path: str
    """As in the row."""
    sha256: str | None
    """Of the file that was judged; None where it could not be read."""
    bytes: int | None
    """Its size."""
    verdict: str | None
    """None where the file was not judged."""
    headline: str | None
    """As in the row."""
    interest: tuple[int, float, int]
    """Sorts: generated, then real, then undecided, surest first; then what was not judged."""
    text: str
    """The record as JSON."""

    @property
    def answer(self) -> str:
        """The generator where one is named, else the headline."""
        return str(self.headline if self.verdict in (REAL, INCONCLUSIVE) else self.verdict)


class Names:
    """Numbers names in the order in which they are met."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        for name in names:
            self.number(name)

    def number(self, name: str) -> int:
        """Return the number of a name, a new one for a new name."""
        return self._numbers.setdefault(name, len(self._numbers))

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class Entries:
    """The rows of one scan, each turned into an entry as it comes; counts them by verdict and by label."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.labels = Names([label for model in run["models"] for label in model["labels"]])
        self.techniques = Names([model["technique"] for model in run["models"]])
        self.all: list[Entry] = []
        self.summary = Summary.empty()
        self.disagreeing = 0
        """Images on which the techniques do not agree."""
        self.groups = Groups()
        self.conflicting = 0
        """Images whose metadata and verdict exclude each other."""

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one evidence record."""
        verdict, headline = row.get("verdict"), _headline(row)
        self.summary.count(row["status"], verdict, headline)
        if verdict is not None:
            self.disagreeing += (row.get("agreement") or 0) < 1
        number = len(self.all)
        self.groups.add(number, row)
        self.conflicting += CONFLICT in (row.get("warnings") or ())
        self.all.append(
            Entry(
                path=row["path"],
                sha256=row.get("sha256"),
                bytes=row.get("bytes"),
                verdict=verdict,
                headline=headline,
                interest=_interest(row, number),
                text=as_json(self._record(row)),
            )
        )

    @property
    def named(self) -> list[tuple[str, int]]:
        """How many images each named generator has, and `unknown`, the most first."""
        counts = ((name, n) for name, n in self.summary.verdicts.items() if name not in (REAL, INCONCLUSIVE))
        return sorted(counts, key=lambda item: (-item[1], item[0]))

    def in_turn(self) -> list[int]:
        """Return the judged rows with each answer in turn, so that a few images show every one of them.

        Generated images come before all others.
        """
        judged = [number for number, entry in enumerate(self.all) if entry.verdict is not None]
        met: dict[tuple[str | None, str | None], int] = {}
        keys = {}
        for number in sorted(judged, key=lambda number: self.all[number].interest):
            entry = self.all[number]
            answer = (entry.headline, entry.verdict)
            met[answer] = met.get(answer, 0) + 1
            keys[number] = (entry.interest[0], met[answer], number)
        return sorted(judged, key=keys.__getitem__)

    def _record(self, row: Mapping[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = {"path": row["path"]}
        record |= {name: bounded(row[name]) for name in _COPIED if row.get(name) not in (None, [])}
        if headline := _headline(row):
            record["headline"] = headline
        record |= self._prediction(row)
        techniques = row.get("techniques") or {}
        if techniques:
            numbers = {self.techniques.number(name): self._prediction(one) for name, one in techniques.items()}
            record["techniques"] = [numbers.get(number) for number in range(len(self.techniques))]
        more = {name: bounded(row[name]) for name in row if name not in _KNOWN and row[name] not in (None, [], {})}
        return record | ({"more": more} if more else {})

    def _prediction(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """Return label, scores, candidates and ratios with labels as numbers."""
        if one.get("label") is None:
            return {}
        known: dict[str, Any] = {"label": self.labels.number(one["label"]), "confidence": one["confidence"]}
        if one.get("p_generated") is not None:
            known["p_generated"] = one["p_generated"]
        for name, short in (("scores", "scores"), ("log10_lr", "ratios")):
            values = {self.labels.number(label): value for label, value in (one.get(name) or {}).items()}
            if values:
                known[short] = [values.get(number) for number in range(len(self.labels))]
        if one.get("candidates"):
            known["candidates"] = [self.labels.number(label) for label in one["candidates"]]
        return known

    def recorded(self, number: int) -> dict[str, list[float | None]]:
        """Return {technique: probability of each label} of one row, as the page has it."""
        techniques = json.loads(self.all[number].text).get("techniques", [])
        return {name: one["scores"] for name, one in zip(self.techniques, techniques, strict=False) if one}


def _headline(row: Mapping[str, Any]) -> str | None:
    """Return a row's headline; a row of an older version has a verdict alone."""
    verdict: str | None = row.get("verdict")
    if verdict is None or row.get("headline") is not None:
        return row.get("headline")
    return {REAL: REAL, INCONCLUSIVE: UNDECIDED, UNKNOWN: UNDECIDED}.get(verdict, GENERATED)


def _interest(row: Mapping[str, Any], number: int) -> tuple[int, float, int]:
    if row.get("verdict") is None:
        return len(_TURNS), 0.0, number
    headline = _headline(row)
    rank = _TURNS.index(headline) if headline in _TURNS else _TURNS.index(UNDECIDED)
    p = row.get("p_generated")
    likely = 0.5 if p is None else p
    return rank, likely if _TURNS[rank] == REAL else -likely, number


def bounded(value: Any, depth: int = 0) -> Any:
    """Return a value of a row with finite numbers and nothing endless: a page must open whatever a file says."""
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]} … ({len(value)} characters)"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict | list) and depth == _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {name: bounded(one, depth + 1) for name, one in list(value.items())[:_LONGEST_LIST]}
    if isinstance(value, list):
        rest = [f"… ({len(value)} in all)"] if len(value) > _LONGEST_LIST else []
        return [bounded(one, depth + 1) for one in value[:_LONGEST_LIST]] + rest
    return value


def as_json(value: Any) -> str:
    """Return JSON that can stand in a script element: without `<` there is no end tag and no comment in it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


class Groups:
    """Gathers the rows of a scan, in their order."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, Any], list[int]] = {}
        self._answers: dict[tuple[str, Any], set[tuple[str | None, str | None]]] = {}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take a row; a copy has the cluster of its original."""
        fields = ((name, row.get(name)) for name in ("cluster", "sha256"))
        key = next((field for field in fields if field[1] is not None), ("row", number))
        self._members.setdefault(key, []).append(number)
        self._answers.setdefault(key, set()).add((row.get("headline"), row.get("verdict")))

    @property
    def judged(self) -> int:
        """Findings whose images were judged."""
        return sum(answers != {(None, None)} for answers in self._answers.values())

    @property
    def mixed(self) -> int:
        """Findings whose images have different answers."""
        return sum(len(answers) > 1 for answers in self._answers.values())

    @property
    def several(self) -> list[list[int]]:
        """The rows of each finding that has more than one."""
        return [members for members in self._members.values() if len(members) > 1]
