"""Tests of `scan --engine ray`: the local engine's rows, whatever dies, sealed in parts that every command reads."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forensic_cli.results_file import open_results
from hostile import write_corpus
from toys import child_environment, genforensic, make_images, solid

pytest.importorskip("ray")

MARK = "TEST_MARK"
"""Environment variable by which a test knows the processes of its own cluster."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Have one cluster for all scans in this process."""
    from forensic_cli.ray_workers import connected

    with connected(None, 2):
        yield


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Good, hostile and copied files."""
    folder = make_images(tmp_path / "mixed")
    (folder / "deep").mkdir()
    for i in range(6):
        shutil.copy(folder / "1-red.png", folder / f"{i}-copy.png")
        solid(folder / "deep" / f"{i}.png", (20 * i, 0, 0))
    write_corpus(folder / "deep")
    (folder / "not-an-image.txt").write_text("left out")
    return folder


def records(results: Path) -> list[dict[str, Any]]:
    return [row.record() for row in open_results(results).rows()]


@pytest.mark.parametrize(("report_format", "part_size"), [("jsonl", 50), ("parquet", 4)])
def test_the_rows_are_those_of_the_local_engine(
    run: Any, cluster: None, toy_exports: Path, mixed: Path, tmp_path: Path, report_format: str, part_size: int
) -> None:
    if report_format == "parquet":
        shutil.rmtree(mixed / "deep")
        (mixed / "bad.png").write_text("bad")
    options = ("--exports", toy_exports, "-t", "all", "--dedupe", "--quiet")
    local = run("scan", mixed, *options, "--output", tmp_path / "local.jsonl")
    parts = tmp_path / "parts"
    done = run(
        *("scan", mixed, *options, "--engine", "ray", "--workers", 2, "--part-size", part_size),
        *("--format", report_format, "--output", parts),
    )
    assert (done.exit_code, done.stdout, done.stderr) == (local.exit_code, "", "")
    expected = records(tmp_path / "local.jsonl")
    assert records(parts) == expected
    assert any(row["duplicate_of"] for row in expected)
    assert any(row["status"] != "ok" for row in expected)
    sizes = [json.loads(line)["rows"] for line in (parts / "manifest.jsonl").read_text().splitlines()[1:-2]]
    assert sum(sizes) == len(expected)
    assert set(sizes[:-1]) == {part_size}
    same = run("diff", tmp_path / "local.jsonl", parts, "--images-only")
    assert (same.exit_code, same.stdout) == (0, f"The scans are the same: {len(expected)} images.\n")


@pytest.fixture(scope="module")
def sealed(cluster: None, toy_exports: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return five images, and parts of two rows each about them; neither is changed by a test."""
    from typer.testing import CliRunner

    from forensic_cli.main import app

    images, folder = (
        make_images(tmp_path_factory.mktemp("sealed") / "images"),
        tmp_path_factory.mktemp("sealed") / "parts",
    )
    done = CliRunner().invoke(app, [str(word) for word in scan_command(images, toy_exports, folder)])
    assert done.exit_code == 0, done.output
    return images, folder


@pytest.fixture
def images(sealed: tuple[Path, Path]) -> Path:
    """Return the images, put back as they were after the test."""
    return sealed[0]


