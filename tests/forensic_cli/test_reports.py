"""Tests of reports: every format carries the evidence, and a hostile file name stays a file name."""

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forensic_cli import __version__
from forensic_cli.reports import REPORTS, make_report
from forensic_cli.results import FileResult, Prediction, RunHeader, Summary, Verdict
from pages import read_page
from toys import genforensic, solid

Row = dict[str, Any]

FIELDS = [
    "path",
    "status",
    "reason",
    "verdict",
    "label",
    "confidence",
    "agreement",
    "candidates",
    "scores",
    "log10_lr",
    "techniques",
    "sha256",
    "bytes",
    "format",
    "width",
    "height",
    "warnings",
]

HEADER = RunHeader(
    version="1.2.3",
    models=tuple(
        {
            "name": f"native-{technique}",
            "technique": technique,
            "recipe": "native",
            "labels": ["real", "alpha"],
            "temperature": 1.25,
            "file": f"native-{technique}.onnx",
            "sha256": digit * 64,
        }
        for technique, digit in (("baseline", "a"), ("weighted", "b"))
    ),
    providers=("CPUExecutionProvider", "CPUExecutionProvider"),
    onnxruntime="1.31.1",
    ensemble="mean",
    threshold=0.625,
    started="2026-01-02T03:04:05+00:00",
)


def good(path: str = "case/a.png", verdict: str = "alpha", warnings: tuple[str, ...] = ()) -> FileResult:
    techniques = {
        "baseline": Prediction("alpha", 0.9375, {"real": 0.0625, "alpha": 0.9375}),
        "weighted": Prediction("real", 0.53125, {"real": 0.53125, "alpha": 0.46875}),
    }
    judged = Verdict(verdict, "alpha", 0.703125, {"real": 0.296875, "alpha": 0.703125}, 0.5, techniques)
    return FileResult(path, "ok", None, judged, "c" * 64, 12345, "WEBP", 640, 479, 4, warnings)


def weighed(path: str = "case/w.png", candidates: tuple[str, ...] = ("real", "alpha")) -> FileResult:
    """Return an inconclusive row of models with sets and with a ratio of alpha."""
    techniques = {
        "baseline": Prediction("alpha", 0.75, {"real": 0.25, "alpha": 0.75}, ("real", "alpha"), {"alpha": 1.25}),
        "weighted": Prediction("alpha", 0.625, {"real": 0.375, "alpha": 0.625}, ("alpha",), {"alpha": 0.5}),
    }
    scores = {"real": 0.3125, "alpha": 0.6875}
    judged = Verdict("inconclusive", "alpha", 0.6875, scores, 1.0, techniques, candidates, {"alpha": 0.5})
    return FileResult(path, "ok", None, judged, "c" * 64, 12345, "WEBP", 640, 479, 4, ())


def bad(path: str = "case/b.png", reason: str = "the file ends before the picture does") -> FileResult:
    return FileResult(path, "truncated", reason, None, "d" * 64, 77, "PNG", 31, 23, 0, ())


def render(
    name: str, rows: list[FileResult], left_out: int = 0, colour: bool = False, header: RunHeader = HEADER
) -> str:
    report, summary = make_report(name, colour), Summary.empty()
    summary.left_out = left_out
    text = report.begin(header)
    for row in rows:
        text += report.row(row)
        summary.add(row)
    return text + report.end(summary)


def read_jsonl(text: str) -> list[Row]:
    return [json.loads(line) for line in text.split("\n")[1:-1]]


def read_json(text: str) -> list[Row]:
    files: list[Row] = json.loads(text)["files"]
    return files


def split(cell: str) -> list[str]:
    return cell.split(";") if cell else []


def ratios(flat: Row, prefix: str) -> dict[str, float]:
    return {label: float(flat[prefix + label]) for label in ("real", "alpha") if flat[prefix + label]}


def read_csv(text: str) -> list[Row]:
    """Put the columns of a CSV row together again to the record of the other formats."""
    rows = []
    for flat in csv.DictReader(io.StringIO(text, newline="")):
        row: Row = {name: flat[name] or None for name in FIELDS if name in flat}
        for name, kind in (
            ("confidence", float),
            ("agreement", float),
            ("bytes", int),
            ("width", int),
            ("height", int),
        ):
            row[name] = kind(row[name]) if row[name] else None  # type: ignore[operator]
        row["warnings"] = split(flat["warnings"])
        row["candidates"] = row["scores"] = row["log10_lr"] = row["techniques"] = None
        if row["status"] == "ok":
            row["candidates"] = split(flat["candidates"])
            row["scores"] = {label: float(flat[f"score_{label}"]) for label in ("real", "alpha")}
            row["log10_lr"] = ratios(flat, "log10_lr_")
            row["techniques"] = {
                name: {
                    "label": flat[f"{name}_label"],
                    "confidence": float(flat[f"{name}_confidence"]),
                    "scores": {label: float(flat[f"{name}_score_{label}"]) for label in ("real", "alpha")},
                    "candidates": split(flat[f"{name}_candidates"]),
                    "log10_lr": ratios(flat, f"{name}_log10_lr_"),
                }
                for name in ("baseline", "weighted")
            }
        rows.append(row)
    return rows


