"""`genforensic corpus` on git repositories that the tests make: what is taken, what is left out, and how it goes on."""

import csv
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from forensic_train.corpus import read_sources
from forensic_train.manifest import read_manifest
from toys import ROOT, child_environment

HEADER = "label\trepo\tcommit\tpath_regex\tcap\tsubject\tnotes\n"
NEVER = "0123456789" * 4
"""A commit that no repository has."""
SIGNED = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep git from reading what the developer has configured."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder; returns what it prints."""
    return subprocess.run(
        ["git", *SIGNED, *arguments], cwd=folder, capture_output=True, check=True, encoding="utf-8"
    ).stdout.strip()


def picture(seed: int, side: int = 160) -> Image.Image:
    """Return large coloured patches, others for each seed."""
    patches = np.random.default_rng(seed).integers(0, 256, (16, 17, 3), np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image file's bytes."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def commit(folder: Path, files: dict[str, bytes]) -> str:
    """Commit files to the repository in a folder, which is made where it lacks; returns the commit's id."""
    if not folder.exists():
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "config", "uploadpack.allowFilter", "true")
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "files")
    return git(folder, "rev-parse", "HEAD")


ALPHA = {f"out/{i}.png": encoded(picture(i)) for i in range(3)}
BETA = {f"photo {i}.JPG": encoded(picture(10 + i), "JPEG", quality=95) for i in range(2)}
AWKWARD = {
    "out/again.png": ALPHA["out/0.png"],
    "out/truncated.png": encoded(picture(5))[:-2000],
    "out/text.png": b"version https://git-lfs.github.com/spec/v1\n",
    "out/tiny.png": encoded(picture(6, 127)),
    "notes/3.png": encoded(picture(7)),
}


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """Return a folder with the repositories ann/alpha and bob/beta, which has a JPEG copy of a picture of alpha."""
    commit(tmp_path / "mirror" / "ann" / "alpha", ALPHA | AWKWARD)
    commit(tmp_path / "mirror" / "bob" / "beta", BETA | {"copy.JPG": encoded(picture(1), "JPEG", quality=90)})
    return tmp_path / "mirror"


def head(mirror: Path, repo: str) -> str:
    """Return a repository's newest commit."""
    return git(mirror / repo, "rev-parse", "HEAD")


