"""Tests of reports: every format carries the evidence, and a hostile file name stays a file name."""

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from pyarrow import parquet

from forensic_cli import __version__
from forensic_cli.record import Claim, FileResult, Prediction, RunHeader, Summary, UsedModel, Verdict, path_bytes
from forensic_cli.reports import REPORTS, make_report
from pages import read_page
from toys import child_environment, genforensic, solid

Row = dict[str, Any]

BINARY = "latin-1"
"""Bytes of a format that is no text pass through the tests as this."""

FIELDS = [
    "path",
    "status",
    "reason",
    "headline",
    "p_generated",
    "generated_log10_lr",
    "verdict",
    "label",
    "confidence",
    "strength",
    "state",
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
    "duplicate_of",
    "cluster",
    "phash",
    "metadata",
]

HEADER = RunHeader(
    version="1.2.3",
    models=tuple(
        UsedModel(
            name=f"native-{technique}",
            technique=technique,
            recipe="native",
            labels=("real", "alpha"),
            file=f"native-{technique}.onnx",
            sha256=digit * 64,
            decisions={"any": {"log10_lr_bounds": {}}},
        )
        for technique, digit in (("baseline", "a"), ("weighted", "b"))
    ),
    providers=("CPUExecutionProvider", "CPUExecutionProvider"),
    onnxruntime="1.31.1",
    ensemble="mean",
    threshold=None,
    started="2026-01-02T03:04:05+00:00",
)


def prediction(
    real: float, candidates: tuple[str, ...] = (), ratios: Mapping[str, float] = MappingProxyType({})
) -> Prediction:
    label = "real" if real > 0.5 else "alpha"
    scores = {"real": real, "alpha": 1 - real}
    return Prediction(label, scores[label], 1 - real, scores, candidates, dict(ratios))


def verdict_row(path: str, state: str, judged: Verdict, **fields: Any) -> FileResult:
    shared: dict[str, Any] = {"status": "ok", "reason": None, "sha256": "c" * 64, "bytes": 12345, "format": "WEBP"}
    shared |= {"width": 640, "height": 479, "views": 4, "warnings": ()}
    return FileResult(path=path, state=state, verdict=judged, **(shared | fields))


def good(path: str = "case/a.png", verdict: str = "alpha", warnings: tuple[str, ...] = ()) -> FileResult:
    judged = Verdict(
        headline={"real": "real", "inconclusive": "undecided"}.get(verdict, "generated"),
        p_generated=0.703125,
        generated_log10_lr=None,
        verdict=verdict,
        label="alpha",
        confidence=0.703125,
        strength=None,
        agreement=0.5,
        candidates=(),
        scores={"real": 0.296875, "alpha": 0.703125},
        log10_lr={},
        techniques={"baseline": prediction(0.0625), "weighted": prediction(0.53125)},
    )
    return verdict_row(path, "WebP, lossy", judged, warnings=warnings)


def weighed(path: str = "case/w.png", candidates: tuple[str, ...] = ("alpha", "real")) -> FileResult:
    """Return a row of models with ratios: generated, without a name."""
    judged = Verdict(
        headline="generated",
        p_generated=0.99989,
        generated_log10_lr=2.5,
        verdict="inconclusive",
        label="alpha",
        confidence=0.99989,
        strength="moderately strong support",
        agreement=1.0,
        candidates=candidates,
        scores={"real": 0.00011, "alpha": 0.99989},
        log10_lr={"real": -2.5, "alpha": 0.5},
        techniques={
            "baseline": prediction(0.25, ("alpha",), {"alpha": 1.25}),
            "weighted": prediction(0.375, (), {"real": -2.5, "alpha": 0.5}),
        },
    )
    return verdict_row(path, "JPEG, quality 78", judged, format="JPEG")


def bad(path: str = "case/b.png", reason: str = "the file ends before the picture does") -> FileResult:
    return FileResult(path, "truncated", reason, None, None, "d" * 64, 77, "PNG", 31, 23, 0, ())


