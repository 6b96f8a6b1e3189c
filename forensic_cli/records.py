"""Reads evidence records back: what FileResult.record() made becomes the same FileResult again."""

from collections.abc import Mapping
from typing import Any

from forensic_cli.metadata import Claim
from forensic_cli.results import FileResult, Prediction, Stability, Verdict

_PLAIN = (
    *("path", "status", "reason", "sha256", "bytes", "format", "width", "height", "views"),
    *("state", "duplicate_of", "cluster", "phash"),
)


def read_row(record: Mapping[str, Any]) -> FileResult:
    """Return the row of a record as JSON gives it back. Raises KeyError, TypeError or ValueError for anything else."""
    plain = {name: record[name] for name in _PLAIN}
    metadata = tuple(Claim(**one) for one in record["metadata"])
    verdict = None if record["verdict"] is None else _verdict(record)
    return FileResult(**plain, verdict=verdict, warnings=tuple(record["warnings"]), metadata=metadata)


def _verdict(record: Mapping[str, Any]) -> Verdict:
    stability = record["stability"]
    return Verdict(
        headline=record["headline"],
        p_generated=record["p_generated"],
        generated_log10_lr=record["generated_log10_lr"],
        strength=record["strength"],
        verdict=record["verdict"],
        label=record["label"],
        confidence=record["confidence"],
        scores=dict(record["scores"]),
        agreement=record["agreement"],
        techniques={name: _prediction(one) for name, one in dict(record["techniques"]).items()},
        candidates=tuple(record["candidates"]),
        log10_lr=dict(record["log10_lr"]),
        stability=None if stability is None else _stability(stability),
    )


def _prediction(record: Mapping[str, Any]) -> Prediction:
    return Prediction(
        label=record["label"],
        confidence=record["confidence"],
        p_generated=record["p_generated"],
        scores=dict(record["scores"]),
        candidates=tuple(record["candidates"]),
        log10_lr=dict(record["log10_lr"]),
    )


def _stability(record: Mapping[str, Any]) -> Stability:
    return Stability(record["lowest"], record["highest"], dict(record["flips"]), tuple(record["reencodings"]))
