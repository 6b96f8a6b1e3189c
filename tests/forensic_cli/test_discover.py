"""Tests of discover: a stable order, no loops, nothing special opened, and a reason for each thing left out."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forensic_cli.discover import IMAGE_SUFFIXES, LISTED, LeftOut, Search, discover, listed_paths, rediscover, sources
from forensic_cli.errors import UsageError
from forensic_cli.pipeline import Reading, prepare
from toys import drop_root_override, genforensic, make_images, obeys_permissions, rows_of, solid


def names(root: Path, recursive: bool = True) -> list[str]:
    found = discover([root], Search(recursive))
    return [str(path.relative_to(root)) for path in found if isinstance(path, Path)]


def reasons(root: Path) -> dict[str, str]:
    return {str(one.path.relative_to(root)): one.reason for one in discover([root]) if isinstance(one, LeftOut)}


def test_order_is_by_name_folder_by_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/b/c.png", "c.png", "a.png", "B.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path) == ["B.png", "a/b/c.png", "a/z.png", "a.png", "b.png", "c.png"]
    assert names(tmp_path, recursive=False) == ["B.png", "a.png", "b.png", "c.png"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("abcXYZ019 é", min_size=1, max_size=6).map(str.strip).filter(bool), unique=True, max_size=8))
def test_the_order_of_creation_does_not_matter(stems: list[str]) -> None:
    import tempfile

    orders = []
    for some in (stems, stems[::-1]):
        with tempfile.TemporaryDirectory() as folder:
            for stem in some:
                (Path(folder) / f"{stem}.png").write_bytes(b"x")
            orders.append(names(Path(folder)))
    assert orders[0] == orders[1] == sorted(f"{stem}.png" for stem in stems)


@pytest.mark.parametrize(("name", "code", "status"), [("d", 0, "ok"), ("ten-letter", 1, "unreadable")])
def test_folders_may_lie_deeper_than_calls_and_paths_can(
    name: str, code: int, status: str, run: Any, toy_exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = solid(tmp_path / "a.png", (255, 0, 0))
    monkeypatch.chdir(tmp_path)
    make_chain(name, 1500, image)
    try:
        done = run("scan", name, "--exports", toy_exports, "-f", "jsonl")
    finally:
        remove_chain(name, 1500)  # pytest's own removal would not reach the end
    assert (done.exit_code, done.stderr) == (code, "")
    assert [row["status"] for row in rows_of(done.stdout)] == [status]


def make_chain(name: str, levels: int, image: Path) -> None:
    """Make a folder of one name in the other, step by step, with an image in the innermost."""
    here = Path.cwd()
    for _ in range(levels):
        Path(name).mkdir()
        os.chdir(name)
    os.link(image, "a.png")
    os.chdir(here)


def remove_chain(name: str, levels: int) -> None:
    for _ in range(levels):
        os.chdir(name)
    Path("a.png").unlink()
    for _ in range(levels):
        os.chdir("..")
        Path(name).rmdir()


def test_the_order_of_the_arguments_is_kept(tmp_path: Path) -> None:
    one, two = make_images(tmp_path / "one"), make_images(tmp_path / "two")
    file = solid(tmp_path / "m.png", (0, 0, 0))
    found = list(discover([two, file, one]))
    assert found == [*sorted(two.iterdir()), file, *sorted(one.iterdir())]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    solid(tmp_path / "a.png", (0, 0, 0))
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path) == ["a.png"]
    assert reasons(tmp_path) == {"loop": "a link to a folder"}


def test_a_link_to_a_folder_that_the_user_names_is_searched(tmp_path: Path) -> None:
    make_images(tmp_path / "real")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real", target_is_directory=True)
    assert [path.name for path in discover([link])][:2] == ["1-red.png", "2-green.webp"]


def test_a_link_to_an_image_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "b.png").symlink_to(solid(tmp_path / "a.png", (0, 0, 0)))
    assert names(tmp_path) == ["a.png", "b.png"]


def test_a_broken_link_in_a_folder_gets_a_row(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert names(tmp_path) == ["gone.png"]


def test_a_broken_link_that_the_user_names_gets_a_row(tmp_path: Path) -> None:
    link = tmp_path / "gone.png"
    link.symlink_to(tmp_path / "nowhere.png")
    assert sources([str(link)]) == [link]
    assert list(discover([link])) == [link]


def test_a_pipe_is_never_opened(tmp_path: Path, toy_exports: Path) -> None:
    """To open a pipe that nobody writes to would wait for ever: the child's time limit tells."""
    solid(tmp_path / "b.png", (255, 0, 0))
    for name in ("a.png", "pipe"):
        os.mkfifo(tmp_path / name)
    assert reasons(tmp_path) == {"a.png": "not a regular file", "pipe": "not a regular file"}
    done = genforensic("scan", tmp_path, "--exports", toy_exports, "-f", "csv", timeout=30)
    assert done.returncode == 0
    assert [line.split(",")[0] for line in done.stdout.splitlines()[1:]] == [str(tmp_path / "b.png")]


