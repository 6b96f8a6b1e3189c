"""Questions about results that do not fit into memory, answered by DuckDB, which joins and sorts on disk.

Source of the reader's options: DuckDB documentation, "JSON Loading" and "Reading and Writing Parquet Files".
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forensic_cli.errors import UsageError, require
from forensic_cli.results_file import read_manifest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEMORY = "1GB"
"""What DuckDB holds before it writes to disk; see its `memory_limit`."""
_AT_ONCE = 1000
"""Rows that are fetched together."""
_COLUMNS = {
    **dict.fromkeys(("path", "status", "headline", "verdict", "label", "sha256"), "VARCHAR"),
    **dict.fromkeys(("p_generated", "confidence"), "DOUBLE"),
    **dict.fromkeys(("candidates", "warnings"), "VARCHAR[]"),
}
"""The fields of rows that questions are asked about, with their types."""


def sample(results: Path, most: int) -> set[int]:
    """Return the numbers, from 0, of at most so many rows: as many of each answer, the surest first.

    An answer is a headline with a verdict, or the status of a file that was not judged. Raises UsageError for results
    that cannot be read.
    """
    with _rows_of(a=results) as database:
        chosen = database.execute(
            """
            SELECT number FROM a
            ORDER BY row_number() OVER (PARTITION BY headline, verdict, status ORDER BY confidence DESC, number), number
            LIMIT ?
            """,
            [most],
        )
        return {number for (number,) in chosen.fetchall()}


def changed_pairs(
    old: Path, new: Path, equal: Sequence[str], close: Sequence[str], tolerance: float
) -> Iterator[tuple[tuple[str, int], dict[str, Any], dict[str, Any]]]:
    """Yield ((path, turn), old row, new row) for the rows that differ: in the new scan's order, then those removed.

    Rows differ if the fields in `equal` do, or those in `close` by more than the tolerance. Rows of one path are
    matched in their order, by their turn from 1. A row has the fields of _COLUMNS, and is empty where there is none.
    """
    differs = " OR ".join(
        [f"o.{name} IS DISTINCT FROM n.{name}" for name in equal]
        + [
            f"(o.{name} IS NULL) <> (n.{name} IS NULL) OR round(abs(o.{name} - n.{name}), 9) > $tolerance"
            for name in close
        ]
    )
    columns = ", ".join(f"{side}.{name}" for side in "on" for name in ("number", *_COLUMNS))
    with _rows_of(old=old, new=new) as database:
        found = database.execute(
            f"""
            WITH o AS (SELECT *, row_number() OVER (PARTITION BY path ORDER BY number) AS turn FROM old),
                 n AS (SELECT *, row_number() OVER (PARTITION BY path ORDER BY number) AS turn FROM new)
            SELECT {columns}, coalesce(o.turn, n.turn) FROM o FULL JOIN n ON o.path = n.path AND o.turn = n.turn
            WHERE o.number IS NULL OR n.number IS NULL OR {differs}
            ORDER BY n.number NULLS LAST, o.number
            """,
            {"tolerance": tolerance},
        )
        while rows := found.fetchmany(_AT_ONCE):
            for row in rows:
                before, after = (_record(row[i : i + len(_COLUMNS) + 1]) for i in (0, len(_COLUMNS) + 1))
                yield ((after or before)["path"], row[-1]), before, after


def count_rows(results: Path) -> int:
    """Return how many rows there are."""
    if results.is_dir():
        return sum(part.rows for part in read_manifest(results).parts)
    with _rows_of(a=results) as database:
        return int(database.execute("SELECT count(*) FROM a").fetchall()[0][0])


def _record(values: Any) -> dict[str, Any]:
    """Return a row's fields; empty if the join found no row."""
    number, *fields = values
    return {} if number is None else dict(zip(_COLUMNS, fields, strict=True))


@contextmanager
def _rows_of(**results: Path) -> "Iterator[DuckDBPyConnection]":
    """Open a database with a view of each of the results, whose rows are numbered in the scan's order."""
    require(("duckdb",), "ray", "a question about results in parts")
    import duckdb

    with tempfile.TemporaryDirectory(prefix="genforensic-") as scratch:
        # DuckDB takes names for patterns and wants them in UTF-8, so it gets links with plain ones
        links = {name: Path(scratch) / f"{name}{path.suffix}" for name, path in results.items()}
        for name, path in results.items():
            links[name].symlink_to(path.absolute())
        settings: Mapping[str, Any] = {"memory_limit": _MEMORY, "temp_directory": scratch}
        with duckdb.connect(f"{scratch}/rows.duckdb", config=dict(settings)) as database:
            try:
                for name, path in links.items():
                    _rows(database, path, results[name]).create_view(f"{name}_read")
                    database.execute(
                        f"CREATE TABLE {name} AS SELECT *, row_number() OVER () - 1 AS number FROM {name}_read"
                    )
                yield database
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise UsageError(f"{', '.join(map(str, results.values()))}: cannot be read ({reason})") from error


def _rows(database: "DuckDBPyConnection", results: Path, name: Path) -> Any:
    """Return the rows of a folder of parts, of JSON Lines or of Parquet as a relation; `name` is for messages."""
    files = [str(results / part.part) for part in read_manifest(results).parts] if results.is_dir() else [str(results)]
    if Path(files[0]).suffix == ".parquet":
        return database.read_parquet(files, hive_partitioning=False).project(", ".join(_COLUMNS))
    if Path(files[0]).suffix != ".jsonl":
        raise UsageError(f"{name}: this needs a folder of parts, .jsonl or .parquet")
    lines = database.read_json(
        files, columns=_COLUMNS, format="newline_delimited", maximum_object_size=1 << 24, hive_partitioning=False
    )
    return lines.filter("path IS NOT NULL")  # neither header nor seal
