"""The manifest and the split: what is read, what is refused, and what never lies on two sides."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from forensic_cli.errors import DataError, GenforensicError, UsageError
from forensic_train.manifest import count_cells, has_subjects, read_manifest, with_hashes, write_rows
from forensic_train.rows import Row
from forensic_train.splits import SplitShares, redraw_adapt, split_rows
from toy_training import hashed


def image(path: Path, colour: tuple[int, int, int] = (1, 2, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path


def manifest(folder: Path, *lines: str) -> Path:
    path = folder / "m.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def failure(data: Path, kind: type[GenforensicError] = DataError) -> str:
    with pytest.raises(kind) as caught:
        read_manifest(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_name_generator_and_subject(tmp_path: Path) -> None:
    image(tmp_path / "b" / "cat" / "deep" / "1.png")
    image(tmp_path / "a" / "2.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    rows = read_manifest(tmp_path)
    assert [(row.path.name, row.generator, row.subject) for row in rows] == [("2.png", "a", ""), ("1.png", "b", "cat")]
    assert not has_subjects(rows)


def test_a_csv_is_read_relative_to_its_folder_with_every_column(tmp_path: Path) -> None:
    image(tmp_path / "in" / "1.png")
    image(tmp_path / "in" / "2.png")
    path = manifest(
        tmp_path,
        "split,source,group,subject,generator,path",
        "train,lab,g1,cat,a,in/1.png",
        "test,net,,dog, b ,in/2.png",
    )
    assert read_manifest(path) == [
        Row(tmp_path / "in" / "1.png", "a", "cat", "g1", "lab", "train"),
        Row(tmp_path / "in" / "2.png", "b", "dog", "", "net", "test"),
    ]


def test_a_csv_needs_no_subject_and_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    image(tmp_path / "1.png")
    path = tmp_path / "m.csv"
    path.write_text("path,generator\n1.png,a\n1.png,b\n", encoding="utf-8-sig")
    assert [(row.generator, row.subject) for row in read_manifest(path)] == [("a", ""), ("b", "")]


def test_a_folder_with_a_manifest_is_read_through_it(tmp_path: Path) -> None:
    image(tmp_path / "x" / "1.png")
    manifest(tmp_path, "path,generator", "x/1.png,real", "x/1.png,fake").rename(tmp_path / "manifest.csv")
    assert {row.generator for row in read_manifest(tmp_path)} == {"real", "fake"}


def test_rows_survive_writing_and_reading(tmp_path: Path) -> None:
    one, two = image(tmp_path / 'odd, "name" ä.png'), image(tmp_path / "2.png", (9, 9, 9))
    rows = [Row(one, "a", "cat", "g", "s", "val"), Row(two, "b", "dog", "", "", "test")]
    write_rows(tmp_path / "split.csv", rows)
    assert read_manifest(tmp_path / "split.csv") == rows


def test_hashes_of_unreadable_files_name_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 files cannot be read \(.*gone\.png: the file is gone\)"):
        with_hashes([Row(image(tmp_path / "1.png"), "a", ""), Row(tmp_path / "gone.png", "b", "")])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,subject", "1.png,cat")
    assert failure(path) == (
        f"{path}: has no column generator; a manifest has the columns path, generator, subject and optionally group, "
        "source, split"
    )
    assert "has no column path or generator;" in failure(manifest(tmp_path, "file,label", "1.png,a"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("1.png,a", "line 3: does not have as many cells as the header"),
        ("1.png,a,train,more", "line 3: does not have as many cells as the header"),
        ("1.png,,train", "line 3: has no generator"),
        (" ,a,train", "line 3: has no path"),
        ("1.png,a,dev", "line 3: split is 'dev'; allowed: train, val, adapt, test"),
        ("gone.png,a,train", "line 3: gone.png: no such file"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, line: str, fault: str) -> None:
    image(tmp_path / "1.png")
    path = manifest(tmp_path, "path,generator,split", "1.png,b,train", line)
    assert failure(path) == f"1 rows of {path} are wrong ({fault}); correct or remove them"


def test_of_many_missing_files_five_are_named(tmp_path: Path) -> None:
    text = failure(manifest(tmp_path, "path,generator", *(f"{i}.png,a" for i in range(8))))
    assert text.startswith("8 rows of ")
    assert "line 6: 4.png: no such file; and 3 more" in text
    assert "5.png" not in text


def test_other_broken_data_is_refused_in_one_line(tmp_path: Path) -> None:
    assert failure(tmp_path / "nothing", UsageError).endswith(
        "nothing: no such file or folder; give ROOT/<generator>/<subject>/... or a CSV"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    assert failure(empty) == f"{empty}: has no images; attribution needs images of at least two generators"
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00path")
    assert f"{binary}: has no column path or generator" in failure(binary)


def test_one_generator_is_not_enough(tmp_path: Path) -> None:
    image(tmp_path / "only" / "cat" / "1.png")
    assert failure(tmp_path) == (
        f"{tmp_path}: has one generator (only); attribution needs images of at least two generators"
    )


def test_an_image_outside_every_generators_folder_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "a" / "1.png")
    image(tmp_path / "b" / "1.png")
    stray = image(tmp_path / "stray.png")
    assert failure(tmp_path) == f"{stray}: is not in a generator's folder; the layout is ROOT/<generator>/<subject>/..."


# Splitting


@st.composite
def tied_rows(draw: st.DrawFn) -> list[Row]:
    """Rows of two to four generators; some share a group or bytes, across cells as well."""
    rows = []
    for g in range(draw(st.integers(2, 4))):
        for s in range(draw(st.integers(1, 2))):
            for i in range(draw(st.integers(15, 30))):
                rows.append(Row(Path(f"{g}-{s}-{i}.png"), f"g{g}", f"s{s}", sha256=hashed(f"{g}-{s}-{i}")))
    for _ in range(draw(st.integers(0, 6))):
        a, b = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(rows) - 1))
        old = rows[b]
        if draw(st.booleans()):
            rows[b] = Row(old.path, old.generator, old.subject, old.group, "", "", rows[a].sha256)
        else:
            name = rows[a].group or f"group{a}"
            rows[a] = Row(rows[a].path, rows[a].generator, rows[a].subject, name, "", "", rows[a].sha256)
            rows[b] = Row(rows[b].path, rows[b].generator, rows[b].subject, name, "", "", rows[b].sha256)
    return rows


@settings(max_examples=60, deadline=None)
@given(rows=tied_rows(), seed=st.integers(0, 2**31))
def test_a_split_tears_nothing_apart_and_depends_on_the_seed_alone(rows: list[Row], seed: int) -> None:
    split = split_rows(rows, seed)
    assert [(row.path, row.generator, row.subject) for row in split] == [
        (row.path, row.generator, row.subject) for row in rows
    ]
    assert split_rows(rows, seed) == split
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in split:
        sides["bytes", row.sha256].add(row.split)
        if row.group:
            sides["group", row.group].add(row.split)
    assert all(len(found) == 1 for found in sides.values())
    generators = {row.generator for row in rows}
    for name in ("train", "test"):
        assert {row.generator for row in split if row.split == name} == generators


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(3, 14), min_size=2, max_size=4), seed=st.integers(0, 999))
def test_even_a_small_generator_is_trained_and_tested(sizes: list[int], seed: int) -> None:
    rows = [
        Row(Path(f"{g}-{i}"), f"g{g}", "", sha256=hashed(f"{g}-{i}")) for g, n in enumerate(sizes) for i in range(n)
    ]
    split = split_rows(rows, seed)
    for name in ("train", "test"):
        assert {row.generator for row in split if row.split == name} == {row.generator for row in rows}


def test_even_a_generator_of_few_large_groups_is_trained_and_tested() -> None:
    """A fifth of 30 images is less than one of its three groups: one whole group is tested all the same."""
    rows = [Row(Path(f"{g}-{i}"), g, "", f"{g}{i // 10}", sha256=hashed(f"{g}-{i}")) for g in "ab" for i in range(30)]
    split = split_rows(rows, 0)
    for name in ("train", "test"):
        assert {row.generator for row in split if row.split == name} == {"a", "b"}


def cell(generator: str, subject: str, count: int, **more: str) -> list[Row]:
    name = f"{generator}-{subject}"
    return [Row(Path(f"{name}-{i}"), generator, subject, sha256=hashed(f"{name}-{i}"), **more) for i in range(count)]


def test_the_shares_of_a_random_split_hold_in_every_cell() -> None:
    rows = cell("a", "cat", 100) + cell("a", "dog", 200) + cell("b", "cat", 300)
    split = split_rows(rows, 7)
    counts = {
        name: count_cells([row for row in split if row.split == name]) for name in ("train", "val", "adapt", "test")
    }
    # of 100: 20 unseen, 16 of them to adapt to; of the other 80 a tenth for calibration
    assert counts["adapt"] == {"a": {"cat": 16, "dog": 32}, "b": {"cat": 48}}
    assert counts["test"] == {"a": {"cat": 4, "dog": 8}, "b": {"cat": 12}}
    assert counts["val"] == {"a": {"cat": 8, "dog": 16}, "b": {"cat": 24}}
    assert counts["train"] == {"a": {"cat": 72, "dog": 144}, "b": {"cat": 216}}


def test_another_seed_gives_another_split() -> None:
    rows = cell("a", "cat", 40) + cell("b", "cat", 40)
    assert split_rows(rows, 1) != split_rows(rows, 2)


def test_a_held_out_subject_is_seen_by_nobody() -> None:
    rows = [row for g in "ab" for s in ("cat", "vehicle") for row in cell(g, s, 20)]
    split = split_rows(rows, 0, ["subject=vehicle"])
    assert {row.subject for row in split if row.split in ("train", "val")} == {"cat"}
    assert {row.subject for row in split if row.split in ("adapt", "test")} == {"vehicle"}
    assert {row.generator for row in split if row.split == "test"} == {"a", "b"}


def test_a_held_out_source_takes_its_groups_along_and_every_generator_is_tested_still() -> None:
    rows = cell("a", "cat", 20, source="net") + cell("a", "dog", 20, source="lab") + cell("b", "cat", 40, source="lab")
    rows[0] = Row(rows[0].path, "a", "cat", "one prompt", "net", "", hashed("x"))
    rows[20] = Row(rows[20].path, "a", "dog", "one prompt", "lab", "", hashed("y"))
    split = split_rows(rows, 0, ["source=net"])
    unseen = [row for row in split if row.split in ("adapt", "test")]
    assert {row.path for row in unseen if row.generator == "a"} == {row.path for row in rows[:21]}
    # b has nothing of that source: a random fifth of it is unseen
    assert sum(row.generator == "b" for row in unseen) == 8


def test_an_unknown_holdout_says_what_there_is() -> None:
    rows = cell("a", "cat", 20) + cell("b", "dog", 20)
    with pytest.raises(UsageError) as caught:
        split_rows(rows, 0, ["subject=horse"])
    assert str(caught.value) == "--holdout 'subject=horse' matches no row; subjects are: cat, dog"
    with pytest.raises(UsageError, match="--holdout 'horse' is not understood; write source=NAME, subject=NAME"):
        split_rows(rows, 0, ["horse"])


def test_a_holdout_that_leaves_no_training_images_is_refused() -> None:
    rows = cell("a", "cat", 20) + cell("b", "dog", 20)
    with pytest.raises(DataError, match="the split leaves no training images of a; hold out less"):
        split_rows(rows, 0, ["subject=cat"])


def own(*splits: str, **more: str) -> list[Row]:
    return [
        Row(Path(f"{g}{i}"), g, "cat", sha256=hashed(f"{g}{i}"), split=split, **more)
        for g in "ab"
        for i, split in enumerate(splits)
    ]


def test_a_users_own_split_is_kept() -> None:
    rows = own("train", "val", "adapt", "test")
    assert split_rows(rows, 0) == rows


def test_a_users_own_split_that_leaks_is_refused() -> None:
    rows = own("train", "val", "adapt", "test")
    rows[3] = Row(rows[3].path, "a", "cat", sha256=rows[0].sha256, split="test")
    with pytest.raises(DataError) as caught:
        split_rows(rows, 0)
    assert str(caught.value) == (
        "1 groups or identical files are on both sides of the split (a0 in test and train); put each on one side only"
    )
    with pytest.raises(DataError, match="on both sides of the split"):
        split_rows(own("train", "val", "adapt", "test", group="one"), 0)


def test_a_split_for_some_rows_only_is_refused() -> None:
    with pytest.raises(DataError, match="2 rows have no split although others have one"):
        split_rows(own("train", "test", ""), 0)


def test_a_generator_cannot_bear_the_name_of_a_verdict(tmp_path: Path) -> None:
    for name in ("inconclusive", "real"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(
        DataError, match=r"'inconclusive' is a verdict and cannot be the name of a generator; rename it$"
    ):
        read_manifest(tmp_path)


def test_declared_test_images_stay_test_images_and_exclude_a_holdout() -> None:
    rows = [
        Row(Path(f"{g}-{i}"), g, "cat", split="test" if i < 10 else "train", sha256=hashed(f"{g}-{i}"))
        for g in ("a", "b")
        for i in range(30)
    ]
    split = split_rows(rows, 0)
    assert {row.path for row in split if row.split == "test"} == {row.path for row in rows if row.split == "test"}
    with pytest.raises(UsageError, match=r"^the manifest has a split column; remove that column, or --holdout$"):
        split_rows(rows, 0, ["subject=cat"])


def test_a_declared_split_is_not_divided_any_further() -> None:
    rows = own(*["train"] * 20, *["test"] * 10)
    assert split_rows(rows, 0) == rows
    split = split_rows(rows, 0, shares=SplitShares(val=0.1, adapt_images=15))
    assert count_cells(split, "split", "generator") == {
        "adapt": {g: n for g in "ab" if (n := sum(r.split == "adapt" and r.generator == g for r in split))},
        "test": {g: n for g in "ab" if (n := sum(r.split == "test" and r.generator == g for r in split))},
        "train": {"a": 18, "b": 18},
        "val": {"a": 2, "b": 2},
    }
    assert sum(row.split == "adapt" for row in split) == 15
    declared = {row.path: row.split for row in rows}
    assert all((row.split in ("adapt", "test")) == (declared[row.path] == "test") for row in split)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        (SplitShares(val=0.1), "the manifest declares which images are `val`; remove --val, or that split"),
        (
            SplitShares(adapt_images=1),
            "the manifest declares which images are `adapt`; remove --adapt, or that split",
        ),
    ],
)
def test_what_a_manifest_declares_is_not_drawn_again(shares: SplitShares, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_rows(own("train", "val", "adapt", "test"), 0, shares=shares)
    assert str(caught.value) == message


def test_the_papers_split_trains_on_all_and_adapts_to_143_of_180_whatever_they_show() -> None:
    rows = [row for g in "abcdef" for row in cell(g, "cat", 50) + cell(g, "vehicle", 30)]
    splits = [split_rows(rows, seed, ["subject=vehicle"], SplitShares(val=0, adapt_images=143)) for seed in range(5)]
    for split in splits:
        assert {name: sum(row.split == name for row in split) for name in ("train", "val", "adapt", "test")} == {
            "train": 300,
            "val": 0,
            "adapt": 143,
            "test": 37,
        }
    assert len({tuple(row.path for row in split if row.split == "test") for split in splits}) == 5
    assert any(
        len({sum(r.split == "test" and r.generator == g for r in split) for g in "abcdef"}) > 2 for split in splits
    ), "the draws are not stratified"
    assert redraw_adapt(splits[0], 3, SplitShares(adapt_images=143)) == splits[3]
    with pytest.raises(UsageError, match=r"^--adapt 180 leaves nothing to test on: only 180 images are unseen;"):
        split_rows(rows, 0, ["subject=vehicle"], SplitShares(adapt_images=180))


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    odd = image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/cat/\xe9.png")))
    rows = [Row(odd, "a", "cat", split="train"), Row(image(tmp_path / "b" / "1.png"), "b", "dog", split="test")]
    write_rows(tmp_path / "split.csv", rows)
    assert read_manifest(tmp_path / "split.csv") == rows