def read_html(text: str) -> list[Row]:
    return read_page(text).records()


READERS: dict[str, Callable[[str], list[Row]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "html": read_html,
}
"""How a program reads each format back; `table` is for people."""


def test_every_format_is_tested() -> None:
    assert set(READERS) | {"table"} == set(REPORTS)


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_format_carries_every_field_of_every_row(name: str) -> None:
    rows = [good(), bad(), weighed(), good("c.png", "inconclusive", ("alpha_dropped", "padded"))]
    found = READERS[name](render(name, rows))
    assert [{field: row[field] for field in FIELDS} for row in found] == [
        {field: row.record()[field] for field in FIELDS} for row in rows
    ]


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_every_format_says_what_judged_the_files(name: str) -> None:
    """DESIGN, Evidence, each scan: tool, models with sha256, ONNX Runtime, the provider in use, the time."""
    text = render(name, [good()])
    digests = ("a" * 64, "b" * 64) if name != "table" else ("a" * 12, "b" * 12)
    evidence = (
        "1.2.3",
        "native-baseline",
        "native-weighted",
        *digests,
        "CPUExecutionProvider",
        "1.31.1",
        HEADER.started,
    )
    assert [one for one in evidence if one not in text] == []


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_a_format_with_no_rows_is_still_whole(name: str) -> None:
    text = render(name, [])
    assert text.endswith("\n")
    if name in READERS:
        assert READERS[name](text) == []


def test_the_first_line_of_jsonl_is_the_header() -> None:
    lines = render("jsonl", [good(), bad()]).splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == {"genforensic": HEADER.record()}
    assert next(iter(json.loads(lines[1]))) == "path"


def test_json_is_one_document_with_run_files_and_summary() -> None:
    document = json.loads(render("json", [good(), bad(), good()], left_out=3))
    assert list(document) == ["run", "files", "summary"]
    assert document["run"] == HEADER.record()
    assert document["summary"] == {
        "judged": 2,
        "unreadable": 1,
        "left_out": 3,
        "verdicts": {"alpha": 2},
        "statuses": {"truncated": 1},
    }


def test_csv_columns() -> None:
    head = next(csv.reader([render("csv", [])]))
    assert head[:14] == (
        [
            "path",
            "status",
            "reason",
            "verdict",
            "label",
            "confidence",
            "agreement",
            "sha256",
            "bytes",
            "format",
            "width",
            "height",
            "views",
            "warnings",
        ]
    )
    assert len(head) == len(set(head))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_neutralises_formulas(start: str) -> None:
    path = f"{start}cmd|'/c calc'!A0.png"
    cell = next(csv.DictReader(io.StringIO(render("csv", [good(path)]), newline="")))["path"]
    assert cell == "'" + path


def test_csv_neutralises_labels_and_leaves_numbers_alone() -> None:
    row = next(csv.DictReader(io.StringIO(render("csv", [good(verdict="=1+1")]), newline="")))
    assert row["verdict"] == "'=1+1"
    assert row["confidence"] == "0.703125"


@pytest.mark.parametrize(
    "path",
    ['a"b,c;d.png', "line\nbreak.png", "return\r.png", "esc\x1b[31m.png", "tab\t.png", "é 漢字.png", "’\u2028.png"],
)
@pytest.mark.parametrize("name", sorted(READERS))
def test_a_strange_name_is_read_back_as_it_was(name: str, path: str) -> None:
    found = READERS[name](render(name, [good(path), bad(path)]))
    assert [row["path"] for row in found] == [path, path]


@pytest.mark.parametrize(
    "path", ["line\nbreak.png", "return\r.png", "esc\x1b[31m.png", "bell\x07.png", "c1\x9b31m.png", "flip\u202egnp.exe"]
)
def test_the_table_shows_control_characters_instead_of_obeying_them(path: str) -> None:
    text = render("table", [good(path), bad(path)])
    assert not [c for c in text.replace("\n", "") if not c.isprintable()]
    assert text.count(path.encode("unicode_escape").decode()) == 3  # two rows, and the list of unreadable files


@pytest.mark.parametrize("name", sorted(REPORTS))
def test_real_file_names_of_any_bytes_reach_every_report(name: str, tmp_path: Path, toy_exports: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for raw in (b"new\nline.png", b"esc\x1b[2J.png", b"latin\xe9.png", b"[bold]markup.png"):
        solid(tmp_path / "x.png", (255, 0, 0)).rename(folder / os.fsdecode(raw))
    done = genforensic("scan", folder, "--exports", toy_exports, "-f", name)
    assert (done.returncode, done.stderr) == (0, "")
    if name == "table":
        shown = [r"esc\x1b[2J.png", r"latin\xe9.png", r"new\nline.png", "[bold]markup.png"]
        assert [one for one in shown if f"/in/{one}" not in done.stdout] == []
        assert "\x1b" not in done.stdout
        return
    rows = csv.DictReader(io.StringIO(done.stdout, newline="")) if name == "csv" else READERS[name](done.stdout)
    found = sorted(Path(str(row["path"])).name for row in rows)
    assert found == ["[bold]markup.png", "esc\x1b[2J.png", r"latin\xe9.png", "new\nline.png"]


def test_the_table_by_hand() -> None:
    rows = [
        good(),
        good("case/real.png", "real"),
        good("case/small.png", "inconclusive", ("alpha_dropped", "padded")),
        bad(),
        good("case/e.png"),
    ]
    assert render("table", rows, left_out=2) == (
        "genforensic 1.2.3: native-baseline (sha256 aaaaaaaaaaaa), native-weighted (sha256 bbbbbbbbbbbb), "
        "fused by mean, on CPUExecutionProvider of ONNX Runtime 1.31.1, 2026-01-02T03:04:05+00:00\n"
        "verdict       confidence  agreement  file\n"
        "alpha              0.703     1 of 2  case/a.png\n"
        "real               0.703     1 of 2  case/real.png\n"
        "inconclusive       0.703     1 of 2  case/small.png  [alpha_dropped, padded]\n"
        "–                      –          –  case/b.png  (truncated)\n"
        "alpha              0.703     1 of 2  case/e.png\n"
        "\n"
        "4 images judged\n"
        "┏━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━┓\n"
        "┃ verdict      ┃ images ┃ share ┃\n"
        "┡━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━┩\n"
        "│ alpha        │      2 │ 50.0% │\n"
        "│ inconclusive │      1 │ 25.0% │\n"
        "│ real         │      1 │ 25.0% │\n"
        "└──────────────┴────────┴───────┘\n"
        "1 file could not be read:\n"
        "  case/b.png: the file ends before the picture does\n"
        "Left out, because not an image: 2.\n"
        "A verdict is the most similar of the known labels (real, alpha), not a proof.\n"
    )


def test_the_table_names_the_candidates_and_says_what_a_ratio_compares() -> None:
    models = tuple(
        {**one, "labels": ["real", "alpha", "unknown"], "validation": "90 images of a lab.", "log10_lr_bounds": bounds}
        for one, bounds in zip(HEADER.models, ({"alpha": [-1.0, 1.5]}, {}), strict=True)
    )
    rows = [weighed(), weighed("one.png", ("alpha",)), good(), bad()]
    lines = render("table", rows, header=replace(HEADER, models=models)).splitlines()
    assert lines[1:6] == [
        "verdict       confidence  agreement  log10 LR  file",
        "inconclusive       0.688     2 of 2      +0.5  case/w.png  could be: any known label",
        "inconclusive       0.688     2 of 2      +0.5  one.png  could be: alpha",
        "alpha              0.703     1 of 2         –  case/a.png",
        "–                      –          –         –  case/b.png  (truncated)",
    ]
    assert lines[-3:] == [
        "A verdict is the most similar of the known labels (real, alpha), not a proof.",
        "log10 LR, the likelihood ratio, compares two statements: the image is of the label that is most similar to "
        "it, or of another one of the known labels, each as likely as the next. +2: what was measured is 100 times "
        "more probable under the first one; 0: it says nothing; below 0: it speaks for another one. It is no "
        "probability of either statement, and it says nothing of a generator that is not among the known labels.",
        "Validation: 90 images of a lab.",
    ]


def test_the_label_unknown_has_no_column_of_ratios() -> None:
    models = tuple({**one, "labels": ["real", "alpha", "unknown"]} for one in HEADER.models)
    head = next(csv.reader([render("csv", [], header=replace(HEADER, models=models))]))
    assert "score_unknown" in head
    assert [name for name in head if name.startswith("log10_lr_")] == ["log10_lr_real", "log10_lr_alpha"]


def test_the_table_never_cuts_a_path() -> None:
    path = "folder/" * 60 + "a.png"
    assert any(line.endswith(path) for line in render("table", [good(path)]).splitlines())


def test_the_table_lists_twenty_unreadable_files_and_counts_the_rest() -> None:
    text = render("table", [bad(f"{i:02}.png") for i in range(23)])
    tail = text[text.index("23 files could not be read:") :].splitlines()
    assert tail[1] == "  00.png: the file ends before the picture does"
    assert tail[20] == "  19.png: the file ends before the picture does"
    assert tail[21] == "  and 3 more; --format jsonl names them all"


def test_the_table_has_colours_only_where_asked() -> None:
    assert "\x1b[" not in render("table", [good(), bad()])
    assert "\x1b[" in render("table", [good(), bad()], colour=True)


def test_the_version_is_that_of_the_package(run: Any) -> None:
    assert run("--version").stdout == f"genforensic {__version__}\n"