def render(
    name: str, rows: list[FileResult], left_out: int = 0, colour: bool = False, header: RunHeader = HEADER
) -> str:
    report, summary = make_report(name, colour), Summary()
    summary.left_out = left_out
    chunks = [report.begin(header)]
    for row in rows:
        chunks.append(report.row(row))
        summary.add(row)
    chunks.append(report.end(summary))
    return "".join(one if isinstance(one, str) else one.decode(BINARY) for one in chunks)


def read_jsonl(text: str) -> list[Row]:
    return [json.loads(line) for line in text.split("\n")[1:-2]]


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
            ("p_generated", float),
            ("generated_log10_lr", float),
            ("confidence", float),
            ("agreement", float),
            ("bytes", int),
            ("width", int),
            ("height", int),
            ("cluster", int),
        ):
            row[name] = kind(row[name]) if row[name] else None  # type: ignore[operator]
        row["warnings"] = split(flat["warnings"])
        row["metadata"] = json.loads(flat["metadata"] or "[]")
        row["candidates"] = row["scores"] = row["log10_lr"] = row["techniques"] = None
        if row["status"] == "ok":
            row["candidates"] = split(flat["candidates"])
            row["scores"] = {label: float(flat[f"score_{label}"]) for label in ("real", "alpha")}
            row["log10_lr"] = ratios(flat, "log10_lr_")
            row["techniques"] = {
                name: {
                    "label": flat[f"{name}_label"],
                    "confidence": float(flat[f"{name}_confidence"]),
                    "p_generated": float(flat[f"{name}_p_generated"]),
                    "scores": {label: float(flat[f"{name}_score_{label}"]) for label in ("real", "alpha")},
                    "candidates": split(flat[f"{name}_candidates"]),
                    "log10_lr": ratios(flat, f"{name}_log10_lr_"),
                }
                for name in ("baseline", "weighted")
            }
        rows.append(row)
    return rows


def read_sarif(text: str) -> list[Row]:
    return [result["properties"] for result in json.loads(text)["runs"][0]["results"]]


def read_parquet(text: str) -> list[Row]:
    rows = parquet.read_table(io.BytesIO(text.encode(BINARY))).to_pylist()
    for row in rows:
        row.update({name: dict(row[name]) if row[name] is not None else None for name in ("scores", "log10_lr")})
        row["techniques"] = row["techniques"] and json.loads(row["techniques"])
        row["metadata"] = json.loads(row["metadata"])
    return rows


def read_html(text: str) -> list[Row]:
    return read_page(text).records()


READERS: dict[str, Callable[[str], list[Row]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
    "sarif": read_sarif,
    "parquet": read_parquet,
    "html": read_html,
}
"""How a program reads each format back; those in FOR_PEOPLE are for people."""
FOR_PEOPLE = {"table"}


def test_every_format_is_tested() -> None:
    assert set(READERS) | FOR_PEOPLE == set(REPORTS)


@pytest.mark.parametrize("name", sorted(READERS))
def test_every_format_carries_every_field_of_every_row(name: str) -> None:
    rows = [good(), bad(), weighed(), good("c.png", "inconclusive", ("alpha_dropped", "padded"))]
    rows[1:3] = [replace(row, metadata=(Claim("png", "generated", "a; b, Steps"),)) for row in rows[1:3]]
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
    assert text.endswith("PAR1" if name == "parquet" else "\n")
    if name in READERS:
        assert READERS[name](text) == []


def test_the_first_line_of_jsonl_is_the_header() -> None:
    lines = render("jsonl", [good(), bad()]).splitlines()
    assert len(lines) == 4
    assert json.loads(lines[0]) == {"genforensic": HEADER.record()}
    assert next(iter(json.loads(lines[1]))) == "path"
    assert list(json.loads(lines[-1])) == ["seal"]


def test_json_is_one_document_with_run_files_and_summary() -> None:
    document = json.loads(render("json", [good(), bad(), good()], left_out=3))
    assert list(document) == ["run", "files", "summary", "seal"]
    assert document["run"] == HEADER.record()
    assert document["summary"] == {
        "judged": 2,
        "unreadable": 1,
        "left_out": 3,
        "copies": 0,
        "findings": None,
        "headlines": {"generated": 2},
        "verdicts": {"alpha": 2},
        "statuses": {"truncated": 1},
    }


def test_csv_columns() -> None:
    head = next(csv.reader([render("csv", [])]))
    assert head[:13] == [
        *(
            "path",
            "status",
            "reason",
            "headline",
            "p_generated",
            "generated_log10_lr",
            "verdict",
            "label",
            "confidence",
        ),
        *("strength", "agreement", "candidates", "score_real"),
    ]
    assert head[-5:] == ["tool", "models", "providers", "onnxruntime", "started"]
    assert len(head) == len(set(head))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n"])
def test_csv_neutralises_formulas(start: str) -> None:
    path = f"{start}cmd|'/c calc'!A0.png"
    cell = next(csv.DictReader(io.StringIO(render("csv", [good(path)]), newline="")))["path"]
    assert cell == "'" + path


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x1b[2J", "\x1b]0;title\x07", "\r", "\x7f", "\x9b31m"])
def test_csv_shows_what_a_terminal_would_obey(control: str) -> None:
    text = render("csv", [good(f"a{control}.png"), bad(f"a{control}.png")])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)
    assert path_bytes(next(csv.DictReader(io.StringIO(text)))["path"]) == f"a{control}.png".encode()


