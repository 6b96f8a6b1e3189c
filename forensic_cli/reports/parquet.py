"""Parquet, for data frames and databases: typed columns, nested parts as JSON text, the run header in its metadata."""

import io
import json
from typing import Any

from forensic_cli.extras import require
from forensic_cli.results import FileResult, RunHeader, Summary

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
