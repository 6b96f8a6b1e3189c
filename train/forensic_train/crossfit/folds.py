"""Folds for cross-fitting, which hold out whole sources, subjects or generators."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from forensic_cli.card import REAL, UNKNOWN
from forensic_cli.errors import DataError
from forensic_train.rows import Row, Rows, as_rows
from forensic_train.splits import components


def assign_folds(rows: Sequence[Row], unit: str, folds: int) -> list[int]:
    """Return the fold of each row; units (`source` or `subject`) stay whole, and generators are spread over all folds.

    Units are assigned from the largest to the smallest, each to the fold that it unbalances least. A generator with
    a single unit is divided by groups instead, because otherwise one fold would have no training images of it. Rows
    that share a group or their bytes stay together. Raises DataError if a row has no unit.
    """
    if any(not getattr(row, unit) for row in rows):
        raise DataError(f"some images have no {unit}, so none can be left out; add a column {unit} to the manifest")
    units: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        units[row.generator].add(getattr(row, unit))
    parts = components(rows)
    blocks: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        single = len(units[row.generator]) == 1
        blocks[(row.generator, f"group {parts[i]}") if single else ("", getattr(row, unit))].append(i)
    totals = Counter(row.generator for row in rows)
    load: list[Counter[str]] = [Counter() for _ in range(folds)]
    assigned = [-1] * len(rows)
    for _, block in sorted(blocks.items(), key=lambda item: (-len(item[1]), item[0])):
        counts = Counter(rows[i].generator for i in block)

        def unbalance(fold: int, counts: Counter[str] = counts) -> float:
            before = load[fold]
            return sum(((before[g] + n) / totals[g]) ** 2 - (before[g] / totals[g]) ** 2 for g, n in counts.items())

        best = min(range(folds), key=unbalance)
        load[best].update(counts)
        for i in block:
            assigned[i] = best
    return _together(assigned, parts)


def fold_splits(rows: Sequence[Row], unit: str, folds: int, adapting: bool) -> list[Rows]:
    """Return one split of all rows per fold: held-out rows are `test`, all others are `train`.

    With the unit `generator` there is a fold for each generator except `real` and `unknown`. It also holds out
    1 / `folds` of the sources of all others, to compare its images with known generators from unseen sources.
    `adapting`: every second held-out unit of a known generator becomes `adapt`, for `finetune`, which is then tested on
    units it has not seen.
    """
    if unit == "generator":
        names = sorted({row.generator for row in rows} - {REAL, UNKNOWN})
        by_source = assign_folds(rows, "source", folds)
        held = [
            [row.generator == name or fold == k % folds for row, fold in zip(rows, by_source, strict=True)]
            for k, name in enumerate(names)
        ]
    else:
        by_unit = assign_folds(rows, unit, folds)
        held = [[fold == k for fold in by_unit] for k in range(folds)]
    return [_split(rows, flags, "source" if unit == "generator" else unit, adapting) for flags in held]


def _split(rows: Sequence[Row], held: Sequence[bool], unit: str, adapting: bool) -> Rows:
    """Return the rows of one fold with their splits."""
    adapted = _adapted(rows, held, unit) if adapting else set()
    return as_rows(rows).with_splits(
        ("adapt" if _unit_of(row, unit) in adapted else "test") if flag else "train"
        for row, flag in zip(rows, held, strict=True)
    )


def _adapted(rows: Sequence[Row], held: Sequence[bool], unit: str) -> set[str]:
    """Return every second held-out unit of each generator, except units of generators that training does not know.

    A unit with several generators goes to the side on which they have fewer units.
    """
    known = {row.generator for row, flag in zip(rows, held, strict=True) if not flag}
    generators: dict[str, set[str]] = defaultdict(set)
    for row, flag in zip(rows, held, strict=True):
        if flag:
            generators[_unit_of(row, unit)].add(row.generator)
    adapted: set[str] = set()
    tested: Counter[str] = Counter()  # units to test on minus units to adapt to
    for name, shown in generators.items():
        step = -1 if shown <= known and sum(tested[generator] for generator in shown) > 0 else 1
        tested.update(dict.fromkeys(shown, step))
        if step < 0:
            adapted.add(name)
    return adapted


def _unit_of(row: Row, unit: str) -> str:
    return str(getattr(row, unit))


def _together(assigned: Sequence[int], parts: Sequence[int]) -> list[int]:
    """Assign every member of a component to the fold of its first member."""
    return [assigned[part] for part in parts]