def test_csv_neutralises_labels_and_leaves_numbers_alone() -> None:
    row = next(csv.DictReader(io.StringIO(render("csv", [good(verdict="=1+1")]), newline="")))
    assert row["verdict"] == "'=1+1"
    assert row["confidence"] == "0.703125"


def csv_path(path: str) -> str:
    return path.replace("\r", r"\x0d").replace("\x1b", r"\x1b")


@pytest.mark.parametrize(
    "path",
    ['a"b,c;d.png', "line\nbreak.png", "return\r.png", "esc\x1b[31m.png", "tab\t.png", "é 漢字.png", "’\u2028.png"],
)
@pytest.mark.parametrize("name", sorted(READERS))
def test_a_strange_name_is_read_back_as_it_was(name: str, path: str) -> None:
    found = READERS[name](render(name, [good(path), bad(path)]))
    expected = csv_path(path) if name == "csv" else path
    assert [row["path"] for row in found] == [expected, expected]


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
    done = genforensic("scan", folder, "--exports", toy_exports, "-f", name, encoding=None)
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(BINARY if name == "parquet" else "utf-8")
    if name == "table":
        shown = [r"esc\x1b[2J.png", r"latin\xe9.png", r"new\nline.png", "[bold]markup.png"]
        assert [one for one in shown if f"/in/{one}" not in text] == []
        assert "\x1b" not in text
        return
    rows = csv.DictReader(io.StringIO(text, newline="")) if name == "csv" else READERS[name](text)
    found = sorted(Path(str(row["path"])).name for row in rows)
    escape = r"esc\x1b[2J.png" if name == "csv" else "esc\x1b[2J.png"
    assert found == ["[bold]markup.png", escape, r"latin\xe9.png", "new\nline.png"]


def with_ratios(header: RunHeader = HEADER) -> RunHeader:
    """Return the header of a scan whose first model has a ratio of alpha."""
    first, second = header.models
    known = {"lossless": {"log10_lr_bounds": {"alpha": [-1.0, 1.5]}}}
    return replace(header, models=(replace(first, decisions=known), second))


P_MEANS = "p is the probability that a generator made the image, assuming even odds beforehand."
NO_PROOF = "An answer is an investigative lead, not proof. The only generators that can be named are: alpha."