def test_a_pipe_that_the_user_names_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert list(discover([tmp_path / "a.png"])) == [LeftOut(tmp_path / "a.png", "not a regular file")]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "AVIF"])
def test_an_image_with_a_wrong_suffix_is_found_by_its_content(tmp_path: Path, kind: str) -> None:
    for name in ("evidence.dat", "noname"):
        solid(tmp_path / name, (1, 2, 3), format=kind)
    assert names(tmp_path) == ["evidence.dat", "noname"]


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_an_image_suffix_is_enough_for_a_row(tmp_path: Path, suffix: str) -> None:
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).write_text("not an image at all")
    assert names(tmp_path) == [f"a{suffix}", f"b{suffix.upper()}"]


def test_other_files_are_left_out_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("BMW, GIFT and other words")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "bm.txt").write_bytes(b"BM looks like a bitmap")
    assert reasons(tmp_path) == dict.fromkeys(("notes.txt", "empty", "bm.txt"), "not an image")
    assert names(tmp_path) == []


def test_a_file_that_the_user_names_is_always_scanned(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    assert list(discover([tmp_path / "notes.txt"])) == [tmp_path / "notes.txt"]


def test_the_first_path_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        sources([str(tmp_path), str(tmp_path / "b"), str(tmp_path / "a")])
    assert str(caught.value) == f"{tmp_path / 'b'}: no such file or folder; give existing images or folders"


def test_a_path_behind_a_closed_door_is_not_called_missing(toy_exports: Path, images: Path) -> None:
    if not obeys_permissions():
        pytest.skip("root cannot give up its override of permissions here")
    hidden = images / "1-red.png"
    images.chmod(0)
    try:
        options = {"preexec_fn": drop_root_override} if os.geteuid() == 0 else {}
        done = genforensic("scan", hidden, "--exports", toy_exports, **options)
    finally:
        images.chmod(0o755)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: {hidden}: cannot be reached (Permission denied); ask for access to its folder\n"
    )


