"""Rows as columns: CSV for spreadsheets, and Parquet for data frames and databases.

The columns follow from the fields of record.FileResult: a new field becomes a column by itself.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from forensic_cli.card import UNKNOWN
from forensic_cli.errors import require
from forensic_cli.record import FileResult, Prediction, RunHeader, Summary, field_types, is_nested, row_fields
from forensic_cli.reports import Report
from forensic_cli.results_file import JSONL_RUN, SUMMARY

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys; a tab and a newline within quotes are plain CSV."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n")
_ROW_GROUP = 2048
"""Rows of a Parquet file that are held and written together."""


class CsvReport(Report):
    r"""RFC 4180, UTF-8: one line a file, and a column for each score. Every line also names the tool and the models.

    Text that a spreadsheet would run as a formula gets a leading apostrophe. Control characters become \xNN, as do
    bytes of a name that are not UTF-8.
    """

    def begin(self, header: RunHeader) -> str:
        """Return the line of column names."""
        self._labels = header.labels
        self._techniques = tuple(model.technique for model in header.models)
        self._origin = {
            "tool": f"genforensic {header.version}",
            "models": ";".join(f"{model.name}@sha256:{model.sha256}" for model in header.models),
            "providers": ";".join(header.providers),
            "onnxruntime": header.onnxruntime,
            "started": header.started,
        }
        return _line([*(name for name, _ in self._cells({})), *self._origin])

    def row(self, result: FileResult) -> str:
        """Return one line."""
        return _line([*(cell for _, cell in self._cells(result.record())), *self._origin.values()])

    def _cells(self, record: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
        for name, kind in row_fields().items():
            yield from self._flat(name, kind, record.get(name))

    def _flat(self, name: str, kind: Any, value: Any) -> Iterator[tuple[str, object]]:
        """Yield (column, cell) for a field; the same columns whatever the value, None included."""
        if is_dataclass(kind) and isinstance(kind, type):
            for inner, inner_kind in field_types(kind).items():
                yield from self._flat(f"{name}_{inner}", inner_kind, (value or {}).get(inner))
        elif kind == Mapping[str, Prediction]:
            for technique in self._techniques:
                yield from self._flat(technique, Prediction, (value or {}).get(technique))
        elif kind == Mapping[str, float]:
            # `unknown` has a score but no likelihood ratio
            labels = [label for label in self._labels if name.endswith("scores") or label != UNKNOWN]
            for label in labels:
                yield f"{name.removesuffix('s')}_{label}", (value or {}).get(label)
        elif kind == Mapping[str, str]:
            yield name, ";".join(f"{key}:{text}" for key, text in (value or {}).items())
        elif kind == tuple[str, ...]:
            yield name, ";".join(value or ())
        else:
            yield name, (json.dumps(value, ensure_ascii=False) if value else None) if is_nested(kind) else value


class ParquetReport(Report):
    """Typed columns, nested parts as JSON text, and the run header and summary in the metadata.

    It is written row group by row group, and can be read once its end is written.
    """

    def __init__(self, colour: bool = False, quiet: bool = False) -> None:
        super().__init__(colour, quiet)
        require(("pyarrow", "pyarrow.parquet"), "parquet", "--format parquet")
        self._sink = _Sink()
        self._held: list[dict[str, Any]] = []

    def begin(self, header: RunHeader) -> bytes:
        """Return the magic bytes."""
        import pyarrow.parquet

        about = {JSONL_RUN: json.dumps(header.record(), ensure_ascii=False)}
        columns = [(name, _arrow_type(kind)) for name, kind in row_fields().items()]
        self._schema = pyarrow.schema(columns, metadata=about)
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        return self._sink.take()

    def row(self, result: FileResult) -> bytes:
        """Return a row group when one is full, else nothing."""
        record = result.record()
        self._held.append({name: _parquet_value(kind, record[name]) for name, kind in row_fields().items()})
        return self._flush() if len(self._held) == _ROW_GROUP else b""

    def end(self, summary: Summary) -> bytes:
        """Return the last row group and the footer, with the totals in its metadata."""
        last = self._flush() if self._held else b""
        self._writer.add_key_value_metadata({SUMMARY: json.dumps(summary.record())})
        self._writer.close()
        return last + self._sink.take()

    def _flush(self) -> bytes:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._held, schema=self._schema))
        self._held = []
        return self._sink.take()


def _arrow_type(kind: Any) -> Any:
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    plain = {int: pyarrow.int64(), float: number, tuple[str, ...]: pyarrow.list_(text)}
    return plain.get(kind) or (pyarrow.map_(text, number) if kind == Mapping[str, float] else text)


def _parquet_value(kind: Any, value: Any) -> Any:
    if value is not None and kind == Mapping[str, float]:
        return list(value.items())
    return json.dumps(value, ensure_ascii=False) if value is not None and is_nested(kind) else value


class _Sink(io.BytesIO):
    """Keeps what is written until it is taken; the offsets in the footer also count what was taken before."""

    _taken = 0

    def tell(self) -> int:
        return self._taken + super().tell()

    def take(self) -> bytes:
        """Return what was written since the last time."""
        chunk = self.getvalue()
        self._taken += len(chunk)
        self.seek(0)
        self.truncate()
        return chunk


def _line(cells: Sequence[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerow([_neutral(cell) for cell in cells])
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _neutral(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    escaped = _CONTROL.sub(lambda control: "".join(f"\\x{byte:02x}" for byte in control[0].encode()), cell)
    return "'" + escaped if escaped.startswith(_FORMULA_STARTS) else escaped