def test_the_table_by_hand() -> None:
    rows = [
        good(),
        good("case/real.png", "real"),
        good("case/small.png", "inconclusive", ("alpha_dropped", "padded")),
        bad(),
        good("case/e.png"),
        good("case/u.png", "unknown"),
    ]
    assert render("table", rows, left_out=2) == (
        "genforensic 1.2.3: native-baseline (sha256 aaaaaaaaaaaa), native-weighted (sha256 bbbbbbbbbbbb), "
        "fused by mean, on CPUExecutionProvider of ONNX Runtime 1.31.1, 2026-01-02T03:04:05+00:00\n"
        "generated   alpha  p 0.703   1 of 2 agree  WebP, lossy        case/a.png\n"
        "real               p 0.703   1 of 2 agree  WebP, lossy        case/real.png\n"
        "undecided          p 0.703   1 of 2 agree  WebP, lossy        case/small.png  [alpha_dropped, padded]\n"
        "not judged                                                    case/b.png  (truncated)\n"
        "generated   alpha  p 0.703   1 of 2 agree  WebP, lossy        case/e.png\n"
        "generated   unknown generator  p 0.703   1 of 2 agree  WebP, lossy        case/u.png\n"
        "\n"
        "5 images judged\n"
        "┏━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━┓\n"
        "┃ answer              ┃ images ┃ share ┃\n"
        "┡━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━┩\n"
        "│ generated           │      3 │ 60.0% │\n"
        "│   alpha             │      2 │ 40.0% │\n"
        "│   unknown generator │      1 │ 20.0% │\n"
        "│ real                │      1 │ 20.0% │\n"
        "│ undecided           │      1 │ 20.0% │\n"
        "└─────────────────────┴────────┴───────┘\n"
        "\n"
        "1 file could not be read:\n"
        "  case/b.png: the file ends before the picture does\n"
        "Skipped, because not an image: 2.\n"
        f"{P_MEANS}\n{NO_PROOF}\n"
    )


def test_the_table_says_how_strong_an_answer_is_and_what_that_means() -> None:
    rows = [weighed(), weighed("one.png", ("alpha",)), good(), bad()]
    lines = render("table", rows, header=with_ratios()).splitlines()
    assert lines[1:5] == [
        "generated   alpha or real  moderately strong support  p >0.999  2 of 2 agree  JPEG, quality 78   case/w.png",
        "generated   perhaps alpha  moderately strong support  p >0.999  2 of 2 agree  JPEG, quality 78   one.png",
        "generated   alpha                             p 0.703   1 of 2 agree  WebP, lossy        case/a.png",
        f"not judged{' ' * 79}case/b.png  (truncated)",
    ]
    assert "│   no generator named │      2 │  66.7% │" in lines
    assert lines[-3:] == [
        P_MEANS,
        "Support is a likelihood ratio: how many times more probable the measurement is if the answer is true than if "
        "it is false. It is weak from 2, moderate from 10, moderately strong from 100, strong from 1,000, very strong "
        "from 10,000 and extremely strong from 1,000,000. It is not the probability that the answer is true.",
        NO_PROOF,
    ]


def test_the_table_of_one_technique_says_nothing_of_agreement() -> None:
    header = replace(HEADER, models=HEADER.models[:1], ensemble=None)
    (line,) = render("table", [good()], header=header).splitlines()[1:2]
    assert line == "generated   alpha  p 0.703   WebP, lossy        case/a.png"


@pytest.mark.parametrize(
    ("p", "words"), [(0.0, "<0.001"), (0.0004, "<0.001"), (0.0005, "0.001"), (0.9994, "0.999"), (0.9996, ">0.999")]
)
def test_no_probability_looks_certain_by_rounding(p: float, words: str) -> None:
    row = good()
    assert row.verdict is not None
    row = replace(row, verdict=replace(row.verdict, p_generated=p))
    assert f"p {words}" in render("table", [row])


def test_the_label_unknown_has_no_column_of_ratios() -> None:
    models = tuple(replace(model, labels=("real", "alpha", "unknown")) for model in HEADER.models)
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
    assert tail[21] == "  and 3 more; --format jsonl lists them all"


def test_the_table_has_colours_only_where_asked() -> None:
    assert "\x1b[" not in render("table", [good(), bad()])
    assert "\x1b[" in render("table", [good(), bad()], colour=True)


def test_the_version_is_that_of_the_package(run: Any) -> None:
    assert run("--version").stdout == f"genforensic {__version__}\n"


# SARIF


