"""Tests of `scan --watch` with real processes: files are dropped, rows appear, Ctrl-C ends."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toys import child_environment, rows_of, solid

WAITING = "Waiting for new and changed files; press Ctrl-C to stop\n"
INTERRUPTED = "genforensic: interrupted; the rows that were written are whole\n"


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "nothing happened"
        sleep(0.02)


class Watcher:
    """A scan that watches the folder `in`, which is next to its report."""

    def __init__(self, exports: Path, place: Path, *more: Any, report: str = "jsonl") -> None:
        self.folder = place / "in"
        self.out = place / "rows"
        self.messages = place / "messages"
        command = ["scan", self.folder, "--watch", "--exports", exports, "-f", report, "-o", self.out, *more]
        with self.messages.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "forensic_cli", *map(str, command)],
                env=child_environment(),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
            )

    def wait_until_the_first_pass_is_over(self) -> None:
        until(lambda: WAITING in self.messages.read_text() or self.process.poll() is not None)

    def rows(self) -> list[dict[str, Any]]:
        text = self.out.read_text() if self.out.exists() else ""
        return rows_of("".join(line for line in text.splitlines(keepends=True) if line.endswith("\n")))

    def found(self) -> list[tuple[str, str, str | None, str | None]]:
        """Return the path in the folder, status, label and original (for a copy) of each row."""
        short = self.folder.as_posix() + "/"
        return [
            (*(row["path"].removeprefix(short), row["status"], row["label"]), (row["duplicate_of"] or "")[len(short) :])
            for row in self.rows()
        ]

    def wait_for(self, rows: int) -> None:
        until(lambda: len(self.rows()) >= rows)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


Start = Callable[..., Watcher]


@pytest.fixture
def start(toy_exports: Path, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a watcher of tmp_path / "in", which is stopped after the test."""
    started: list[Watcher] = []

    def start(*more: Any, **options: Any) -> Watcher:
        started.append(Watcher(toy_exports, tmp_path, *more, **options))
        return started[-1]

    (tmp_path / "in").mkdir()
    yield start
    for watcher in started:
        watcher.process.kill()
        watcher.process.wait()


