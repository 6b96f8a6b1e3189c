"""Tests of scans of object stores, against a server that speaks S3 on this machine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from forensic_cli.discover import LeftOut, Search, discover
from forensic_cli.objects import ObjectUrl, is_url
from toys import make_images, rows_of, solid

BUCKET = "case-17"


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """Start an S3 server, and set what its clients read from the environment; returns a client."""
    machine = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    machine.start()
    host, port = machine.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    machine.stop()


@pytest.fixture(scope="module")
def folder(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose files are in the bucket as well."""
    root = make_images(tmp_path_factory.mktemp("store") / "images")
    (root / "deep" / "er").mkdir(parents=True)
    solid(root / "deep" / "er" / "no suffix", (255, 0, 0), format="PNG")
    solid(root / "deep" / "päth #1 50%.png", (0, 255, 0))
    (root / "deep" / "copy.png").write_bytes((root / "1-red.png").read_bytes())
    (root / "deep" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (root / "notes.txt").write_text("left out")
    for path in root.rglob("*"):
        if path.is_file():
            server.put_object(Bucket=BUCKET, Key=f"images/{path.relative_to(root)}", Body=path.read_bytes())
    return root


def comparable(row: dict[str, Any], root: str) -> dict[str, Any]:
    return json.loads(json.dumps(row).replace(root, "ROOT"))


URL = f"s3://{BUCKET}/images"


def test_a_bucket_is_scanned_like_a_folder(run: Any, toy_exports: Path, folder: Path) -> None:
    options = ("--exports", toy_exports, "-t", "all", "--format", "jsonl")
    local, stored = run("scan", folder, *options), run("scan", URL, *options)
    assert stored.exit_code == local.exit_code == 1  # one file is broken
    there = sorted((comparable(row, URL) for row in rows_of(stored.stdout)), key=lambda row: row["path"])
    here = sorted((comparable(row, str(folder)) for row in rows_of(local.stdout)), key=lambda row: row["path"])
    assert [row["path"] for row in there] == [row["path"] for row in here]
    assert there == here
    assert len(here) == 9


def test_ray_reads_a_bucket_too(run: Any, toy_exports: Path, folder: Path, tmp_path: Path) -> None:
    parts, lines = tmp_path / "parts", tmp_path / "lines.jsonl"
    ray = ("--engine", "ray", "--workers", 1, "--part-size", 4, "--quiet")
    assert run("scan", URL, "--exports", toy_exports, *ray, "--output", parts).exit_code == 1
    assert run("scan", URL, "--exports", toy_exports, "--output", lines).exit_code == 1
    assert run("diff", lines, parts, "--images-only").exit_code == 0
    checked = run("verify", parts, "--exports", toy_exports)
    assert (checked.exit_code, checked.stdout.splitlines()[0]) == (
        0,
        f"{parts}: holds; 9 rows, 9 images and 1 model compared",
    )


def test_include_exclude_and_no_recursion(folder: Path) -> None:
    def names(search: Search) -> list[str]:
        entries = discover([ObjectUrl(URL)], search)
        return [str(entry).removeprefix(f"{URL}/") for entry in entries if not isinstance(entry, LeftOut)]

    assert names(Search(recursive=False)) == ["1-red.png", "2-green.webp", "3-blue.bmp", "4-grey.png", "5-tiny.png"]
    assert names(Search(include=("*.webp",))) == ["2-green.webp"]
    assert names(Search(exclude=("er", "*.bmp", "?-*.png"))) == [
        "2-green.webp",
        "deep/broken.jpg",
        "deep/copy.png",
        "deep/päth #1 50%.png",
    ]


def test_objects_named_twice_are_scanned_once(run: Any, toy_exports: Path, folder: Path) -> None:
    done = run(
        "scan", f"{URL}/4-grey.png", URL, f"{URL}/", "--exports", toy_exports, "--format", "jsonl", "--no-recursive"
    )
    assert [Path(row["path"]).name for row in rows_of(done.stdout)] == [
        "4-grey.png",
        *("1-red.png", "2-green.webp", "3-blue.bmp", "5-tiny.png"),
    ]


def test_an_object_that_is_gone_when_its_turn_comes_is_a_row(
    run: Any, toy_exports: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{URL}/1-red.png\n{URL}/gone.png\n{URL}/deep\n")
    with listed.open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        from forensic_cli.discover import sources
        from forensic_cli.exports import export_files, peek_exports, select
        from forensic_cli.model import load_models
        from forensic_cli.scan import ScanSettings, scan

        files = [file for file in discover(sources(["-"])) if not isinstance(file, LeftOut)]
    models = load_models(select(peek_exports(export_files(toy_exports)), [], None), "cpu")
    rows = list(scan(files, models, ScanSettings()))
    assert [(row.status, row.reason) for row in rows[:2]] == [("ok", None), ("missing", "the object is gone")]
    assert rows[2].status in ("missing", "unreadable")  # a folder, named as if it were an object


def test_a_key_that_cannot_be_reached_is_a_row_and_loses_nothing_else(run: Any, toy_exports: Path, server: Any) -> None:
    good = {"a/1.png", "b/2.png"}
    server.create_bucket(Bucket="hostile")
    for key in (*good, "a//x.png", "../up.png", "b/./3.png"):
        server.put_object(Bucket="hostile", Key=key, Body=b"nothing")
    done = run("scan", "s3://hostile", "--exports", toy_exports, "--format", "jsonl")
    rows = {row["path"]: row["status"] for row in rows_of(done.stdout)}
    assert done.exit_code == 1
    # An HTTP client resolves such a path, and a server answers with something else
    assert {path.removeprefix("s3://hostile/"): status for path, status in rows.items()} == {
        **dict.fromkeys(good, "not_an_image"),
        **dict.fromkeys(("a//", "..", "b/."), "unreadable"),
    }


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (f"s3://{BUCKET}/nowhere", "no such object or folder; give existing ones"),
        ("s3://no-such-bucket-here/x", "no such object or folder; give existing ones"),
        ("http://example.com/x.png", "no such file or folder; give existing images or folders"),
    ],
)
def test_what_is_not_there_is_wrong_use(run: Any, toy_exports: Path, folder: Path, argument: str, message: str) -> None:
    done = run("scan", argument, "--exports", toy_exports)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{message}\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_store_that_does_not_answer_is_one_line(run: Any, toy_exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = run("scan", "s3://elsewhere/x", "--exports", toy_exports)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "s3://elsewhere/x: cannot be reached (" in done.stderr
    assert "check address and credentials" in done.stderr


def test_watch_refuses_a_bucket(run: Any, toy_exports: Path, folder: Path) -> None:
    done = run("scan", URL, "--exports", toy_exports, "--watch", "--format", "jsonl")
    assert (done.exit_code, done.stderr.splitlines()[-1].count("--watch watches folders")) == (2, 1)


@pytest.mark.parametrize("text", ["s3://b", "gs://b/k"])
def test_urls_of_stores(text: str) -> None:
    assert is_url(text)


@pytest.mark.parametrize("text", ["s3:/b/k", "s3", "s3://", "./s3://b/k", "http://b/k", "abfs://b/k", "C:\\s3"])
def test_other_texts_are_paths(text: str) -> None:
    assert not is_url(text)
