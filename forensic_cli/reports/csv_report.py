"""CSV for spreadsheets: one row a file, one column a score; each row names the tool and the models by itself."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from forensic_cli.ensemble import known_labels
from forensic_cli.results import FileResult, RunHeader, Summary

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys; a tab and a newline within quotes are plain CSV."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n")
_FIELDS = (
    *("path", "status", "headline", "p_generated", "strength", "state", "verdict", "reason"),
    *("label", "confidence", "generated_log10_lr", "agreement"),
    *("sha256", "bytes", "format", "width", "height", "views", "warnings", "candidates", "metadata"),
    *("duplicate_of", "cluster", "phash"),
)
_STABILITY = ("stability_lowest", "stability_highest", "stability_flips", "stability_reencodings")
"""Empty where no re-encoding was asked for; flips as re-encoding:label."""


class CsvReport:
    r"""RFC 4180, UTF-8. Text that a spreadsheet would run as a formula gets a leading apostrophe.

    Control characters stand as \xNN, as do bytes of a name that are not UTF-8.
    """

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
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
        columns += [f"log10_lr_{label}" for label in known_labels(self._labels)]
        for name in self._techniques:
            columns += [
                f"{name}_label",
                f"{name}_confidence",
                f"{name}_p_generated",
                *(f"{name}_score_{label}" for label in self._labels),
                f"{name}_candidates",
                *(f"{name}_log10_lr_{label}" for label in known_labels(self._labels)),
            ]
        return _line([*columns, "tool", "models", "providers", "onnxruntime", "started"])

    def row(self, result: FileResult) -> str:
        """Return one line."""
        record = result.record()
        record["warnings"] = ";".join(result.warnings)
        record["metadata"] = json.dumps(record["metadata"], ensure_ascii=False) if record["metadata"] else None
        record["candidates"] = ";".join(record["candidates"] or ())
        cells = [*(record[name] for name in _FIELDS), *_stability(record["stability"])]
        cells += self._scores(record) + self._ratios(record)
        for name in self._techniques:
            one = (record["techniques"] or {}).get(name, {})
            cells += [one.get("label"), one.get("confidence"), one.get("p_generated"), *self._scores(one)]
            cells += [";".join(one.get("candidates", ())), *self._ratios(one)]
        return _line([*cells, *self._origin])

    def _scores(self, record: Mapping[str, Any]) -> list[object]:
        return [(record.get("scores") or {}).get(label) for label in self._labels]

    def _ratios(self, record: Mapping[str, Any]) -> list[object]:
        return [(record.get("log10_lr") or {}).get(label) for label in known_labels(self._labels)]

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
    if not isinstance(cell, str):
        return cell
    escaped = _CONTROL.sub(lambda hit: "".join(f"\\x{byte:02x}" for byte in hit[0].encode()), cell)
    return "'" + escaped if escaped.startswith(_FORMULA_STARTS) else escaped