def test_sarif_has_the_structure_of_version_2_1_0() -> None:
    rows = [good(), good("b.png", "real"), weighed("c d/é.png"), good("/abs/u.png", "unknown"), bad()]
    rows.append(good("open.png", "inconclusive"))
    log = json.loads(render("sarif", rows, left_out=3))
    assert (set(log), log["version"]) == ({"$schema", "version", "runs"}, "2.1.0")
    (run,) = log["runs"]
    assert set(run) == {"tool", "columnKind", "properties", "results", "invocations"}
    driver = run["tool"]["driver"]
    assert (driver["name"], driver["semanticVersion"]) == ("genforensic", "1.2.3")
    rules = [rule["id"] for rule in driver["rules"]]
    assert rules == ["generated", "real", "undecided", "alpha", "unknown", "unreadable"]
    assert all(set(rule) == {"id", "shortDescription", "help"} for rule in driver["rules"])
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["invocations"][0]["properties"]["summary"]["left_out"] == 3
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"]
        assert result["level"] == "none" or result["kind"] == "fail"  # 3.27.10: a kind other than fail has no level
        assert re.fullmatch(
            r"[A-Za-z0-9._~/%:-]+", result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        )
    assert [(one["ruleId"], one["kind"], one["level"]) for one in run["results"]] == [
        ("alpha", "fail", "warning"),
        ("real", "pass", "none"),
        ("generated", "fail", "warning"),
        ("unknown", "fail", "warning"),
        ("unreadable", "fail", "error"),
        ("undecided", "open", "none"),
    ]
    assert [one["message"]["text"] for one in run["results"][:3]] == [
        "generated, alpha, p 0.703. An answer is no proof.",
        "real, p 0.703. An answer is no proof.",
        "generated, alpha or real, moderately strong support, p >0.999. An answer is no proof.",
    ]
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]]
    assert uris == ["case/a.png", "b.png", "c%20d/%C3%A9.png", "file:///abs/u.png", "case/b.png", "open.png"]
    assert run["results"][0]["fingerprints"] == {"sha256/v1": "c" * 64}


def test_sarif_names_a_file_by_its_bytes() -> None:
    log = json.loads(render("sarif", [good(r"latin\xe9:#?.png")]))
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location == {"artifactLocation": {"uri": "latin%E9%3A%23%3F.png"}}


# Parquet


def test_parquet_carries_the_header_and_the_totals_and_many_row_groups() -> None:
    data = io.BytesIO(render("parquet", [good(f"{i}.png") for i in range(5000)]).encode(BINARY))
    file = parquet.ParquetFile(data)
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (5000, 3)
    assert json.loads(file.metadata.metadata[b"genforensic"]) == json.loads(json.dumps(HEADER.record()))
    assert json.loads(file.metadata.metadata[b"summary"])["verdicts"] == {"alpha": 5000}


def test_every_field_of_a_row_is_a_column_of_parquet() -> None:
    table = parquet.read_table(io.BytesIO(render("parquet", []).encode(BINARY)))
    assert sorted(table.column_names) == sorted(good().record())


def test_parquet_without_pyarrow_is_one_line_that_mends_it(toy_exports: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(name='pyarrow')")
    paths = os.pathsep.join([str(tmp_path), child_environment()["PYTHONPATH"]])
    done = genforensic(
        *("scan", images, "--exports", toy_exports, "-f", "parquet", "-o", tmp_path / "out.parquet"),
        env={"PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "genforensic: --format parquet needs pyarrow, which is not installed; run: pip install 'genforensic[parquet]' "
        "(in a checkout: pip install '.[parquet]')\n"
    )
    assert not (tmp_path / "out.parquet").exists()


def test_parquet_is_not_sent_to_a_terminal(toy_exports: Path, images: Path) -> None:
    reading, writing = os.openpty()
    try:
        done = genforensic(
            *("scan", images, "--exports", toy_exports, "-f", "parquet"),
            capture_output=False,
            stdout=writing,
            stderr=subprocess.PIPE,
        )
    finally:
        os.close(writing)
        os.close(reading)
    assert done.returncode == 2
    assert done.stderr == ("genforensic: a terminal cannot show this format; name a file with --output, or pipe it\n")
