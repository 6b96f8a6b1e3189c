"""Tests of the Python API: the rows of the command line, from a program."""

import re
from pathlib import Path
from typing import Any

import pytest

import forensic_cli
from forensic_cli import FileResult, GenforensicError, Scanner, read_results, scan_files
from toys import ROOT, rows_of


def test_a_scanner_yields_the_rows_of_the_command(run: Any, toy_exports: Path, images: Path) -> None:
    (images / "bad.png").write_text("not an image")
    done = run("scan", images, "--exports", toy_exports, "-t", "all", "--format", "jsonl")
    scanner = Scanner(["all"], exports=toy_exports)
    for _ in range(2):  # it can be used again
        assert [row.record() for row in scanner.scan([images])] == rows_of(done.stdout)
    assert [model.technique for model in scanner.header.models] == ["adversarial", "baseline", "finetune", "weighted"]


def test_bytes_are_judged_like_a_file(toy_exports: Path, images: Path) -> None:
    scanner = Scanner(exports=toy_exports)
    for row in scanner.scan([str(images)]):
        assert scanner.judge(Path(row.path).read_bytes(), row.path) == row
    assert scanner.judge(b"nothing", "upload.png").status == "not_an_image"


def test_scan_files_uses_the_models_that_ship(images: Path) -> None:
    rows = list(scan_files([images / "4-grey.png"]))
    assert [type(row) for row in rows] == [FileResult]
    assert rows[0].verdict is not None


def test_errors_have_one_class_and_one_line(toy_exports: Path, images: Path) -> None:
    with pytest.raises(GenforensicError, match="no export has technique 'none'"):
        Scanner(["none"], exports=toy_exports)
    with pytest.raises(GenforensicError, match="no such file or folder"):
        Scanner(exports=toy_exports).scan([images / "gone"])


def test_results_are_read_back(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    run("scan", images, "--exports", toy_exports, "--output", tmp_path / "case.jsonl")
    results = read_results(tmp_path / "case.jsonl")
    assert results.header.models[0].technique == "baseline"
    assert list(results.rows()) == list(Scanner(exports=toy_exports).scan([images]))


def test_every_public_name_is_there_and_documented() -> None:
    for name in forensic_cli.__all__:
        assert getattr(forensic_cli, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = forensic_cli.nothing


def test_the_example_in_the_docs_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Any
) -> None:
    text = (ROOT / "train" / "docs" / "how-to.md").read_text(encoding="utf-8")
    section = text[text.index("## Call it from Python") :]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example
    monkeypatch.chdir(ROOT)
    exec(compile(example[1], "how-to.md", "exec"), {})
    assert "mobilestylegan_face_1_half.png generated" in capsys.readouterr().out
