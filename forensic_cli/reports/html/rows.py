"""The rows of the page: their order, their groups, and short records as JSON that cannot end a script element."""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from forensic_cli.card import GENERATED, REAL, UNDECIDED
from forensic_cli.record import FileResult, Prediction, RunHeader, Verdict
from forensic_cli.reports.html.pictures import Closer, EvidenceMap

_ORDER = (GENERATED, REAL, UNDECIDED)
"""Headlines in the order in which the page shows them."""
_EMPTY: tuple[object, ...] = (None, (), [], {})
_DIFFERS = 0.01
"""A probability that was computed again and differs by more is mentioned on the page."""
Answer: TypeAlias = tuple[str, str] | None
"""(headline, verdict); None for a file that was not judged."""


def answer_of(row: FileResult) -> Answer:
    """Return the answer that a row gives."""
    return (row.verdict.headline, row.verdict.verdict) if row.verdict else None


def interest(row: FileResult) -> tuple[int, float]:
    """Sort key: generated, then real, then undecided, the surest first; files that were not judged come last."""
    if row.verdict is None:
        return len(_ORDER), 0.0
    headline = row.verdict.headline if row.verdict.headline in _ORDER else UNDECIDED
    p = 0.5 if row.verdict.p_generated is None else row.verdict.p_generated
    return _ORDER.index(headline), p if headline == REAL else -p


def in_turn(rows: Sequence[FileResult]) -> list[int]:
    """Return the judged rows, generated images first, taking each answer in turn, so that the first few show them all.

    In these rows the page shows where the evidence lies.
    """
    judged = [number for number, row in enumerate(rows) if row.verdict]
    judged.sort(key=lambda number: interest(rows[number]))
    counts: dict[Answer, int] = {}
    turns = {}
    for number in judged:
        answer = answer_of(rows[number])
        counts[answer] = counts.get(answer, 0) + 1
        turns[number] = (interest(rows[number])[0], counts[answer], number)
    return sorted(judged, key=turns.__getitem__)


def findings(rows: Sequence[FileResult]) -> list[list[int]]:
    """Group the rows that are near-duplicates or have the same bytes; any other row is a group of its own."""
    groups: dict[tuple[str, object], list[int]] = {}
    for number, row in enumerate(rows):
        # A copy is in the cluster of its original, if clusters were looked for
        candidates: Iterable[tuple[str, object]] = (("cluster", row.cluster), ("sha256", row.sha256), ("row", number))
        key = next(candidate for candidate in candidates if candidate[1] is not None)
        groups.setdefault(key, []).append(number)
    return list(groups.values())


class ShortRecords:
    """Writes rows without empty fields, and with numbers in place of the names of labels and techniques."""

    def __init__(self, header: RunHeader, rows: Iterable[FileResult]) -> None:
        labels = [label for model in header.models for label in model.labels]
        techniques = [model.technique for model in header.models]
        for verdict in (row.verdict for row in rows if row.verdict):
            techniques += verdict.techniques
            answers: list[Verdict | Prediction] = [verdict, *verdict.techniques.values()]
            for answer in answers:  # a file may hold labels that its header lacks
                labels += (answer.label, *answer.scores, *answer.candidates)
        self.labels = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        """{label: its number on the page}."""
        self.techniques = {technique: number for number, technique in enumerate(dict.fromkeys(techniques))}
        """{technique: its number on the page}."""

    def record(self, row: FileResult) -> dict[str, Any]:
        """Return one row as the scripts read it."""
        record = self._shortened(row.record())
        if techniques := record.get("techniques"):
            predictions = [techniques.get(name) for name in self.techniques]
            record["techniques"] = [prediction and self._shortened(prediction) for prediction in predictions]
        return record

    def _shortened(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Shorten a row or a technique's prediction in it."""
        short = {name: value for name, value in record.items() if value not in _EMPTY}
        if "label" in short:
            short["label"] = self.labels[short["label"]]
        if "candidates" in short:
            short["candidates"] = [self.labels[label] for label in short["candidates"]]
        for name, shown in (("scores", "scores"), ("log10_lr", "ratios")):
            if values := short.pop(name, None):
                short[shown] = [values.get(label) for label in self.labels]
        return short

    def evidence(self, row: FileResult, closer: Closer, maps: Sequence[EvidenceMap]) -> dict[str, Any]:
        """Return what the page shows of an image's evidence, and whether its scores came out differently this time."""
        record = {
            "preview": as_base64(closer.preview),
            "spectrum": as_base64(closer.spectrum),
            "height": closer.height,
            "width": closer.width,
            "maps": [self._map(evidence) for evidence in maps],
        }
        differs = max((_difference(evidence, row) for evidence in maps), default=0.0)
        return record | ({"differs": round(differs, 3)} if differs > _DIFFERS else {})

    def _map(self, evidence: EvidenceMap) -> dict[str, Any]:
        values = {
            self.techniques[technique]: [
                [round(float(value), 3) for value in by_label[label]] if label in by_label else None
                for label in self.labels
            ]
            for technique, by_label in evidence.values.items()
        }
        places = [[round(side, 4) for side in place] for place in evidence.places]
        return {"method": evidence.method, "places": places, "values": values}


def _difference(evidence: EvidenceMap, row: FileResult) -> float:
    """Return the largest difference between a probability of the whole image and the one in the row."""
    recorded = row.verdict.techniques if row.verdict else {}
    differences = [
        abs(now - recorded[technique].scores[label])
        for technique, whole in evidence.whole.items()
        if technique in recorded
        for label, now in whole.items()
        if label in recorded[technique].scores
    ]
    return max(differences, default=0.0)


def as_json(value: Any) -> str:
    """Return JSON that can stand in a script element: without `<` it holds neither an end tag nor a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def as_base64(data: bytes) -> str:
    """Return bytes as text for a data URL."""
    return base64.b64encode(data).decode("ascii")