@pytest.fixture
def parts(sealed: tuple[Path, Path], tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the parts, for tests that change it; the images are put back afterwards."""
    kept = shutil.copytree(sealed[0], tmp_path / "kept")
    yield shutil.copytree(sealed[1], tmp_path / "parts")
    shutil.rmtree(sealed[0])
    shutil.copytree(kept, sealed[0])


def scan_command(images: Any, toy_exports: Path, folder: Path, *more: object) -> tuple[object, ...]:
    options = ("--engine", "ray", "--workers", 1, "--part-size", 2, "--quiet", "--output", folder)
    return ("scan", images, "--exports", toy_exports, *options, *more)


def test_resume_judges_only_what_does_not_hold(
    run: Any, parts: Path, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    (parts / "manifest.jsonl").unlink()
    (parts / "part-000001.jsonl").write_text("damaged")
    (parts / "part-000007.jsonl").write_text("of a longer list")
    shutil.copy(images / "1-red.png", images / "5-tiny.png")  # now a copy of a file in a part that stays
    untouched = (parts / "part-000000.jsonl").stat().st_mtime_ns
    assert run(*scan_command(images, toy_exports, parts, "--resume")).exit_code == 0
    assert (parts / "part-000000.jsonl").stat().st_mtime_ns == untouched
    assert not (parts / "part-000007.jsonl").exists()
    run("scan", images, "--exports", toy_exports, "--output", tmp_path / "fresh.jsonl")
    assert records(parts) == records(tmp_path / "fresh.jsonl")
    assert records(parts)[4]["duplicate_of"] == str(images / "1-red.png")


def test_marks_follow_a_file_that_changed_in_an_earlier_part(
    run: Any, parts: Path, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    shutil.copy(images / "4-grey.png", images / "1-red.png")
    assert run(*scan_command(images, toy_exports, parts, "--resume")).exit_code == 0
    assert [row["duplicate_of"] for row in records(parts)] == [None] * 3 + [str(images / "1-red.png"), None]
    assert run("verify", parts, "--exports", toy_exports).exit_code == 0


def test_another_scan_is_not_resumed(run: Any, parts: Path, toy_exports: Path, images: Path) -> None:
    before = {path: path.read_bytes() for path in parts.iterdir()}
    done = run(*scan_command(images, toy_exports, parts, "--resume", "--threshold", 0.99))
    assert (done.exit_code, done.stderr.split(";")[0]) == (2, f"genforensic: {parts}: was begun with other threshold")
    done = run(*scan_command(images / "4-grey.png", toy_exports, parts, "--resume"))
    assert (done.exit_code, "holds rows of other files, the first of" in done.stderr) == (2, True)
    done = run(*scan_command(images, toy_exports, parts, "--resume", "--address", "127.0.0.1:9"))
    assert done.exit_code == 2
    assert {path: path.read_bytes() for path in parts.iterdir() if path.name != ".manifest.jsonl"} == before


def test_other_files_in_the_folder_are_left_alone(run: Any, parts: Path, toy_exports: Path, images: Path) -> None:
    (parts / "part-1.jpg").write_text("evidence")
    (parts / "part-list.jsonl").write_text("notes")
    run(*scan_command(images, toy_exports, parts, "--resume"))
    assert run(*scan_command(images, toy_exports, parts, "--force")).exit_code == 0
    assert ((parts / "part-1.jpg").read_text(), (parts / "part-list.jsonl").read_text()) == ("evidence", "notes")


@pytest.mark.parametrize("has_manifest", [True, False])
def test_an_edited_part_is_not_sealed_by_going_on(
    run: Any, parts: Path, toy_exports: Path, images: Path, has_manifest: bool
) -> None:
    expected = records(parts)
    part = parts / "part-000000.jsonl"
    part.write_text(part.read_text().replace('"headline": "real"', '"headline": "generated"', 1))
    if not has_manifest:
        (parts / "manifest.jsonl").unlink()
    done = run(*scan_command(images, toy_exports, parts, "--resume"))
    if has_manifest:
        assert (done.exit_code, "its seal does not hold" in done.stderr) == (2, True)
    else:
        assert (done.exit_code, records(parts)) == (0, expected)


def test_verify_names_the_part_and_the_row(run: Any, parts: Path, toy_exports: Path, images: Path) -> None:
    holds = run("verify", parts, "--exports", toy_exports)
    assert (holds.exit_code, holds.stdout.splitlines()[0]) == (
        0,
        f"{parts}: holds; 5 rows, 5 images and 1 model compared",
    )
    part = parts / "part-000001.jsonl"
    part.write_text(part.read_text().replace("3-blue", "9-blue"))
    (parts / "part-000002.jsonl").rename(parts / "part-000003.jsonl")
    broken = run("verify", parts, "--no-files", "--no-models")
    assert broken.exit_code == 11
    assert broken.stdout.splitlines()[:3] == [
        f"part_changed: part-000001.jsonl: has another sha256 than the manifest says (row 1 ({images}"
        "/9-blue.bmp) is not what was sealed there)",
        "part_missing: part-000002.jsonl: the part is gone or cannot be read",
        "part_added: part-000003.jsonl: is not in the manifest",
    ]


def test_an_edited_manifest_does_not_hold(run: Any, parts: Path) -> None:
    manifest = parts / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"rows": 2', '"rows": 3', 1))
    broken = run("verify", parts, "--no-files", "--no-models")
    assert (broken.exit_code, broken.stdout.split(":")[0]) == (11, "rows_changed")
    again = run("verify", parts, "--json")
    assert json.loads(again.stdout)["faults"][0]["subject"] == "part-000000.jsonl"


def test_other_commands_take_a_folder_of_parts(run: Any, parts: Path, toy_exports: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = run("report", parts, "--html", page, "--sample", 3, "--exports", toy_exports, "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    text = page.read_text()
    assert "This page shows 3 of 5 files: as many of each answer, the surest first." in text
    assert text.count('"path":"') == 3
    assert "<strong>2</strong> <span>generated</span>" in text  # of all five, not of the three
    asked = run("triage", parts, "--analyst", "A")
    assert "1 of 2  " in asked.stdout
    assert "4-grey.png" in asked.stdout


def test_a_sample_has_as_many_of_each_answer(run: Any, cluster: None, toy_exports: Path, tmp_path: Path) -> None:
    from forensic_cli.queries import sample

    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(12):
        solid(folder / f"{i:02}-red.png", (255 - i, 0, 0))
    for i in range(3):
        solid(folder / f"{i + 12}-blue.png", (0, 0, 255 - i))
    (folder / "15-bad.png").write_text("bad")
    run(*scan_command(folder, toy_exports, tmp_path / "parts"))
    assert sample(tmp_path / "parts", 6) == {0, 1, 12, 13, 14, 15} - {14} | {2}
    assert sample(tmp_path / "parts", 100) == set(range(16))


def test_diff_of_parts_names_every_difference(
    run: Any, parts: Path, toy_exports: Path, images: Path, tmp_path: Path
) -> None:
    shutil.copy(images / "3-blue.bmp", images / "1-red.png")
    (images / "2-green.webp").unlink()
    solid(images / "6-new.png", (255, 0, 0))
    new, in_memory = tmp_path / "new", tmp_path / "new.jsonl"
    run(*scan_command(images, toy_exports, new))
    run("scan", images, "--exports", toy_exports, "--output", in_memory)
    run("scan", images, "--exports", toy_exports, "--output", tmp_path / "old.jsonl", "--force")
    old = tmp_path / "old.jsonl"
    old.write_text("".join([old.read_text().splitlines(keepends=True)[0], *lines_of(parts)]))
    compared = [run("diff", *pair, "--images-only", "-f", "json") for pair in ((parts, new), (old, in_memory))]
    assert compared[0].exit_code == 12
    by_parts, by_memory = (json.loads(done.stdout) for done in compared)
    assert by_parts == by_memory
    assert by_parts["totals"]["added"] == by_parts["totals"]["removed"] == 1


def lines_of(parts: Path) -> Iterator[str]:
    for path in sorted(parts.glob("part-*")):
        yield from path.read_text().splitlines(keepends=True)[1:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "ray"), "--engine ray writes a folder of parts; add --output FOLDER"),
        (
            ("--engine", "ray", "-f", "html", "-o", "x"),
            "--engine ray writes parts; --format is jsonl or parquet, not html",
        ),
        (
            ("--engine", "ray", "-o", "x", "--sort", "path"),
            "--engine ray writes the rows of all files in their order; leave out --watch, --sort, --only and "
            "--min-confidence",
        ),
        (("--address", "10.0.0.1:6379"), "--address and --part-size are for scans on a cluster; add --engine ray"),
        (
            ("--engine", "ray", "-o", "x", "--address", "nonsense"),
            "--address 'nonsense' is not understood; give HOST:PORT of the cluster's head, or auto",
        ),
        (
            ("--engine", "ray", "-o", "x", "--address", "127.0.0.1:9"),
            "--address 127.0.0.1:9: nothing answers there ([Errno 111] Connection refused); start a head with "
            "`ray start --head`",
        ),
    ],
)
def test_what_cannot_work_is_one_line(
    run: Any,
    toy_exports: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("scan", images, "--exports", toy_exports, *options)
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", f"genforensic: {message}\n")


def test_a_folder_with_results_is_not_overwritten(run: Any, parts: Path, toy_exports: Path, images: Path) -> None:
    again = run(*scan_command(images, toy_exports, parts))
    wanted = f"genforensic: {parts}: already exists; choose another name, or overwrite it with --force\n"
    assert (again.exit_code, again.stderr) == (2, wanted)
    assert run(*scan_command(images, toy_exports, parts, "--force")).exit_code == 0


def test_a_folder_of_a_stopped_scan_says_so(run: Any, parts: Path) -> None:
    (parts / "manifest.jsonl").unlink()
    done = run("verify", parts)
    assert done.exit_code == 2
    assert "has parts but no manifest: the scan was stopped; go on with --resume" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"versions": {"opencv": "4.0"}}, r"has opencv .* \(this scan: 4\.0\); install the same versions"),
        ({"sources": (Path("/nowhere/at/all"),)}, r"does not see the images \(No such file or directory\); mount them"),
        ({"device": "cuda"}, r"no CUDA device was found"),
    ],
)
def test_a_worker_that_cannot_judge_says_why(toy_exports: Path, cluster: None, change: Any, message: str) -> None:
    import ray

    from forensic_cli.errors import UsageError
    from forensic_cli.exports import peek_exports
    from forensic_cli.ray_workers import Pool, WorkerSpec, running_versions
    from forensic_cli.scan import ScanSettings

    found = peek_exports([toy_exports / "native-baseline.onnx"])
    contents = {export.path: export.path.read_bytes() for export in found}
    spec = WorkerSpec(found, contents, ScanSettings(), "cpu", running_versions())
    pool = Pool(ray, replace(spec, **change), 1, False)
    with pytest.raises(UsageError, match=rf"^a worker on \S+: {message}"):
        pool.wait()
    pool.close()


def test_a_folder_whose_name_is_a_pattern_is_taken_as_it_is(run: Any, parts: Path, tmp_path: Path) -> None:
    from forensic_cli.queries import count_rows, sample

    odd = parts.rename(tmp_path / "label=real[1]*")
    (tmp_path / "label=real1x").mkdir()
    assert (sample(odd, 10), count_rows(odd)) == (set(range(5)), 5)
    assert run("diff", odd, odd).exit_code == 0


def test_a_manifest_that_was_cut_or_names_other_files_is_refused(run: Any, parts: Path) -> None:
    manifest = parts / "manifest.jsonl"
    whole = manifest.read_text().splitlines(keepends=True)
    for lines in (whole[:2], whole[:1], [whole[0], whole[1].replace("part-000000", "../x"), *whole[2:]]):
        manifest.write_text("".join(lines))
        for command in (("verify", parts), ("report", parts, "--html", parts / "x.html"), ("triage", parts)):
            done = run(*command)
            assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
            assert "see `genforensic verify`" in done.stderr


# What dies: each of these scans has a cluster of its own, in a child process

SLOW = """
import os, signal, time
import simplejpeg, cv2
decode = cv2.imdecode
def slow(data, *more):
    if b"KILLER" in bytes(data):
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(float(os.environ.get("TEST_SLEEP", 0)))
    return decode(data, *more)
cv2.imdecode = slow
"""
"""A sitecustomize for the workers: OpenCV takes long, and crashes at certain bytes."""


@pytest.fixture
def tampered(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which OpenCV behaves as SLOW says."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SLOW)
    paths = os.pathsep.join([str(tmp_path / "site"), child_environment()["PYTHONPATH"]])
    return {"PYTHONPATH": paths, MARK: str(tmp_path)}


def workers_of(mark: str) -> list[int]:
    """Return the processes of judging workers in the cluster that a test started."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command, environment = ((entry / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if entry.name.isdecimal() and b"JudgingWorker" in command and f"{MARK}={mark}".encode() in environment:
            found.append(int(entry.name))
    return found


def wait_for(condition: Any, seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return result


def many(folder: Path, number: int) -> Path:
    folder.mkdir()
    for i in range(number):
        solid(folder / f"{i:03}.png", (i, 255 - i, 0))
    return folder


def test_a_killed_worker_loses_and_doubles_nothing(toy_exports: Path, tmp_path: Path, tampered: dict[str, str]) -> None:
    images, parts = many(tmp_path / "many", 60), tmp_path / "parts"
    command = [str(word) for word in scan_command(images, toy_exports, parts, "--part-size", 5, "--workers", 2)]
    environment = child_environment(**tampered, TEST_SLEEP="0.2")
    scan = subprocess.Popen([sys.executable, "-m", "forensic_cli", *command], env=environment)
    try:
        wait_for(lambda: list(parts.glob("part-*")))
        os.kill(wait_for(lambda: workers_of(tampered[MARK]))[0], signal.SIGKILL)
        assert scan.wait(90) == 0
    finally:
        scan.kill()
        scan.wait()
    genforensic("scan", images, "--exports", toy_exports, "--output", tmp_path / "local.jsonl")
    assert records(parts) == records(tmp_path / "local.jsonl")
    assert len(list(parts.glob("part-*"))) == 12


def test_a_file_that_kills_its_worker_is_found_and_the_rest_is_judged(
    toy_exports: Path, tmp_path: Path, tampered: dict[str, str]
) -> None:
    images, parts = many(tmp_path / "many", 8), tmp_path / "parts"
    with (images / "002.png").open("ab") as stream:
        stream.write(b"KILLER")
    done = genforensic(*map(str, scan_command(images, toy_exports, parts, "--part-size", 4)), env=tampered, timeout=120)
    assert (done.returncode, done.stdout) == (1, "")
    assert set(done.stderr.splitlines()) == {"A worker died; its files are judged again"}
    rows = records(parts)
    assert [row["status"] for row in rows] == ["ok"] * 2 + ["unreadable"] + ["ok"] * 5
    assert rows[2]["reason"].startswith("the process that judged the file died, twice")
    assert genforensic("verify", parts, "--exports", toy_exports).returncode == 0


def test_a_killed_machine_loses_and_doubles_nothing(
    toy_exports: Path, tmp_path: Path, tampered: dict[str, str]
) -> None:
    from ray.cluster_utils import Cluster

    images, parts = many(tmp_path / "many", 60), tmp_path / "parts"
    environment = child_environment(**tampered, TEST_SLEEP="0.2")
    settings = {"env_vars": environment, "object_store_memory": 100 << 20}
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **settings})
    try:
        lost = machines.add_node(num_cpus=1, **settings)
        command = [str(word) for word in scan_command(images, toy_exports, parts, "--part-size", 5, "--workers", 2)]
        arguments = [*command, "--address", machines.address]
        scan = subprocess.Popen([sys.executable, "-m", "forensic_cli", *arguments], env=environment)
        wait_for(lambda: list(parts.glob("part-*")))
        machines.remove_node(lost, allow_graceful=False)
        assert scan.wait(120) == 0
    finally:
        scan.kill()
        scan.wait()
        machines.shutdown()
    genforensic("scan", images, "--exports", toy_exports, "--output", tmp_path / "local.jsonl")
    assert records(parts) == records(tmp_path / "local.jsonl")


def test_a_full_disk_is_one_line_and_resume_goes_on(run: Any, cluster: None, toy_exports: Path, tmp_path: Path) -> None:
    images, disk = many(tmp_path / "many", 12), tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "none", disk], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        command = scan_command(images, toy_exports, disk / "parts")
        done = run(*command)
        assert done.exit_code == 2
        assert "cannot be written any further (No space left on device); all parts before it are whole" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert run(*command, "--resume").exit_code == 0
        run("scan", images, "--exports", toy_exports, "--output", tmp_path / "local.jsonl")
        assert records(disk / "parts") == records(tmp_path / "local.jsonl")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
