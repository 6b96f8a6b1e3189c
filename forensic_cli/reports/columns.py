"""CSV for spreadsheets: one row a file, one column a score; each row names the tool and the models by itself."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from forensic_cli.errors import require
from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.verdict import known_labels

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


_GROUP = 2048
"""Rows that are held and written together."""
_TEXT = (
    *("path", "status", "reason", "headline", "strength", "state", "verdict", "label", "sha256", "format"),
    *("duplicate_of", "phash"),
)
_FLOATS = ("p_generated", "generated_log10_lr", "confidence", "agreement")
_INTEGERS = ("bytes", "width", "height", "views", "cluster")
_LISTS = ("candidates", "warnings")
_MAPS = ("scores", "log10_lr")


class ParquetReport:
    """One file, written row group by row group; it can be read once its end is written."""

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        del colour, quiet
        require(("pyarrow", "pyarrow.parquet"), "parquet", "--format parquet")
        import pyarrow

        self._arrow: Any = pyarrow
        self._sink = _Sink()
        self._writer: Any = None
        self._schema: Any = None
        self._nested: tuple[str, ...] = ()
        self._held: list[dict[str, Any]] = []

    def begin(self, header: RunHeader) -> bytes:
        """Return the magic bytes."""
        arrow = self._arrow
        self._nested = _nested_fields()
        text = arrow.string()
        columns = [(name, text) for name in _TEXT]
        columns += [(name, arrow.float64()) for name in _FLOATS] + [(name, arrow.int64()) for name in _INTEGERS]
        columns += [(name, arrow.list_(text)) for name in _LISTS]
        columns += [(name, arrow.map_(text, arrow.float64())) for name in _MAPS]
        columns += [(name, text) for name in self._nested]
        about = {"genforensic": json.dumps(header.record(), ensure_ascii=False)}
        self._schema = arrow.schema(columns, metadata=about)
        self._writer = arrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        return self._sink.take()

    def row(self, result: FileResult) -> bytes:
        """Return a row group when one is full, else nothing."""
        self._held.append(result.record())
        return self._flush() if len(self._held) == _GROUP else b""

    def end(self, summary: Summary) -> bytes:
        """Return the last row group and the footer, with the totals in its metadata."""
        last = self._flush() if self._held else b""
        self._writer.add_key_value_metadata({"summary": json.dumps(summary.record())})
        self._writer.close()
        return last + self._sink.take()

    def _flush(self) -> bytes:
        rows = [self._flat(record) for record in self._held]
        self._held = []
        self._writer.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema))
        return self._sink.take()

    def _flat(self, record: dict[str, Any]) -> dict[str, Any]:
        row = {name: record[name] for name in (*_TEXT, *_FLOATS, *_INTEGERS, *_LISTS)}
        row.update({name: list(record[name].items()) if record[name] is not None else None for name in _MAPS})
        row.update({name: _json(record[name]) for name in self._nested})
        return row


class _Sink(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        chunk = bytes(data)
        self._chunks.append(chunk)
        self._place += len(chunk)
        return len(chunk)

    def take(self) -> bytes:
        taken, self._chunks = b"".join(self._chunks), []
        return taken


def _nested_fields() -> tuple[str, ...]:
    """Return the fields of a record that are no plain column; whatever is added to a record later is one of them."""
    empty = FileResult("", "", None, None, None, None, None, None, None, None, 0, ())
    plain = {*_TEXT, *_FLOATS, *_INTEGERS, *_LISTS, *_MAPS}
    return tuple(name for name in empty.record() if name not in plain)


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
