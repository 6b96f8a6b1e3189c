"""Splits of labelled images into train, val, adapt and test, which never divide a group or identical files."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from forensic_cli.errors import DataError, UsageError
from forensic_train.manifest import SPLITS, raise_for
from forensic_train.rows import Row, Rows, as_rows
from forensic_train.seeds import generator_for

_VAL = 0.1
"""Share of the training images that is kept for calibration unless the user says otherwise."""


@dataclass(frozen=True)
class SplitShares:
    """How a random split is divided; shares apply within every cell (a generator and a subject)."""

    val: float | None = None
    """Share of the training images kept for calibration, 0 for none; None: a tenth, or none if the manifest declares
    a split."""
    test: float = 0.2
    """Share of all images that is tested on, unless a hold-out or the manifest decides that."""
    adapt: float = 0.8
    """Share of the unseen images that `finetune` adapts to; the rest is `test`."""
    adapt_images: int | None = None
    """Number of unseen images to adapt to instead, drawn regardless of their cell (143 of 180 in PAPER)."""


def split_rows(
    rows: Sequence[Row], seed: int, holdout: Sequence[str] = (), shares: SplitShares = SplitShares()
) -> Rows:
    """Assign every row to a split: the manifest's own, held-out sources or subjects, or a seeded random one.

    `holdout`: entries such as `source=NAME` or `subject=NAME`. Their rows are unseen, and so are all rows that share
    a group or their bytes with them. A generator without any unseen images contributes a random part, so that every
    generator is tested. Unseen images are divided into `adapt` and `test`; random parts are stratified by cell.

    A split that the manifest declares is kept; `val` and `adapt_images` are then drawn only if they are asked for.
    `rows` need hashes. Raises DataError if a group or identical files end up on both sides, or a side is empty, and
    UsageError for options that contradict the manifest.
    """
    rows = as_rows(rows)
    parts = components(rows)
    own = any(rows.column("split"))
    if own and holdout:
        raise UsageError("the manifest has a split column; remove that column, or --holdout")
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
    return rows.with_splits(assigned)


def redraw_adapt(rows: Sequence[Row], seed: int, shares: SplitShares = SplitShares()) -> Rows:
    """Divide the unseen images into `adapt` and `test` again with another seed; all other splits stay the same."""
    rows = as_rows(rows)
    assigned = ["test" if split == "adapt" else split for split in rows.column("split")]
    _draw_adapt(rows, components(rows), assigned, seed, shares)
    return rows.with_splits(assigned)


def components(rows: Sequence[Row]) -> Sequence[int]:
    """Return for each row the index of the first row it must stay with: a chain of equal groups or equal bytes."""
    # Union-find with path halving; the smallest index of a component is its root
    first = array("q", range(len(rows)))

    def root(i: int) -> int:
        while first[i] != i:
            first[i] = first[first[i]]
            i = first[i]
        return i

    packed = as_rows(rows)
    for places in chain(packed.same_group(), packed.same_bytes()):
        for i in places[1:]:
            a, b = root(i), root(places[0])
            first[max(a, b)] = min(a, b)
    return array("q", map(root, range(len(rows))))


def _draw(
    rows: Rows, parts: Sequence[int], candidates: Iterable[int], share: float, rng: np.random.Generator
) -> set[int]:
    """Draw whole components until each cell and each generator has contributed its share; returns row indices.

    The second pass ignores cells and makes up for those so small that their share rounds to nothing. A generator with
    two components or more contributes at least one and keeps at least one.
    """
    order = _drawn_order(parts, candidates, rng)
    generators, subjects = rows.column("generator"), rows.column("subject")

    def strata(component: Sequence[int]) -> Counter[tuple[str, str]]:
        """Count the cells of a component, and its generators as pairs with an empty second part."""
        return Counter((generators[i], part) for i in component for part in (subjects[i] or "-", ""))

    total, undrawn, smallest = Counter[tuple[str, str]](), Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for component in order():
        names = strata(component)
        total.update(names)
        undrawn.update(names.keys())
        smallest.update({name: min(n, smallest.get(name, n)) for name, n in names.items()})
    left = {name: share * size for name, size in total.items()}
    left.update({name: max(left[name], float(smallest[name])) for name in left if not name[1]})
    drawn: set[int] = set()
    for strict in (True, False):
        for component in order():
            names = strata(component)
            # Half an image of slack rounds each share to the nearest whole number
            fits = all(n <= left[name] + 0.5 for name, n in names.items() if strict or not name[1])
            leaves_some = all(undrawn[name] > 1 for name in names if not name[1])
            if fits and leaves_some and component[0] not in drawn:
                drawn.update(component)
                left.update({name: left[name] - n for name, n in names.items()})
                undrawn.subtract(names.keys())
    return drawn


def _drawn_order(
    parts: Sequence[int], candidates: Iterable[int], rng: np.random.Generator
) -> Callable[[], Iterator[list[int]]]:
    """Return a function that yields the candidates by component, the components in an order drawn here once."""
    places = np.fromiter(candidates, np.int64)
    labels = np.asarray(parts, np.int64)[places]
    _, sizes = np.unique(labels, return_counts=True)
    places = places[np.argsort(labels, kind="stable")]
    stops = np.cumsum(sizes)
    drawn = rng.permutation(len(sizes))

    def order() -> Iterator[list[int]]:
        for k in drawn:
            yield places[stops[k] - sizes[k] : stops[k]].tolist()

    return order


def _move(
    rows: Rows,
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


def _draw_adapt(rows: Rows, parts: Sequence[int], assigned: list[str], seed: int, shares: SplitShares) -> None:
    """Assign some of the unseen images to `adapt`, in place."""
    unseen = [i for i, split in enumerate(assigned) if split == "test"]
    if shares.adapt_images is None:
        _move(rows, parts, assigned, unseen, "adapt", shares.adapt, seed)
        return
    if shares.adapt_images >= len(unseen):
        raise UsageError(
            f"--adapt {shares.adapt_images} leaves nothing to test on: only {len(unseen)} images are unseen; give a "
            "smaller number"
        )
    left = shares.adapt_images
    for component in _drawn_order(parts, unseen, generator_for("adapt", seed))():
        if len(component) <= left:  # a group goes to one side as a whole
            left -= len(component)
            for i in component:
                assigned[i] = "adapt"


def _own_splits(rows: Rows, shares: SplitShares) -> list[str]:
    splits = rows.column("split")
    declared = set(splits)
    for name, option, wanted in (("val", "--val", shares.val), ("adapt", "--adapt", shares.adapt_images)):
        if wanted is not None and name in declared:
            raise UsageError(f"the manifest declares which images are `{name}`; remove {option}, or that split")
    lacking = splits.count("")
    if lacking:
        raise DataError(
            f"{lacking} rows have no split although others have one; give every row one of {', '.join(SPLITS)}"
        )
    return splits


def _matching(rows: Sequence[Row], holdout: Sequence[str]) -> Iterator[int]:
    for entry in holdout:
        name, _, value = entry.partition("=")
        if name not in ("source", "subject", "generator", "group") or not value:
            raise UsageError(f"--holdout {entry!r} is not understood; write source=NAME, subject=NAME or group=NAME")
        matches = [i for i, row in enumerate(rows) if getattr(row, name) == value]
        if not matches:
            known = sorted({str(getattr(row, name)) for row in rows})
            raise UsageError(f"--holdout {entry!r} matches no row; {name}s are: {', '.join(known[:40])}")
        yield from matches


def _check_sides(rows: Rows, parts: Sequence[int], assigned: Sequence[str]) -> None:
    torn = {part for part, split in zip(parts, assigned, strict=True) if split != assigned[part]}
    sides: dict[int, set[str]] = {part: set() for part in sorted(torn)}
    for part, split in zip(parts, assigned, strict=True):
        if part in sides:
            sides[part].add(split)
    faults = [f"{rows[part].path.name} in {' and '.join(sorted(sides[part]))}" for part in sides]
    raise_for(faults, "groups or identical files are on both sides of the split", "put each on one side only")
    for needed in ("train", "test"):
        if needed not in assigned:
            raise DataError(f"the split leaves no {needed} images; change --holdout, the split column or the data")
    generators = rows.column("generator")
    trained = {generator for generator, split in zip(generators, assigned, strict=True) if split == "train"}
    lost = sorted(set(generators) - trained)
    if lost:
        raise DataError(f"the split leaves no training images of {', '.join(lost)}; hold out less")
