"""Rows as columns say what rows as objects say."""

import pickle
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forensic_train.manifest import same_bytes_two_generators
from forensic_train.rows import Row, Rows, as_rows
from forensic_train.training_plan import split_digest

NAMES = st.sampled_from(["", "alpha", "béta", "train", "\udcff"])
ODD = st.sampled_from(["\udcff", "a\ud800", "\udcc3\udca9", "é"])
PATHS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8) | ODD
HASHES = st.sampled_from(["", "ab" * 32, "00" * 31 + "01", "01" + "00" * 31])
ROWS = st.lists(
    st.builds(
        lambda folder, name, *rest: Row(Path(folder, name), *rest),
        st.sampled_from(["/data/a", "b", "."]),
        PATHS,
        *(NAMES, NAMES, st.text(max_size=4) | ODD, NAMES, NAMES, HASHES),
    ),
    max_size=12,
)


def together(rows: Sequence[Row], field: str) -> list[list[int]]:
    places: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(getattr(row, field), []).append(i)
    return sorted(found for value, found in places.items() if value and len(found) > 1)


@given(ROWS)
def test_every_row_comes_back_as_it_was(rows: list[Row]) -> None:
    packed = Rows(rows)
    assert (len(packed), list(packed), [packed[i] for i in range(len(rows))]) == (len(rows), rows, rows)
    assert packed == rows
    assert pickle.loads(pickle.dumps(packed)) == rows
    assert packed[1:-1] == rows[1:-1]
    assert packed[::-1] == rows[::-1]
    assert as_rows(packed) is packed
    for name in ("generator", "subject", "source", "split"):
        assert packed.column(name) == [getattr(row, name) for row in rows]
        assert packed.where(name, ["alpha", ""]) == [row for row in rows if getattr(row, name) in ("alpha", "")]
    assert packed.where("split", iter(["train", "val"])) == [row for row in rows if row.split in ("train", "val")]
    assert packed.where("split", []) == []
    assert sorted(packed.same_bytes()) == together(rows, "sha256")
    assert sorted(packed.same_group()) == together(rows, "group")


@given(ROWS, st.data())
def test_a_changed_column_leaves_the_others_and_the_original(rows: list[Row], data: st.DataObject) -> None:
    packed = Rows(rows)
    splits = data.draw(st.lists(st.sampled_from(["train", "val"]), min_size=len(rows), max_size=len(rows)))
    assert packed.with_splits(splits) == [replace(row, split=split) for row, split in zip(rows, splits, strict=True)]
    digests = [bytes([i + 1]) * 32 for i in range(len(rows))]
    hashed = [replace(row, sha256=digest.hex()) for row, digest in zip(rows, digests, strict=True)]
    assert packed.with_digests(b"".join(digests)) == hashed
    assert packed.take([i % 2 == 0 for i in range(len(rows))]) == rows[::2]
    assert packed == rows


def test_a_place_that_does_not_exist_is_an_error() -> None:
    packed = Rows([Row(Path("a"), "x", "y")])
    assert packed[-1] == Row(Path("a"), "x", "y")
    with pytest.raises(IndexError):
        packed[1]
    assert packed != [Row(Path("b"), "x", "y")]
    assert packed != []


def test_what_does_not_fit_the_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"^'abab' is not a sha256$"):
        Rows([Row(Path("a"), "x", "y", sha256="abab")])
    with pytest.raises(ValueError, match=r"^3 splits for 1 rows$"):
        Rows([Row(Path("a"), "x", "y")]).with_splits(["train"] * 3)


@given(ROWS)
def test_the_hash_of_a_split_depends_on_bytes_labels_and_splits_but_not_on_the_order(rows: list[Row]) -> None:
    lines = sorted(f"{row.sha256} {row.generator} {row.subject} {row.split}" for row in rows)
    expected = sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
    assert split_digest(rows) == split_digest(rows[::-1]) == expected


def test_files_under_two_generators_are_listed_in_the_order_of_the_images() -> None:
    hashes = ["ff" * 32, "11" * 32, "ff" * 32, "11" * 32, "22" * 32, "22" * 32]
    rows = [Row(Path(str(i)), "ab"[i % 4 // 2], "", sha256=digest) for i, digest in enumerate(hashes)]
    assert same_bytes_two_generators(rows) == [[rows[0], rows[2]], [rows[1], rows[3]]]
