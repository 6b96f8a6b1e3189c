"""A labelled folder or a CSV -> rows (path, generator, subject, group, source, split)."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forensic_cli.card import INCONCLUSIVE, REAL
from forensic_cli.discover import LeftOut, discover
from forensic_cli.errors import DataError, UsageError
from forensic_cli.images.header import Unreadable
from forensic_cli.pipeline import default_workers, ordered_map, read_file
from forensic_train.seeds import generator_for

SPLITS = ("train", "val", "adapt", "test")
MANIFEST_NAME = "manifest.csv"
_REQUIRED = ("path", "generator", "subject")
_COLUMNS = (*_REQUIRED, "group", "source", "split", "sha256")
_VAL = 0.1
_NAMED = 5
"""Faults that an error message names one by one."""


@dataclass(frozen=True)
class Row:
    """One labelled image."""

    path: Path
    """Absolute, or relative to the working folder."""
    generator: str
    """The target label."""
    subject: str
    """What is shown (the paper's subclass); empty where the data has no subjects."""
    group: str = ""
    """Images that must stay on one side of a split share it; empty: a group of its own."""
    source: str = ""
    """Where the image came from; empty where unknown."""
    split: str = ""
    """train, val (calibration), adapt (finetune's part of the unseen images), test; empty: not assigned yet."""
    sha256: str = ""
    """Of the file's bytes; empty: not computed yet."""


def read_manifest(data: Path) -> list[Row]:
    """Read ROOT/<generator>/<subject>/** or a CSV; a folder with a manifest.csv in it is read through that.

    Raises UsageError for a path that does not exist, DataError with the faults' places for a bad row, a missing image
    or fewer than two generators.
    """
    if not data.exists():
        raise UsageError(f"{data}: no such file or folder; give ROOT/<generator>/<subject>/... or a CSV")
    if data.is_dir() and (data / MANIFEST_NAME).is_file():
        data = data / MANIFEST_NAME
    rows = _read_folder(data) if data.is_dir() else _read_csv(data)
    generators = sorted({row.generator for row in rows})
    if len(generators) < 2:
        found = f"one generator ({generators[0]})" if generators else "no images"
        raise DataError(f"{data}: has {found}; attribution needs images of at least two generators")
    if INCONCLUSIVE in generators:
        raise DataError(f"{data}: a generator must not be called {INCONCLUSIVE}, which is a verdict; rename it")
    return rows


def has_subjects(rows: Iterable[Row]) -> bool:
    """Tell whether every row names a subject and at least two differ."""
    subjects = {row.subject for row in rows}
    return len(subjects) > 1 and "" not in subjects


def with_hashes(rows: Sequence[Row]) -> list[Row]:
    """Fill in each row's sha256. Raises DataError for files that cannot be read."""
    digests = list(ordered_map(_digest, (row.path for row in rows), default_workers(), 64))
    faults = [f"{row.path}: {d.reason}" for row, d in zip(rows, digests, strict=True) if isinstance(d, Unreadable)]
    _raise_for(faults, "files cannot be read", "mend or remove them")
    return [replace(row, sha256=str(digest)) for row, digest in zip(rows, digests, strict=True)]


def unit_of(row: Row) -> str:
    """Return what was left out with an image: its source, or where the data names none its group."""
    return row.source or row.group or str(row.path)


def source_weights(truth: npt.NDArray[np.str_], sources: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Return weights by which sources count the same within a label, labels within generated, and generated as real."""
    weights = np.zeros(len(truth))
    generated = sorted(set(truth.tolist()) - {REAL})
    for label in sorted(set(truth.tolist())):
        here = truth == label
        counts = Counter(sources[here].tolist())
        share = 1.0 if label == REAL else 1 / len(generated)
        weights[here] = [share / len(counts) / counts[source] for source in sources[here].tolist()]
    return weights


def row_weights(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """Return source_weights() of labelled images."""
    return source_weights(np.array([row.generator for row in rows]), np.array([unit_of(row) for row in rows]))


@dataclass(frozen=True)
class SplitShares:
    """How many images each side of a random split gets; shares hold in every cell."""

    val: float | None = None
    """Of the training images, for calibration, 0 for none; None: a tenth, but nothing of a split that is declared."""
    test: float = 0.2
    """Of all images, where nothing else says what is unseen."""
    adapt: float = 0.8
    """Of the unseen images, for `finetune` to adapt to; the rest is `test`."""
    adapt_images: int | None = None
    """So many of the unseen images instead, drawn from all of them alike, whatever their cell (143 of 180 in PAPER)."""


def split_rows(
    rows: Sequence[Row], seed: int, holdout: Sequence[str] = (), shares: SplitShares = SplitShares()
) -> list[Row]:
    """Give every row a split: the manifest's own, whole held-out sources or subjects, or a seeded random one.

    `holdout` has entries such as `source=NAME` or `subject=NAME`; their rows, and all that share a group or the
    same bytes with them, are unseen; a generator of which that takes nothing gives a random part, so that each
    one is tested. Unseen images are divided into `adapt` and `test`. Random parts are stratified by cell. A split that
    the manifest declares is taken as it is: only `val` and `adapt_images`, asked for, draw what it does not declare. A
    group is never split, and the same bytes are never on both sides. `rows` need hashes. Raises DataError otherwise.
    """
    parts = components(rows)
    own = any(row.split for row in rows)
    if own and holdout:
        raise UsageError("the manifest has a split column; leave out --holdout, or the column")
    if own:
        assigned = _own_splits(rows, shares)
    else:
        chosen = {parts[i] for i in _matching(rows, holdout)}
        assigned = ["test" if part in chosen else "train" for part in parts]
        tested = {row.generator for row, split in zip(rows, assigned, strict=True) if split == "test"}
        untested = [i for i, row in enumerate(rows) if row.generator not in tested]
        _move(rows, parts, assigned, untested, "test", shares.test, seed)
    if not own or shares.adapt_images is not None:
        _draw_adapt(rows, parts, assigned, seed, shares)
    val = (0.0 if own else _VAL) if shares.val is None else shares.val
    if val:
        trained = [i for i, split in enumerate(assigned) if split == "train"]
        _move(rows, parts, assigned, trained, "val", val, seed)
    _check_sides(rows, parts, assigned)
    return [replace(row, split=split) for row, split in zip(rows, assigned, strict=True)]


def redraw_adapt(rows: Sequence[Row], seed: int, shares: SplitShares = SplitShares()) -> list[Row]:
    """Divide the unseen images of a split into `adapt` and `test` anew; everything else stays as it is."""
    assigned = ["test" if row.split == "adapt" else row.split for row in rows]
    _draw_adapt(rows, components(rows), assigned, seed, shares)
    return [replace(row, split=split) for row, split in zip(rows, assigned, strict=True)]


def same_bytes_two_generators(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows whose bytes stand under another generator, too, those of one file together. Needs hashes."""
    by_bytes: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_bytes[row.sha256].append(row)
    return [same for same in by_bytes.values() if len({row.generator for row in same}) > 1]


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


def _read_folder(root: Path) -> list[Row]:
    rows = []
    for found in discover([root]):
        if isinstance(found, LeftOut):
            continue
        inside = found.relative_to(root).parts
        if len(inside) < 2:
            raise DataError(f"{found}: lies in no generator's folder; the layout is ROOT/<generator>/<subject>/...")
        rows.append(Row(found, inside[0].strip(), inside[1].strip() if len(inside) > 2 else ""))
    return rows


def _read_csv(path: Path) -> list[Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as stream:
            reader = csv.DictReader(stream, strict=True)
            lacking = [name for name in _REQUIRED[:2] if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(
                    f"{path}: has no column {' or '.join(lacking)}; a manifest has path, generator, subject "
                    "and optionally group, source, split"
                )
            numbered = [(reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a CSV manifest ({error})") from error
    faults = [f"line {line}: {fault}" for line, record in numbered if (fault := _fault(record, path.parent))]
    _raise_for(faults, f"rows of {path} are wrong", "correct or remove them")
    return [_row(record, path.parent) for _, record in numbered]


def _fault(record: Mapping[str, str | None], root: Path) -> str | None:
    if None in record or None in record.values():
        return "has another number of cells than the first line"
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


def _digest(path: Path) -> str | Unreadable:
    data = read_file(path)
    return data if isinstance(data, Unreadable) else sha256(data).hexdigest()


def _raise_for(faults: Sequence[str], what: str, remedy: str) -> None:
    if faults:
        more = f"; and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise DataError(f"{len(faults)} {what} ({'; '.join(faults[:_NAMED])}{more}); {remedy}")


def components(rows: Sequence[Row]) -> list[int]:
    """Return for each row the first row that it is tied to, by a chain of equal groups and equal bytes."""
    first = list(range(len(rows)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    seen: dict[tuple[str, str], int] = {}
    for i, row in enumerate(rows):
        for key in (("group", row.group), ("sha256", row.sha256)):
            if key[1]:
                a, b = root(i), root(seen.setdefault(key, i))
                first[max(a, b)] = min(a, b)
    return [root(i) for i in range(len(rows))]


def _draw(
    rows: Sequence[Row], parts: Sequence[int], candidates: Iterable[int], share: float, rng: np.random.Generator
) -> set[int]:
    """Draw whole components until each cell and each generator has given its share; returns row indices.

    The second pass, for generators alone, makes up for cells so small that their share rounds to nothing. Every
    generator gives one component at least and keeps one, where it has two.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i in candidates:
        members[parts[i]].append(i)
    order = [members[int(part)] for part in rng.permutation(sorted(members))]
    strata = [Counter(_strata(rows, component)) for component in order]
    left = {name: share * size for name, size in sum(strata, Counter[tuple[str, str]]()).items()}
    undrawn = Counter(name for names in strata for name in names)
    for name in (name for name in left if not name[1]):
        left[name] = max(left[name], float(min(names[name] for names in strata if name in names)))
    drawn: set[int] = set()
    for strict in (True, False):
        for component, names in zip(order, strata, strict=True):
            # half an image of slack rounds each share to the nearest whole number
            fits = all(n <= left[name] + 0.5 for name, n in names.items() if strict or not name[1])
            leaves_some = all(undrawn[name] > 1 for name in names if not name[1])
            if fits and leaves_some and component[0] not in drawn:
                drawn.update(component)
                left.update({name: left[name] - n for name, n in names.items()})
                undrawn.subtract(names.keys())
    return drawn


def _strata(rows: Sequence[Row], component: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Yield each row's cell and, with an empty second part, its generator."""
    for i in component:
        yield rows[i].generator, rows[i].subject or "-"
        yield rows[i].generator, ""


def _move(
    rows: Sequence[Row],
    parts: Sequence[int],
    assigned: list[str],
    candidates: Sequence[int],
    name: str,
    share: float,
    seed: int,
) -> None:
    """Assign a drawn share of the candidates to the split `name`, in place."""
    for i in _draw(rows, parts, candidates, share, generator_for(name, seed)):
        assigned[i] = name


def _draw_adapt(rows: Sequence[Row], parts: Sequence[int], assigned: list[str], seed: int, shares: SplitShares) -> None:
    """Assign a part of the unseen images to `adapt`, in place."""
    unseen = [i for i, split in enumerate(assigned) if split == "test"]
    if shares.adapt_images is None:
        _move(rows, parts, assigned, unseen, "adapt", shares.adapt, seed)
        return
    if shares.adapt_images >= len(unseen):
        raise UsageError(
            f"--adapt {shares.adapt_images} leaves nothing to test on: {len(unseen)} images are unseen; give a smaller "
            "number"
        )
    members: dict[int, list[int]] = defaultdict(list)
    for i in unseen:
        members[parts[i]].append(i)
    left = shares.adapt_images
    for part in generator_for("adapt", seed).permutation(sorted(members)):
        component = members[int(part)]
        if len(component) <= left:  # a group goes to one side as a whole
            left -= len(component)
            for i in component:
                assigned[i] = "adapt"


def _own_splits(rows: Sequence[Row], shares: SplitShares) -> list[str]:
    declared = {row.split for row in rows}
    for name, option, wanted in (("val", "--val", shares.val), ("adapt", "--adapt", shares.adapt_images)):
        if wanted is not None and name in declared:
            raise UsageError(f"the manifest declares which images are `{name}`; leave out {option}, or that split")
    lacking = sum(not row.split for row in rows)
    if lacking:
        raise DataError(
            f"{lacking} rows have no split while others have one; give every row one of {', '.join(SPLITS)}"
        )
    return [row.split for row in rows]


def _matching(rows: Sequence[Row], holdout: Sequence[str]) -> Iterator[int]:
    for entry in holdout:
        name, _, value = entry.partition("=")
        if name not in ("source", "subject", "generator", "group") or not value:
            raise UsageError(f"holdout {entry!r} is not understood; write source=NAME, subject=NAME or group=NAME")
        found = [i for i, row in enumerate(rows) if getattr(row, name) == value]
        if not found:
            known = sorted({str(getattr(row, name)) for row in rows})
            raise UsageError(f"holdout {entry!r} matches no row; {name}s are: {', '.join(known[:40])}")
        yield from found


def _check_sides(rows: Sequence[Row], parts: Sequence[int], assigned: Sequence[str]) -> None:
    sides: dict[int, set[str]] = defaultdict(set)
    for part, split in zip(parts, assigned, strict=True):
        sides[part].add(split)
    torn = [part for part, splits in sides.items() if len(splits) > 1]
    faults = [f"{rows[part].path.name} in {' and '.join(sorted(sides[part]))}" for part in torn]
    _raise_for(faults, "groups or identical files are on both sides of the split", "put each on one side")
    for needed in ("train", "test"):
        if needed not in assigned:
            raise DataError(f"the split leaves no {needed} images; change --holdout, the split column or the data")
    trained = {row.generator for row, split in zip(rows, assigned, strict=True) if split == "train"}
    lost = sorted({row.generator for row in rows} - trained)
    if lost:
        raise DataError(f"the split leaves no training images of {', '.join(lost)}; hold out less")
