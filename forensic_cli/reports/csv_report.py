"""CSV for spreadsheets: one row a file, one column a score; each row names the tool and the models by itself."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from forensic_cli.results import FileResult, RunHeader, Summary

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_FIELDS = (
    *("path", "status", "reason", "verdict", "label", "confidence", "agreement"),
    *("sha256", "bytes", "format", "width", "height", "views", "warnings"),
)
_STABILITY = ("stability_lowest", "stability_highest", "stability_flips", "stability_reencodings")
"""Empty where no re-encoding was asked for; flips as re-encoding:label."""


class CsvReport:
    """RFC 4180, UTF-8. Text that a spreadsheet would run as a formula gets a leading apostrophe."""

    def __init__(self, colour: bool = False) -> None:
        del colour
        self._labels: tuple[str, ...] = ()
        self._techniques: tuple[str, ...] = ()
        self._origin: tuple[str, ...] = ()

    def begin(self, header: RunHeader) -> str:
        """Return the line of column names."""
        self._labels = tuple(header.models[0]["labels"])
        self._techniques = tuple(model["technique"] for model in header.models)
        self._origin = (
            f"genforensic {header.version}",
            ";".join(f"{model['name']}@sha256:{model['sha256']}" for model in header.models),
            ";".join(header.providers),
            header.onnxruntime,
            header.started,
        )
        columns = [*_FIELDS, *_STABILITY, *(f"score_{label}" for label in self._labels)]
        for name in self._techniques:
            columns += [
                f"{name}_label",
                f"{name}_confidence",
                *(f"{name}_score_{label}" for label in self._labels),
            ]
        return _line([*columns, "tool", "models", "providers", "onnxruntime", "started"])

    def row(self, result: FileResult) -> str:
        """Return one line."""
        record = result.record()
        record["warnings"] = ";".join(result.warnings)
        cells = [*(record[name] for name in _FIELDS), *_stability(record["stability"])]
        scores, techniques = record["scores"] or {}, record["techniques"] or {}
        cells += [scores.get(label) for label in self._labels]
        for name in self._techniques:
            one = techniques.get(name, {})
            cells += [one.get("label"), one.get("confidence")]
            cells += [one.get("scores", {}).get(label) for label in self._labels]
        return _line([*cells, *self._origin])

    def end(self, summary: Summary) -> str:
        """Return nothing: a spreadsheet counts by itself."""
        del summary
        return ""


def _stability(found: Mapping[str, Any] | None) -> list[object]:
    if found is None:
        return [None] * len(_STABILITY)
    flips = ";".join(f"{name}:{label}" for name, label in found["flips"].items())
    return [found["lowest"], found["highest"], flips, ";".join(found["reencodings"])]


def _line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([_neutral(cell) for cell in cells])
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _neutral(cell: object) -> object:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS):
        return "'" + cell
    return cell