def write_table(mirror: Path, *more: Sequence[str], cap: str = "") -> Path:
    """Write a table of alpha's PNGs and beta's JPEGs and of further rows."""
    rows = [
        ("alpha", "ann/alpha", head(mirror, "ann/alpha"), r"^out/.*\.png$", cap, "face", ""),
        ("unknown_beta", "bob/beta", head(mirror, "bob/beta"), r"\.JPG$", cap, "animal", "a note"),
        *more,
    ]
    path = mirror.parent / "sources.tsv"
    path.write_text(HEADER + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows_of(corpus: Path) -> list[dict[str, str]]:
    """Return the rows of a corpus's manifest."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def state_of(corpus: Path) -> dict[str, int]:
    """Return when each file of a corpus was written, in ns, without the clones."""
    files = (path for path in corpus.rglob("*") if path.is_file() and ".repositories" not in path.parts)
    return {path.relative_to(corpus).as_posix(): path.stat().st_mtime_ns for path in files}


def test_usable_images_are_written_as_they_are_and_listed(run: Run, mirror: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    done = run("corpus", write_table(mirror), "--output", corpus, "--from", f"{mirror}/{{repo}}")
    assert done.exit_code == 0
    assert done.stderr == "Left out: 1 near-duplicates, 1 smaller than 128 pixels, 2 unreadable.\n"
    rows = rows_of(corpus)
    assert list(rows[0]) == ["path", "generator", "subject", "group", "source", "sha256"]
    expected = {("alpha", "face", data) for data in ALPHA.values()} | {("unknown", "animal", d) for d in BETA.values()}
    assert {(r["generator"], r["subject"], (corpus / r["path"]).read_bytes()) for r in rows} == expected
    assert len(rows) == len(expected)
    for row in rows:
        assert row["sha256"] == sha256((corpus / row["path"]).read_bytes()).hexdigest()
        assert row["group"] == git(mirror, "hash-object", str(corpus / row["path"]))
    alpha, beta = (head(mirror, repo)[:10] for repo in ("ann/alpha", "bob/beta"))
    assert {row["source"] for row in rows} == {"ann/alpha", "bob/beta"}
    assert {str(Path(row["path"]).parent) for row in rows} == {
        f"alpha/ann+alpha@{alpha}",
        f"unknown_beta/bob+beta@{beta}",
    }
    assert {Path(row["path"]).suffix for row in rows} == {".png", ".jpg"}
    assert set(state_of(corpus)) == {"manifest.csv", *(row["path"] for row in rows)}
    assert [row.generator for row in read_manifest(corpus)] == [row["generator"] for row in rows]


def test_what_is_not_there_is_named_at_the_end(run: Run, mirror: Path, tmp_path: Path) -> None:
    alpha = head(mirror, "ann/alpha")
    table = write_table(
        mirror,
        ("gamma", "ann/alpha", NEVER, "png", "", "", ""),
        ("gamma", "ann/alpha", alpha, r"\.webp$", "", "", ""),
        ("gamma", "ann/nothing", alpha, "png", "", "", ""),
        ("gamma", "ann/alpha", "", "png", "", "", ""),
        ("gamma", "", "", "", "", "", "drawn by hand"),
        ("gamma", "ann/alpha", alpha, "t(ext|iny)|again", "", "", ""),
        ("gamma", "ann/alpha", "abcdef0", "png", "", "", ""),
    )
    done = run("corpus", table, "--output", tmp_path / "corpus", "--from", f"{mirror}/{{repo}}")
    assert done.exit_code == 0
    assert done.stderr.splitlines()[1:] == [
        f"Missing: line 4, gamma, ann/alpha@{NEVER[:10]}: has no such commit, or not all of its files",
        f"Missing: line 5, gamma, ann/alpha@{alpha[:10]}: no file matches \\.webp$",
        f"Missing: line 6, gamma, ann/nothing@{alpha[:10]}: is not there, or not public ({mirror}/ann/nothing)",
        "Missing: line 7, gamma, ann/alpha@?: the table knows no repository or no commit",
        "Missing: line 8, gamma, no repository@?: the table knows no repository or no commit",
        f"Missing: line 9, gamma, ann/alpha@{alpha[:10]}: none of its 3 files is of use "
        "(1 near-duplicates, 1 smaller than 128 pixels, 1 unreadable)",
        "Missing: line 10, gamma, ann/alpha@abcdef0: has no such commit on its branches",
    ]
    assert "gamma" not in {row["generator"] for row in rows_of(tmp_path / "corpus")}


def test_a_second_run_writes_only_what_is_missing_or_damaged(run: Run, mirror: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    arguments = ("corpus", write_table(mirror), "--output", corpus, "--from", f"{mirror}/{{repo}}")
    first = run(*arguments)
    before = state_of(corpus)
    mirror.rename(tmp_path / "gone")  # everything that is needed is in the cache
    second = run(*arguments)
    assert (second.exit_code, second.stdout, second.stderr) == (0, first.stdout, first.stderr)
    assert state_of(corpus) == before

    damaged, removed, *others = (row["path"] for row in rows_of(corpus))
    whole = (corpus / damaged).read_bytes()
    (corpus / damaged).write_bytes(whole[:-1] + b"?")
    (corpus / removed).unlink()
    assert run(*arguments).exit_code == 0
    assert (corpus / damaged).read_bytes() == whole
    after = state_of(corpus)
    assert after.keys() == before.keys()
    assert all(after[path] == before[path] for path in ("manifest.csv", *others))


def test_only_what_is_taken_is_fetched(run: Run, mirror: Path, tmp_path: Path) -> None:
    table = write_table(mirror)
    corpora = [tmp_path / "first", tmp_path / "second"]
    for corpus in corpora:
        done = run(
            *("corpus", table, "--output", corpus, "--only", "unknown_beta", "--cap", 1),
            *("--from", f"{mirror}/{{owner}}/{{name}}"),
        )
        assert done.exit_code == 0
    first, second = (rows_of(corpus) for corpus in corpora)
    assert first == second
    assert [row["generator"] for row in first] == ["unknown"]
    clones = corpora[0] / ".repositories"
    assert [clone.name for clone in clones.iterdir()] == ["bob+beta.git"]
    objects = git(clones / "bob+beta.git", "cat-file", "--batch-all-objects", "--batch-check")
    assert [line.split()[0] for line in objects.splitlines() if " blob " in line] == [first[0]["group"]]
    more = run("corpus", table, "--output", corpora[0], "--from", f"{mirror}/{{repo}}")
    assert more.exit_code == 0
    assert len(rows_of(corpora[0])) == len(ALPHA) + len(BETA)


def test_a_row_has_a_cap_of_its_own(run: Run, mirror: Path, tmp_path: Path) -> None:
    done = run("corpus", write_table(mirror, cap="2"), "--output", tmp_path / "c", "--from", f"{mirror}/{{repo}}")
    assert done.exit_code == 0
    assert sorted(row["generator"] for row in rows_of(tmp_path / "c")) == ["alpha", "alpha", "unknown", "unknown"]


def test_a_commit_may_be_old_and_abbreviated(run: Run, mirror: Path, tmp_path: Path) -> None:
    old = head(mirror, "ann/alpha")
    new = commit(mirror / "ann" / "alpha", {"out/0.png": encoded(picture(20)), "out/9.png": encoded(picture(21))})
    for name, wanted, images in (("whole", old, 3), ("short", old[:7], 3), ("new", new, 5)):
        table = write_table(mirror)
        table.write_text(f"{HEADER}alpha\tann/alpha\t{wanted}\t^out/\t\t\t\n", encoding="utf-8")
        done = run("corpus", table, "--output", tmp_path / name, "--from", f"{mirror}/{{repo}}")
        assert done.exit_code == 0
        rows = rows_of(tmp_path / name)
        assert {row["source"] for row in rows} == {"ann/alpha"}
        assert len(rows) == images


def test_repositories_of_one_origin_may_be_one_source(run: Run, mirror: Path, tmp_path: Path) -> None:
    table = tmp_path / "sources.tsv"
    rows = [
        ("alpha", "ann/alpha", head(mirror, "ann/alpha"), r"^out/", "one studio"),
        ("beta", "bob/beta", head(mirror, "bob/beta"), r"\.JPG$", "one studio"),
    ]
    header = "label\trepo\tcommit\tpath_regex\tsource\n"
    table.write_text(header + "".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    assert run("corpus", table, "--output", tmp_path / "c", "--from", f"{mirror}/{{repo}}").exit_code == 0
    assert {(row["generator"], row["source"]) for row in rows_of(tmp_path / "c")} == {
        ("alpha", "one studio"),
        ("beta", "one studio"),
    }


def test_a_server_that_is_not_reached_is_not_tried_for_ever(run: Run, mirror: Path, tmp_path: Path) -> None:
    alpha = head(mirror, "ann/alpha")
    table = write_table(mirror, *(("gamma", f"ann/{i}", alpha, "png", "", "", "") for i in range(5)))
    done = run("corpus", table, "--output", tmp_path / "corpus", "--from", "git://localhost:1/{repo}")
    assert (done.exit_code, done.stdout) == (4, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        f"genforensic: {table}: nothing was built; line 2, alpha, ann/alpha@{alpha[:10]}: cannot"
    )
    assert lines[0].count("cannot be reached") == 3
    assert lines[0].endswith("was not tried, as the 3 before could not be reached; and 2 more")


def test_git_is_needed(run: Run, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_table(mirror)
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("corpus", table, "--output", tmp_path / "corpus", "--from", f"{mirror}/{{repo}}")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: git is not installed, or not on the PATH; install it (https://git-scm.com) and try again\n"
    )


def start(arguments: Sequence[object], **options: Any) -> "subprocess.Popen[str]":
    """Start the command line in a process of its own."""
    pipe = subprocess.PIPE
    words = [sys.executable, "-m", "forensic_cli", *map(str, arguments)]
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, encoding="utf-8", **options)


def test_ctrl_c_is_one_line_and_the_next_run_goes_on(run: Run, mirror: Path, tmp_path: Path) -> None:
    arguments = ("corpus", write_table(mirror), "--output", tmp_path / "corpus", "--from", f"{mirror}/{{repo}}")
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    real = shutil.which("git")
    # beta's files never come; alpha's are there by then
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *beta.git*fetch*) : > {tmp_path}/hangs; exec sleep 60;; esac\nexec {real} "$@"\n'
    )
    slow.chmod(0o755)
    environment = child_environment()
    environment["PATH"] = f"{slow.parent}:{environment['PATH']}"
    with start(arguments, env=environment) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "hangs").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "genforensic: interrupted; everything written so far is complete\n"
    stopped = state_of(tmp_path / "corpus")
    assert len(stopped) == len(ALPHA)
    assert run(*arguments).exit_code == 0
    assert stopped.items() < state_of(tmp_path / "corpus").items()


def test_a_file_that_the_disk_does_not_take_is_one_line(run: Run, mirror: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    arguments = ("corpus", write_table(mirror), "--output", corpus, "--from", f"{mirror}/{{repo}}")
    assert run(*arguments).exit_code == 0
    before = state_of(corpus)
    path = next(row["path"] for row in rows_of(corpus) if row["generator"] == "alpha")
    (corpus / path).unlink()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    with start(arguments, env=child_environment(), preexec_fn=limit) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith("genforensic: ")
    assert stderr.endswith("File too large; check the path and the free disk space\n")
    assert len(stderr.splitlines()) == 1
    assert state_of(corpus).keys() == before.keys() - {path}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../x\ta/b\t\tx\t\t\t", "'../x' is no label, which names a folder"),
        ("x\ta/..\t\tx\t\t\t", "'a/..' is no repository; write owner/name"),
        ("x\t--upload-pack=x/b\t\tx\t\t\t", "'--upload-pack=x/b' is no repository; write owner/name"),
        ("x\ta/b\tmain\tx\t\t\t", "'main' is no commit; write its 40 hexadecimal digits, or the first 7 and more"),
        ("x\ta/b\tabcdef0\t(\t\t\t", "'(' is no regular expression (missing ), unterminated subpattern at position 0)"),
        ("x\ta/b\tabcdef0\tx\t0\t\t", "the cap is '0', not a number from 1 on"),
    ],
)
def test_a_wrong_row_is_named(run: Run, tmp_path: Path, row: str, message: str) -> None:
    table = tmp_path / "sources.tsv"
    table.write_text(f"{HEADER}{row}\n", encoding="utf-8")
    done = run("corpus", table, "--output", tmp_path / "corpus")
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == f"genforensic: {table}: line 2: {message}; correct or remove the row\n"
    assert not (tmp_path / "corpus").exists()


def test_the_projects_own_table_is_whole() -> None:
    sources = read_sources(ROOT / "train" / "sources.tsv")
    assert len(sources) > 150
    assert {len(source.commit) for source in sources if source.repo} == {40}
    keys = [(source.label, source.repo, source.commit, source.pattern.pattern) for source in sources]
    assert len(set(keys)) == len(keys)
    assert all(source.subject for source in sources)
