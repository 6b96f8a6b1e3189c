"""Tests of `genforensic verify`: what was left alone holds, and each way to tamper with a case is named."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forensic_cli import seal
from forensic_cli.errors import UsageError
from forensic_cli.seal import KINDS, Sealer, check_results
from toys import genforensic, make_images, rows_of, solid, write_toy_exports

Lines = list[str]


class Case:
    """A scanned folder: its images, its models and its results."""

    def __init__(self, folder: Path, run: Any, report: str = "jsonl") -> None:
        self.run = run
        self.images = make_images(folder / "images")
        self.exports = write_toy_exports(folder / "exports")
        self.results = folder / f"case.{report}"
        assert run("scan", self.images, "--exports", self.exports, "-f", report, "-o", self.results).exit_code == 0

    def verify(self, *more: Any) -> Any:
        return self.run("verify", self.results, "--exports", self.exports, *more)

    def edit(self, change: Callable[[Lines], Lines]) -> None:
        lines = self.results.read_text(encoding="utf-8").splitlines(keepends=True)
        self.results.write_text("".join(change(lines)), encoding="utf-8")


@pytest.fixture
def case(tmp_path: Path, run: Any) -> Case:
    return Case(tmp_path, run)


@pytest.mark.parametrize("report", ["jsonl", "json"])
def test_an_untouched_case_holds(report: str, tmp_path: Path, run: Any) -> None:
    case = Case(tmp_path, run, report)
    done = case.verify()
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"{re.escape(str(case.results))}: holds; 5 rows, 5 images and 1 model compared\nseal [0-9a-f]{{64}}\n",
        done.stdout,
    )


def at(number: int, old: str, new: str) -> Callable[[Lines], Lines]:
    """Return an edit of one line (0: the header)."""

    def change(lines: Lines) -> Lines:
        assert old in lines[number]
        return [*lines[:number], lines[number].replace(old, new, 1), *lines[number + 1 :]]

    return change


TAMPERINGS: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "a verdict": (
        at(2, '"verdict": "alpha"', '"verdict": "real"'),
        r"rows_changed: row 2 \(.*2-green.webp\) is not what was sealed there$",
    ),
    "a digit": (at(4, '"bytes": 1', '"bytes": 2'), r"rows_changed: row 4 \(.*4-grey.png\) is not what"),
    "a blank": (at(5, '", "', '",  "'), r"rows_changed: row 5 \(.*5-tiny.png\) is not what"),
    "a row no more": (at(3, "{", ""), "rows_changed: row 3 is not what was sealed there$"),
    "removed": (
        lambda lines: [*lines[:3], *lines[4:]],
        r"rows_changed: row 3 \(.*4-grey.png\) is not what was sealed there; 5 rows were sealed, 4 are there$",
    ),
    "the last removed": (
        lambda lines: [*lines[:5], lines[6]],
        "rows_changed: row 5 is not what was sealed there; 5 rows were sealed, 4 are there$",
    ),
    "swapped": (
        lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
        r"rows_changed: row 2 \(.*3-blue.bmp\) is not what was sealed there$",
    ),
    "added": (
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        r"rows_changed: row 2 \(.*1-red.png\) is not what was sealed there; 5 rows were sealed, 6 are there$",
    ),
    "appended": (lambda lines: [*lines, lines[1]], "rows_appended: 1 lines were appended after the seal"),
    "the header": (at(0, '"threshold": null', '"threshold": 0.4'), "header_edited: the run header was edited"),
    "the time": (at(0, '"started": "2', '"started": "1'), "header_edited: the run header was edited"),
    "the seal removed": (lambda lines: lines[:-1], "seal_missing: no seal: .*; 5 rows cannot be checked"),
    "the seal cut": (lambda lines: [*lines[:-1], lines[-1][:50]], "seal_edited: the seal was edited"),
    "the number of rows": (at(6, '"rows": 5', '"rows": 4'), "seal_edited: the seal was edited: it is not one"),
    "the seal's hash": (
        lambda lines: [*lines[:-1], re.sub(r'"sha256": "[0-9a-f]{4}', '"sha256": "beef', lines[-1])],
        "end_edited: what follows row 5 was edited: a later row, the summary or the hash in the seal",
    ),
    "the seal's last mark": (
        lambda lines: [*lines[:-1], re.sub(r'[0-9a-f]{4}"}}', 'beef"}}', lines[-1])],
        r"rows_changed: row 5 \(.*5-tiny.png\) is not what was sealed there",
    ),
    "a foreign field in the seal": (at(6, '{"sha256"', '{"by": "me", "sha256"'), "seal_edited: the seal was edited"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_each_way_to_tamper_with_the_rows_is_named(name: str, case: Case) -> None:
    change, message = TAMPERINGS[name]
    case.edit(change)
    done = case.verify("--no-files", "--no-models")
    assert (done.exit_code, done.stderr) == (11, "")
    first, last = done.stdout.splitlines()
    assert re.match(message, first), first
    assert last.startswith(f"{case.results}: does not hold; ")


def test_a_scan_that_was_killed_has_no_seal_yet_and_its_whole_rows_are_counted(case: Case) -> None:
    case.edit(lambda lines: [*lines[:3], lines[3][:40]])
    done = case.verify("--no-files", "--no-models")
    assert done.exit_code == 11
    assert done.stdout.splitlines()[0] == (
        "seal_missing: no seal: the scan was stopped before its end, the seal was removed, or the file was "
        "reformatted; 2 rows cannot be checked"
    )


def test_the_first_of_two_edits_is_named(case: Case) -> None:
    case.edit(at(1, '"verdict": "real"', '"verdict": "beta"'))
    case.edit(at(5, '"verdict": "inconclusive"', '"verdict": "beta"'))
    report = json.loads(case.verify("--no-files", "--no-models", "--json").stdout)
    assert [(fault["kind"], Path(fault["subject"]).name) for fault in report["faults"]] == [
        ("rows_changed", "1-red.png")
    ]
    assert report["holds"] is False


def test_the_seal_is_the_hash_of_every_byte_before_it(case: Case) -> None:
    """So anyone can check it without this tool: head -n -1 case.jsonl | sha256sum."""
    before_seal, _, seal_line = case.results.read_bytes().rstrip(b"\n").rpartition(b"\n")
    assert json.loads(seal_line)["seal"]["sha256"] == hashlib.sha256(before_seal + b"\n").hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"verdict": "alpha"', '"verdict": "beta"', r"rows_changed: row 2 \(.*2-green.webp\) is not what was sealed"),
        ('"judged": 5', '"judged": 4', "end_edited: what follows row 5 was edited: "),
        ('"batch_size": 1,', '"batch_size": 2,', "header_edited: the run header was edited"),
    ],
)
def test_a_json_document_is_sealed_as_well(old: str, new: str, message: str, tmp_path: Path, run: Any) -> None:
    case = Case(tmp_path, run, "json")
    text = case.results.read_text()
    assert old in text
    case.results.write_text(text.replace(old, new, 1))
    done = case.verify("--no-files", "--no-models")
    assert done.exit_code == 11
    assert re.match(message, done.stdout)


def test_a_row_before_another_on_one_line_is_found_however_far_apart(case: Case) -> None:
    """The reader of lines takes 16 MiB at most, and jq takes all that stands on one."""
    forged = '{"path": "forged.png", "status": "ok", "verdict": "real"}'

    def glue(lines: Lines) -> Lines:
        return [lines[0], forged.ljust(1 << 24) + lines[1], *lines[2:]]

    case.edit(glue)
    done = case.verify("--no-files", "--no-models")
    assert (done.exit_code, done.stdout.splitlines()[0]) == (
        11,
        "rows_changed: row 1 (forged.png) is not what was sealed there",
    )


def test_a_json_document_that_was_written_again_does_not_hold(tmp_path: Path, run: Any) -> None:
    case = Case(tmp_path, run, "json")
    document = json.loads(case.results.read_text())
    for again in ({"note": "all real", **document}, document):
        case.results.write_text(json.dumps(again))
        done = case.verify("--no-files", "--no-models")
        assert (done.exit_code, done.stdout.partition(":")[0]) == (11, "seal_missing")


def test_a_name_of_any_bytes_and_one_that_looks_like_it_are_two(tmp_path: Path, toy_exports: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    red = solid(tmp_path / "red.png", (255, 0, 0)).read_bytes()
    blue = solid(tmp_path / "blue.png", (0, 0, 255)).read_bytes()
    byte, literal = folder / os.fsdecode(b"bad\xff.png"), folder / r"bad\xff.png"
    byte.write_bytes(red)
    literal.write_bytes(blue)
    results = tmp_path / "r.jsonl"
    assert genforensic("scan", folder, "--exports", toy_exports, "-o", results).returncode == 0
    found = {row["verdict"]: Path(row["path"]).name for row in rows_of(results.read_text())}
    assert found == {"real": r"bad\xff.png", "beta": r"bad\x5cxff.png"}
    verify = ("verify", results, "--exports", toy_exports)
    assert genforensic(*verify).returncode == 0
    byte.unlink()
    done = genforensic(*verify)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        11,
        f"file_missing: {folder}/bad\\xff.png: the file is gone; relative paths start at .",
    )


def test_a_row_that_is_not_a_record_is_named(case: Case) -> None:
    """Whatever the seal says: its image cannot be compared."""
    case.edit(at(2, "{", "["))
    assert "row_unreadable: row 2 is not a record: its image cannot be compared" in case.verify().stdout


def test_a_resealed_file_is_told_by_the_seal_that_was_noted(case: Case) -> None:
    noted = case.verify().stdout.split()[-1]
    lines = case.results.read_text().splitlines(keepends=True)[:-1]
    lines[2] = lines[2].replace('"verdict": "alpha"', '"verdict": "real"')
    sealer = Sealer(lines[0])
    for line in lines[1:]:
        sealer.add_row(line)
    case.results.write_text("".join([*lines, seal.seal_line(sealer.seal())]))
    assert case.verify().exit_code == 0
    done = case.verify("--seal", noted)
    assert done.exit_code == 11
    assert case.verify("--seal", f" {noted.upper()} ").stdout == done.stdout
    assert re.match(
        rf"resealed: the seal is [0-9a-f]{{64}}, not the {noted} that was noted: the file was resealed", done.stdout
    )


@pytest.mark.parametrize("hash_", ["", "abc", "g" * 64, "a" * 65])
def test_a_noted_seal_that_cannot_be_one_is_wrong_use(hash_: str, case: Case) -> None:
    done = case.verify("--seal", hash_)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"genforensic: --seal {hash_!r} is not a seal; give the 64 hexadecimal digits that "
        "`genforensic verify` printed\n"
    )


def test_changed_and_missing_images_are_named(case: Case) -> None:
    solid(case.images / "1-red.png", (254, 0, 0))
    (case.images / "3-blue.bmp").unlink()
    done = case.verify()
    assert done.exit_code == 11
    assert done.stdout.splitlines()[:-1] == [
        f"file_changed: {case.images}/1-red.png: has another sha256 than the file that was judged",
        f"file_missing: {case.images}/3-blue.bmp: the file is gone; relative paths start at .",
    ]
    assert case.verify("--no-files").exit_code == 0


def test_files_that_could_not_be_read_must_still_not_be_readable(tmp_path: Path, run: Any) -> None:
    folder = make_images(tmp_path / "images")
    (folder / "9-gone.png").symlink_to(folder / "later.png")
    out, exports = tmp_path / "case.jsonl", write_toy_exports(tmp_path / "exports")
    assert run("scan", folder, "--exports", exports, "-f", "jsonl", "-o", out).exit_code == 1
    assert run("verify", out, "--exports", exports).exit_code == 0
    solid(folder / "later.png", (0, 0, 255))
    done = run("verify", out, "--exports", exports)
    assert done.exit_code == 11
    assert done.stdout.startswith(f"file_changed: {folder}/9-gone.png: could not be read then, and can be read now\n")


def test_a_file_that_was_too_large_to_be_read_still_holds(tmp_path: Path, run: Any) -> None:
    folder = make_images(tmp_path / "images")
    with (folder / "9-huge.png").open("wb") as stream:
        stream.write(b"\x89PNG\r\n\x1a\n")
        stream.truncate((1 << 30) + 1)
    out, exports = tmp_path / "case.jsonl", write_toy_exports(tmp_path / "exports")
    assert run("scan", folder, "--exports", exports, "-f", "jsonl", "-o", out).exit_code == 1
    assert run("verify", out, "--exports", exports).exit_code == 0


def test_a_pipe_in_place_of_an_image_is_not_opened(case: Case) -> None:
    import os

    (case.images / "1-red.png").unlink()
    os.mkfifo(case.images / "1-red.png")
    assert "1-red.png: can no longer be read" in case.verify().stdout


def test_names_of_any_bytes_are_found_again(tmp_path: Path, run: Any) -> None:
    import os

    folder, exports = tmp_path / "images", write_toy_exports(tmp_path / "exports")
    folder.mkdir()
    for raw in (b"latin\xe9.png", rb"back\xe9slash.png", b"new\nline.png"):
        solid(tmp_path / "x.png", (255, 0, 0)).rename(folder / os.fsdecode(raw))
    out = tmp_path / "case.jsonl"
    assert run("scan", folder, "--exports", exports, "-f", "jsonl", "-o", out).exit_code == 0
    assert run("verify", out, "--exports", exports).exit_code == 0


def test_techniques_of_one_file_are_one_model(run: Any, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "case.jsonl"
    run("scan", images, "-t", "discriminant", "-t", "baseline", "-f", "jsonl", "-o", out)
    files = {one["sha256"] for one in json.loads(out.read_text().splitlines()[0])["genforensic"]["models"]}
    found = json.loads(run("verify", out, "--json").stdout)
    assert (found["holds"], found["compared"]["models"]) == (True, len(files))
    assert len(json.loads(run("verify", out, "--exports", tmp_path, "--json").stdout)["faults"]) == len(files)


def test_relative_paths_start_where_the_user_says(
    tmp_path: Path, run: Any, toy_exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    run("scan", "images", "--exports", toy_exports, "-f", "jsonl", "-o", "case.jsonl")
    monkeypatch.chdir(tmp_path / "images")
    shared = ("verify", tmp_path / "case.jsonl", "--exports", toy_exports)
    assert run(*shared).stdout.count("file_missing") == 5
    assert run(*shared, "--root", tmp_path).exit_code == 0


def test_another_and_a_missing_model_are_named(case: Case, tmp_path: Path) -> None:
    shutil.copy(case.exports / "native-weighted.onnx", case.exports / "native-baseline.onnx")
    done = case.verify()
    assert done.exit_code == 11
    assert done.stdout.startswith(
        f"model_changed: {case.exports}/native-baseline.onnx: has another sha256 than the model that judged ("
    )
    (tmp_path / "none").mkdir()
    done = case.run("verify", case.results, "--exports", tmp_path / "none")
    assert done.exit_code == 11
    assert done.stdout.startswith(
        f"model_missing: native-baseline.onnx: not among the exports in {tmp_path}/none; name its folder\n"
    )
    assert case.verify("--no-models").exit_code == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not the results of a scan"),
        ("mine\n", "not the results of a scan"),
        ('{"path": "a.png"}\n', "not the results of a scan"),
        ('{"run": {"version": "1"},\n"files": [\n{"path": ', "ends too early, as a scan that was stopped leaves it"),
        ("[" * 100_000, "not the results of a scan"),
    ],
)
def test_a_file_that_holds_no_results_is_wrong_use(content: str, why: str, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    done = run("verify", path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (f"genforensic: {path}: {why}; give what `genforensic scan --output FILE.jsonl` wrote\n")


def test_a_missing_results_file_and_a_folder_are_wrong_use(run: Any, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.jsonl", "no such file"), (tmp_path, "has no results")):
        done = run("verify", path)
        assert done.exit_code == 2
        assert done.stderr.startswith(f"genforensic: {path}: {why}; give what `genforensic scan")


def test_a_sealed_report_that_was_edited_is_not_resumed(case: Case) -> None:
    """Going on would put a fresh seal on the edit."""
    case.edit(at(2, '"verdict": "alpha"', '"verdict": "real"'))
    before = case.results.read_bytes()
    done = case.run("scan", case.images, "--exports", case.exports, "-f", "jsonl", "-o", case.results, "--resume")
    assert (done.exit_code, case.results.read_bytes()) == (2, before)
    assert f"{case.results}: its seal does not hold, row 2 ({case.images}/2-green.webp) is not what was " in done.stderr


def sealed(tmp_path: Path, count: int) -> tuple[Path, Lines]:
    """Write a results file of many short rows; returns it and its lines."""
    lines = ['{"genforensic": {"version": "1"}}\n']
    lines += [json.dumps({"path": f"{i}.png", "status": "ok", "sha256": None}) + "\n" for i in range(count)]
    sealer = Sealer(lines[0])
    for line in lines[1:]:
        sealer.add_row(line)
    lines.append(seal.seal_line(sealer.seal()))
    path = tmp_path / "many.jsonl"
    return path, lines


def messages(path: Path, lines: Lines) -> list[str]:
    path.write_text("".join(lines))
    return [fault.message for fault in check_results(path).faults]


@pytest.mark.parametrize(("count", "every"), [(7, 1), (8, 2), (15, 2), (16, 4), (100, 16)])
def test_where_rows_share_a_mark_their_range_is_named(
    count: int, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seal, "MOST_MARKS", 8)
    path, lines = sealed(tmp_path, count)
    assert messages(path, lines) == []
    assert json.loads(lines[-1])["seal"]["every"] == every
    first = 5 // every * every + 1
    row = "row 6 (5.png)" if every == 1 else f"one of rows {first} to {first + every - 1}"
    assert messages(path, [*lines[:6], lines[6].replace("ok", "no"), *lines[7:]]) == [
        f"{row} is not what was sealed there"
    ]
    removed = messages(path, [*lines[:6], *lines[7:]])
    assert len(removed) == 1
    assert removed[0].endswith(f"; {count} rows were sealed, {count - 1} are there")


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_byte_anywhere_is_found(place: int, value: int, tmp_path: Path) -> None:
    path, lines = sealed(tmp_path, 12)
    data = bytearray("".join(lines).encode())
    place %= len(data)
    if data[place] == value:
        return
    data[place] = value
    path.write_bytes(data)
    try:
        assert check_results(path).faults
    except UsageError:
        assert place <= len(lines[0])  # a broken header makes it no results file at all


def test_every_kind_of_fault_is_declared() -> None:
    named = {message.partition(":")[0] for _, message in TAMPERINGS.values()}
    assert named <= set(KINDS)
    assert len(named) == 6


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_path_with_a_lone_surrogate_is_not_a_record(more: tuple[str, ...], case: Case) -> None:
    case.edit(at(1, f'"path": "{case.images}/1-red.png"', r'"path": "\ud800.png"'))
    done = case.verify(*more)
    assert (done.exit_code, done.stderr) == (11, "")
    assert "row 1 is not a record" in done.stdout
