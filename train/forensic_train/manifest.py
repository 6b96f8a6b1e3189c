"""Labelled images: a folder or a CSV -> rows of path, generator, subject, group, source and split."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from forensic_cli.card import INCONCLUSIVE
from forensic_cli.discover import discover
from forensic_cli.errors import DataError, UsageError
from forensic_cli.images.header import Unreadable
from forensic_cli.pipeline import default_workers, ordered_map, read_file
from forensic_train.rows import Row, Rows, as_rows

SPLITS = ("train", "val", "adapt", "test")
MANIFEST_NAME = "manifest.csv"
_REQUIRED = ("path", "generator", "subject")
_COLUMNS = (*_REQUIRED, "group", "source", "split", "sha256")
_FAULTS_SHOWN = 5
"""Faults that an error message lists one by one."""


def read_manifest(data: Path) -> Rows:
    """Read ROOT/<generator>/<subject>/** or a CSV; if the folder contains a manifest.csv, that is read instead.

    Raises UsageError for a path that does not exist, and DataError for bad rows and missing images, with their line
    numbers, and for fewer than two generators.
    """
    if not data.exists():
        raise UsageError(f"{data}: no such file or folder; give ROOT/<generator>/<subject>/... or a CSV")
    if data.is_dir() and (data / MANIFEST_NAME).is_file():
        data = data / MANIFEST_NAME
    rows = Rows(_read_folder(data) if data.is_dir() else _read_csv(data))
    generators = sorted(set(rows.column("generator")))
    if len(generators) < 2:
        contents = f"one generator ({generators[0]})" if generators else "no images"
        raise DataError(f"{data}: has {contents}; attribution needs images of at least two generators")
    if INCONCLUSIVE in generators:
        raise DataError(f"{data}: {INCONCLUSIVE!r} is a verdict and cannot be the name of a generator; rename it")
    return rows


def has_subjects(rows: Iterable[Row]) -> bool:
    """Tell whether every row names a subject and there are at least two different ones."""
    subjects = {row.subject for row in rows}
    return len(subjects) > 1 and "" not in subjects


def with_hashes(rows: Sequence[Row]) -> Rows:
    """Return the rows with their sha256. Raises DataError for files that cannot be read."""
    faults: list[str] = []
    digests = bytearray()
    answers = ordered_map(_digest, (row.path for row in rows), default_workers(), 64)
    for row, digest in zip(rows, answers, strict=True):
        if isinstance(digest, Unreadable):
            faults.append(f"{row.path}: {digest.reason}")
        else:
            digests += digest
    raise_for(faults, "files cannot be read", "repair or remove them")
    return as_rows(rows).with_digests(digests)


def same_bytes_two_generators(rows: Sequence[Row]) -> list[list[Row]]:
    """Return groups of rows with the same bytes but different generators. The rows need hashes."""
    packed = as_rows(rows)
    groups = ([packed[i] for i in places] for places in sorted(packed.same_bytes()))
    return [copies for copies in groups if len({row.generator for row in copies}) > 1]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as a CSV that read_manifest() reads back; paths become absolute."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in rows:
            writer.writerow([row.path.resolve(), *(getattr(row, name) for name in _COLUMNS[1:])])


def count_cells(rows: Iterable[Row], first: str = "generator", second: str = "subject") -> dict[str, dict[str, int]]:
    """Count rows by two of their fields: {first: {second: rows}}, both sorted."""
    counts = Counter((str(getattr(row, first)), str(getattr(row, second))) for row in rows)
    table: dict[str, dict[str, int]] = defaultdict(dict)
    for (outer, inner), count in sorted(counts.items()):
        table[outer][inner] = count
    return dict(table)


def _read_folder(root: Path) -> Iterator[Row]:
    for path in discover([root]):
        if not isinstance(path, Path):
            continue
        inside = path.relative_to(root).parts
        if len(inside) < 2:
            raise DataError(f"{path}: is not in a generator's folder; the layout is ROOT/<generator>/<subject>/...")
        yield Row(path, inside[0].strip(), inside[1].strip() if len(inside) > 2 else "")


def _read_csv(path: Path) -> Iterator[Row]:
    faults: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [name for name in _REQUIRED[:2] if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"{path}: has no column {' or '.join(lacking)}; a manifest has the columns path, generator, "
                    "subject and optionally group, source, split"
                )
            for record in reader:
                if fault := _fault(record, path.parent):
                    faults.append(f"line {reader.line_num}: {fault}")
                else:
                    yield _row(record, path.parent)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV manifest ({error})") from error
    raise_for(faults, f"rows of {path} are wrong", "correct or remove them")


def _fault(record: Mapping[str, str | None], root: Path) -> str | None:
    if None in record or None in record.values():
        return "does not have as many cells as the header"
    for name in _REQUIRED[:2]:
        if not (record[name] or "").strip():
            return f"has no {name}"
    if (record.get("split") or "train") not in SPLITS:
        return f"split is {record['split']!r}; allowed: {', '.join(SPLITS)}"
    if not (root / str(record["path"])).is_file():
        return f"{record['path']}: no such file"
    return None


def _row(record: Mapping[str, str | None], root: Path) -> Row:
    values = {name: (record.get(name) or "").strip() for name in ("generator", "subject", "group", "source", "split")}
    return Row(path=root / str(record["path"]), **values)


def _digest(path: Path) -> bytes | Unreadable:
    data = read_file(path)
    return data if isinstance(data, Unreadable) else sha256(data).digest()


def raise_for(faults: Sequence[str], what: str, remedy: str) -> None:
    """Raise DataError that lists the first faults, counts the rest and says what to do, if there are any faults."""
    if faults:
        more = f"; and {len(faults) - _FAULTS_SHOWN} more" if len(faults) > _FAULTS_SHOWN else ""
        raise DataError(f"{len(faults)} {what} ({'; '.join(faults[:_FAULTS_SHOWN])}{more}); {remedy}")