def test_globs_choose_files_and_folders(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "thumbs/b.png", "in/c.png", "in/thumbs/d.png", "in/e.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def chosen(include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
        found = discover([tmp_path], Search(include=include, exclude=exclude))
        return [str(path.relative_to(tmp_path)) for path in found if isinstance(path, Path)]

    assert chosen(("*.jpg", "*.tif")) == ["a.jpg", "in/e.tif"]
    assert chosen(exclude=("thumbs",)) == ["a.jpg", "a.png", "in/c.png", "in/e.tif"]
    assert chosen(("*.png",), ("in/thumbs", "a.*")) == ["in/c.png", "thumbs/b.png"]
    left = {one.reason for one in discover([tmp_path], Search(True, ("*.jpg",), ("in",))) if isinstance(one, LeftOut)}
    assert left == {"excluded", "not included"}
    assert list(discover([tmp_path / "a.png"], Search(exclude=("*.png",)))) == [tmp_path / "a.png"]


NAMES = st.lists(st.binary(min_size=1, max_size=9).filter(lambda name: b"\0" not in name and name != b"."), max_size=30)


@settings(deadline=None)
@given(NAMES, st.booleans())
def test_a_list_of_paths_is_read_back(names: list[bytes], ended: bool) -> None:
    expected = [Path(os.fsdecode(name)) for name in names]
    nul = b"".join(name + b"\0" for name in names)
    assert list(listed_paths(io.BytesIO(nul if ended else nul[:-1] if len(names) > 1 else nul))) == expected
    lines = [name for name in names if b"\n" not in name]
    text = b"\n".join(lines) + (b"\n" if ended else b"")
    assert list(listed_paths(io.BytesIO(text))) == [Path(os.fsdecode(name)) for name in lines]


def test_a_long_list_of_paths_is_not_cut_where_a_block_ends() -> None:
    names = [f"folder/{i:05}.png" for i in range(20_000)]
    assert [str(path) for path in listed_paths(io.BytesIO("\n".join(names).encode()))] == names


def test_listed_files_are_scanned_in_the_lists_order(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    listed = [images / "3-blue.bmp", tmp_path / "gone.png", images / "1-red.png"]
    done = genforensic(
        *("scan", "-", "--exports", toy_exports, "-f", "csv"), input="".join(f"{path}\0" for path in listed)
    )
    assert (done.returncode, done.stderr) == (1, "")
    rows = [line.split(",")[:2] for line in done.stdout.splitlines()[1:]]
    assert rows == [[str(listed[0]), "ok"], [str(listed[1]), "missing"], [str(listed[2]), "ok"]]
    empty = genforensic("scan", "-", "--exports", toy_exports, input="")
    assert empty.returncode == 2
    assert empty.stderr == (
        "genforensic: no images found in the list on standard input (0 other entries left out); "
        "give a folder with images\n"
    )


def test_names_that_no_file_can_have_are_rows(toy_exports: Path, images: Path) -> None:
    long = "x" * 300
    (images / "0.png").symlink_to(long)
    listed = genforensic("scan", "-", "--exports", toy_exports, "-f", "csv", input=f"{images}\n{long}\n")
    assert (listed.returncode, listed.stderr) == (1, "")
    assert len(listed.stdout.splitlines()) == 8
    assert list(listed_paths(io.BytesIO(b"a" * 70_000 + b"\nb\0c\n")))[1:] == [Path("b\0c")]
    assert list(discover([Path("b\0c")])) == [Path("b\0c")]
    failure = prepare(Path("b\0c"), Reading(())).failure
    assert failure is not None
    assert (failure.status, failure.reason) == ("missing", "no file can have a name with a NUL in it")


@pytest.mark.parametrize("glob", ["", "."])
def test_a_glob_of_nothing_is_wrong_use(glob: str, run: Any, toy_exports: Path, images: Path) -> None:
    done = run("scan", images, "--exports", toy_exports, "--include", glob)
    assert done.exit_code == 2
    assert done.stderr == f"genforensic: {glob!r} is not a glob; give one such as '*.png', in quotes\n"


def test_a_file_with_the_name_of_the_list_can_be_named(toy_exports: Path, tmp_path: Path) -> None:
    solid(tmp_path / "-", (0, 255, 0), format="PNG")
    solid(tmp_path / "listed.png", (255, 0, 0))
    shared = ("--exports", toy_exports, "-f", "csv")
    done = genforensic("scan", "./-", *shared, cwd=tmp_path, input="")
    assert (done.returncode, done.stderr) == (0, "")
    # a spreadsheet would run what begins with a hyphen
    assert [line.split(",")[:4] for line in done.stdout.splitlines()[1:]] == [["'-", "ok", "", "generated"]]
    both = genforensic("scan", "-", "./-", *shared, cwd=tmp_path, input="listed.png\n-\n")
    assert [line.split(",")[0] for line in both.stdout.splitlines()[1:]] == ["listed.png", "'-", "'-"]


def test_what_is_named_twice_is_judged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_images(tmp_path / "d").parent)
    (tmp_path / "link").symlink_to("d", target_is_directory=True)
    assert sources(["d", "./d/", "d", str(tmp_path / "d"), "d/../d", "-", "-", "link"]) == [
        *(Path("d"), LISTED, Path("link"))
    ]
    assert sources(["d/1-red.png", "d/2-green.webp", "link/1-red.png"]) == [Path("d/1-red.png"), Path("d/2-green.webp")]


def test_what_is_named_itself_is_not_found_again_in_a_folder(tmp_path: Path) -> None:
    inner = make_images(make_images(tmp_path / "d") / "inner")
    (tmp_path / "d" / "other").symlink_to(inner / "1-red.png")
    for paths in ([tmp_path / "d", inner], [inner, tmp_path / "d", inner / "3-blue.bmp"]):
        found = list(discover(sources(list(map(str, paths)))))
        assert len(found) == len(set(found)) == 11
        assert [path for path in found if isinstance(path, LeftOut)] == []
    first = list(discover([inner / "3-blue.bmp", tmp_path / "d"]))
    assert first.index(inner / "3-blue.bmp") == 0
    assert first.count(inner / "3-blue.bmp") == 1


def test_excluded_files_that_are_named_are_judged_once(tmp_path: Path) -> None:
    folder = make_images(tmp_path / "d")
    found = list(discover([folder, folder / "1-red.png"], Search(exclude=("*.png",))))
    assert [path.name for path in found if isinstance(path, Path)] == ["2-green.webp", "3-blue.bmp", "1-red.png"]


@pytest.mark.parametrize(
    "search", [Search(), Search(False), Search(include=("*.webp",)), Search(exclude=("inner", "*.bmp"))]
)
def test_a_search_at_any_place_finds_what_the_whole_search_finds_there(tmp_path: Path, search: Search) -> None:
    make_images(tmp_path / "inner" / "deep")
    make_images(tmp_path)
    (tmp_path / "inner" / "notes.txt").write_text("text")
    (tmp_path / "loop").symlink_to(tmp_path / "inner", target_is_directory=True)
    whole = [path for path in discover([tmp_path], search) if isinstance(path, Path)]
    places = [*tmp_path.rglob("*"), *(tmp_path / "loop").rglob("*")]
    assert len(places) > 20
    for place in places:
        inner = place.relative_to(tmp_path)
        expected = [path for path in whole if path.relative_to(tmp_path).parts[: len(inner.parts)] == inner.parts]
        assert list(rediscover(tmp_path, inner, search)) == expected, inner
    assert list(rediscover(tmp_path, Path("gone.png"), search)) == []


def test_the_run_header_says_what_was_looked_for_wherever_that_was_set(
    run: Any, toy_exports: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    (images / "genforensic.toml").write_text('[scan]\nexclude = ["*.bmp"]\n')
    done = run("scan", ".", "--include", "3*", "--include", "1*", "--exports", toy_exports, "-f", "json", "-q")
    found = json.loads(done.stdout)
    assert found["run"]["search"] == {"recursive": True, "include": ["3*", "1*"], "exclude": ["*.bmp"]}
    assert [row["path"] for row in found["files"]] == ["1-red.png"]