def test_new_and_changed_files_are_judged_as_they_arrive(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    red = solid(folder / "red.png", (255, 0, 0))
    (folder / "sub").mkdir()
    watcher = start()
    watcher.wait_until_the_first_pass_is_over()
    assert watcher.found() == [("red.png", "ok", "real", "")]
    solid(folder / "sub" / "green.png", (0, 255, 0))
    watcher.wait_for(2)
    shutil.copy(red, folder / "sub" / "copy.png")
    watcher.wait_for(3)
    solid(tmp_path / "moved.png", (0, 0, 255)).rename(folder / "sub" / "green.png")
    watcher.wait_for(4)
    (folder / "bad.jpg").write_text("not an image")
    watcher.wait_for(5)
    assert watcher.interrupt() == 130
    assert watcher.found() == [
        ("red.png", "ok", "real", ""),
        ("sub/green.png", "ok", "alpha", ""),
        ("sub/copy.png", "ok", "real", "red.png"),
        ("sub/green.png", "ok", "beta", ""),
        ("bad.jpg", "not_an_image", None, ""),
    ]
    assert watcher.out.read_bytes().endswith(b"}\n")
    assert watcher.messages.read_text() == WAITING + INTERRUPTED


def test_a_file_that_is_only_touched_or_removed_has_no_new_row(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "b.png"):
        solid(folder / name, (255, 0, 0))
    watcher = start()
    watcher.wait_until_the_first_pass_is_over()
    for name in ("a.png", "b.png"):
        os.utime(folder / name)
        (folder / name).chmod(0o600)
    solid(folder / "c.png", (0, 255, 0))
    (folder / "gone.png").write_bytes(b"text")
    (folder / "gone.png").unlink()
    (folder / "notes.txt").write_text("text")
    watcher.wait_for(3)
    sleep(1)
    assert watcher.interrupt() == 130
    assert [row[0] for row in watcher.found()] == ["a.png", "b.png", "c.png"]


def test_folders_that_arrive_are_searched_by_the_same_rules(start: Start, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "in", tmp_path / "elsewhere"
    for inner in (elsewhere / "deep" / "er", elsewhere / "thumbs", tmp_path / "target"):
        inner.mkdir(parents=True)
        solid(inner / "a.png", (0, 255, 0))
    solid(elsewhere / "b.bmp", (0, 255, 0))
    (folder / "link").symlink_to(tmp_path / "target", target_is_directory=True)
    watcher = start("--include", "*.png", "--exclude", "thumbs")
    watcher.wait_until_the_first_pass_is_over()
    elsewhere.rename(folder / "arrived")
    solid(tmp_path / "target" / "unseen.png", (255, 0, 0))
    watcher.wait_for(1)
    (folder / "made" / "now").mkdir(parents=True)
    solid(folder / "made" / "now" / "c.png", (255, 0, 0))
    solid(folder / "arrived" / "thumbs" / "d.png", (255, 0, 0))
    solid(folder / "arrived" / "deep" / "e.png", (255, 0, 0))
    watcher.wait_for(3)
    sleep(1)
    assert watcher.interrupt() == 130
    assert sorted(row[0] for row in watcher.found()) == [
        "arrived/deep/e.png",
        "arrived/deep/er/a.png",
        "made/now/c.png",
    ]


def test_without_recursion_inner_folders_are_not_watched(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir()
    watcher = start("--no-recursive")
    watcher.wait_until_the_first_pass_is_over()
    solid(tmp_path / "in" / "sub" / "a.png", (255, 0, 0))
    solid(tmp_path / "in" / "b.png", (255, 0, 0))
    watcher.wait_for(1)
    sleep(1)
    assert watcher.interrupt() == 130
    assert [row[0] for row in watcher.found()] == ["b.png"]


def test_a_file_is_judged_when_it_is_written_to_its_end(start: Start, tmp_path: Path) -> None:
    data = solid(tmp_path / "whole.png", (0, 255, 0), (400, 300), compress_level=0).read_bytes()
    watcher = start()
    watcher.wait_until_the_first_pass_is_over()
    with (tmp_path / "in" / "slow.png").open("wb", buffering=0) as stream:
        for i in range(8):
            stream.write(data[i * len(data) // 8 : (i + 1) * len(data) // 8])
            sleep(0.4)
    watcher.wait_for(1)
    sleep(1.5)
    assert watcher.interrupt() == 130
    assert watcher.found() == [("slow.png", "ok", "alpha", "")]


def test_a_file_that_arrives_during_the_first_pass_is_not_missed(start: Start, tmp_path: Path) -> None:
    for i in range(300):
        pattern = np.random.default_rng(i).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(pattern).save(tmp_path / "in" / f"{i:03}.png", compress_level=0)
    watcher = start("--workers", 1)
    watcher.wait_for(2)  # the folder is listed
    solid(tmp_path / "in" / "000-late.png", (0, 255, 0))
    assert WAITING not in watcher.messages.read_text()
    watcher.wait_for(301)
    assert watcher.interrupt() == 130
    names = [row[0] for row in watcher.found()]
    assert names == [*(f"{i:03}.png" for i in range(300)), "000-late.png"]


def test_a_first_pass_that_is_interrupted_leaves_whole_rows(start: Start, tmp_path: Path) -> None:
    for i in range(300):
        pattern = np.random.default_rng(i).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(pattern).save(tmp_path / "in" / f"{i:03}.png", compress_level=0)
    watcher = start("--workers", 1)
    watcher.wait_for(2)
    assert watcher.interrupt() == 130
    assert watcher.messages.read_text() == INTERRUPTED
    assert watcher.out.read_bytes().endswith(b"}\n")
    assert 2 <= len(watcher.rows()) < 300


def test_the_report_for_people_ends_with_the_totals(start: Start, tmp_path: Path) -> None:
    watcher = start("--dedupe", report="table")
    watcher.wait_until_the_first_pass_is_over()
    solid(tmp_path / "in" / "green.png", (0, 255, 0))
    until(lambda: "green.png" in watcher.out.read_text())
    assert watcher.interrupt() == 130
    lines = watcher.out.read_text().splitlines()
    cells = "generated   alpha  p 0.982   PNG, lossless      finding 1     "
    assert lines[1] == f"{cells}{tmp_path}/in/green.png"
    assert "1 image in 1 finding" in lines


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        (["-"], (), "--watch watches folders, and the list that - stands for ends; name the folders"),
        (
            ["in/1-red.png"],
            (),
            "--watch watches folders, and in/1-red.png is not one; name its folder, and it with --include",
        ),
        (
            ["in"],
            ("-f", "json"),
            "--watch never ends a report, and --format json needs an end; use table, jsonl, csv",
        ),
        (
            ["in"],
            ("--resume", "-f", "jsonl", "-o", "rows.jsonl"),
            "--watch writes rows as files arrive, until interrupted; leave --resume out",
        ),
        (
            ["in"],
            ("--sort", "path"),
            "--watch writes rows as files arrive, until interrupted; leave --sort out",
        ),
        (
            ["in"],
            ("--fail-on", "alpha"),
            "--watch writes rows as files arrive, until interrupted; leave --fail-on out",
        ),
    ],
)
def test_what_cannot_be_watched_is_wrong_use(
    run: Any,
    toy_exports: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: list[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(images.rename(images.parent / "in").parent)
    done = run("scan", *paths, "--watch", "--exports", toy_exports, *options)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"genforensic: {message}\n")
    assert not Path("rows.jsonl").exists()


def test_a_missing_package_is_one_line(
    run: Any, toy_exports: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    done = run("scan", images, "--exports", toy_exports, "--watch")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: --watch needs watchfiles, which is not installed; run: pip install 'genforensic[watch]' "
        "(in a checkout: pip install '.[watch]')\n"
    )
