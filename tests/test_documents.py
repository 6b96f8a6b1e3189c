"""The documents in train/docs against the tool: the tutorial is run, the reference has every field, option and code."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from forensic_cli.commands.triage import decide_now
from forensic_cli.errors import ExitCode
from forensic_cli.record import Claim, FileResult, Prediction, RunHeader, Stability, Summary, Verdict
from forensic_cli.scan import ScanSettings, run_header
from forensic_cli.seal import Sealer
from toys import ROOT, child_environment

DOCUMENTS = ROOT / "train" / "docs"
TUTORIAL = DOCUMENTS / "tutorial.md"
REFERENCE = DOCUMENTS / "reference.md"
HOW_TO = DOCUMENTS / "how-to.md"
_ANSWERS = "2\nfur in full detail at 400 %\nq\n"
"""What the tutorial's reader types when `triage` asks; no other command asks anything."""


def blocks(path: Path, language: str) -> list[str]:
    """Return what stands in a document's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# The tutorial


def tutorial_commands() -> list[tuple[str, int]]:
    """Return the tutorial's commands in order, and the exit code that each line announces; 0 where it says nothing."""
    found = []
    for line in "".join(blocks(TUTORIAL, "sh")).splitlines():
        code = re.search(r"# exit code (\d+)$", line)
        found.append((line, int(code[1]) if code else 0))
    return found


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the sample images where a checkout has them, and the tool on its `bin`."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "samples").symlink_to(ROOT / "tests" / "samples")
    (tmp_path / "bin").mkdir()
    python = shlex.quote(sys.executable)
    for name, words in (("python", python), ("genforensic", f"{python} -m forensic_cli")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def test_the_tutorial_does_what_it_says(checkout: Path) -> None:
    commands, work = tutorial_commands(), checkout / "runs" / "tutorial"
    (script,) = blocks(TUTORIAL, "python")
    work.mkdir(parents=True)
    (work / "draw.py").write_text(script, encoding="utf-8")
    codes = shlex.quote(str(checkout / "codes"))
    lines = [f"{line}\necho $? >> {codes}" for line, _ in commands]
    environment = child_environment(PATH=f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}", OMP_NUM_THREADS="1")
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=checkout,
        env=environment,
        input=_ANSWERS,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stderr
    found = [int(code) for code in (checkout / "codes").read_text().split()]
    assert dict(zip([line for line, _ in commands], found, strict=True)) == dict(commands), done.stderr
    for said in ("1 of 9 cells are empty.", "holds; 11 rows, 11 images and 1 model compared", "row_edited: "):
        assert said in TUTORIAL.read_text(encoding="utf-8")
        assert said in done.stdout, done.stdout
    assert "A. Ramirez" in (work / "new.jsonl.decisions.jsonl").read_text(encoding="utf-8")
    assert (work / "new.html").stat().st_size > 10_000


# The reference


def test_the_made_parts_of_the_reference_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", DOCUMENTS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    text = REFERENCE.read_text(encoding="utf-8")
    assert text == maker.updated(text), "run: PYTHONPATH=.:train python train/docs/make_reference.py"
    assert len(re.findall("^### genforensic ", text, re.MULTILINE)) == len(maker.commands())


def names_below(heading: str) -> list[str]:
    """Return the names in the first column of the table that follows a line of the reference."""
    text = REFERENCE.read_text(encoding="utf-8")
    (begin,) = [found.end() for found in re.finditer(rf"^{re.escape(heading)}$", text, re.MULTILINE)]
    table = re.search(r"^\| *-+.*\n((?:\|.*\n)+)", text[begin:], re.MULTILINE)
    assert table is not None
    cells = [line.split("|")[1] for line in table[1].splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) or [cell.strip()]]


PREDICTION = Prediction("a", 1.0, {"a": 1.0})
STABILITY = Stability(0.5, 1.0, {}, ())
RESULT = FileResult(
    path="a.png",
    status="ok",
    reason=None,
    state="PNG, lossless",
    verdict=Verdict(
        *("generated", 1.0, None, "a", "a", 1.0, {"a": 1.0}, 1.0, {"baseline": PREDICTION}), stability=STABILITY
    ),
    sha256="0" * 64,
    bytes=1,
    format="PNG",
    width=1,
    height=1,
    views=1,
    warnings=(),
)
RECORDS: dict[str, dict[str, Any]] = {
    "### Run header": RunHeader("0", (), (), "0", None, 0.5, "").record(),
    "### Row": RESULT.record(),
    "An entry of `techniques`:": PREDICTION.record(),
    "`stability`:": STABILITY.record(),
    "An entry of `metadata`:": {one.name: "" for one in fields(Claim)},
    "### Summary": Summary.empty().record(),
    "### Seal": Sealer("").close(""),
    "## A decision": asdict(decide_now({"path": "a.png"}, "real", "", "")),
}


@pytest.mark.parametrize("heading", RECORDS)
def test_the_reference_has_every_field(heading: str) -> None:
    assert set(names_below(heading)) == set(RECORDS[heading])


def test_the_reference_has_every_field_of_a_model(toy_exports: Path) -> None:
    from forensic_cli.exports import export_files, load_models, peek_exports

    models = load_models(peek_exports(export_files(toy_exports)), "cpu")
    header = run_header(models, ScanSettings())
    assert set(names_below("An entry of `models`:")) == set(header.models[0])
    assert set(names_below("An entry of `decisions`:")) == set(header.models[0]["decisions"]["any"])


def test_the_reference_has_every_exit_code() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert [(int(code), name) for code, name in found] == [(code.value, code.name) for code in ExitCode]


# The other two


def test_the_settings_in_the_how_to_are_understood(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings,) = blocks(HOW_TO, "toml")
    (tmp_path / "genforensic.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = run("scan", ROOT / "tests" / "samples" / "procedural_checkerboard.png", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "genforensic.toml in this folder sets technique, threshold, include\n")


def test_the_python_in_the_how_to_lists_clusters(tmp_path: Path) -> None:
    (script,) = blocks(HOW_TO, "python")
    rows = [
        {"path": "a.png", "cluster": 1},
        {"path": "b.png", "cluster": 1},
        {"path": "c.png", "cluster": 2},
        {"path": "d.png", "cluster": None},
    ]
    lines = map(json.dumps, [{"genforensic": {}}, *rows, {"seal": {}}])
    (tmp_path / "disk.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "1 a.png b.png\n"


def figures(text: str) -> set[str]:
    """Return the shares with two or three decimals and the percentages with one, as numbers written alike."""
    shares = re.findall(r"(?<![\d.])[01]?\.\d{2,3}(?![\d.])", text)
    percentages = re.findall(r"\d+\.\d(?= ?%)", text)
    return {f"{float(one):g}" for one in shares} | {f"{float(one):g} %" for one in percentages}


def test_the_explanation_has_no_figures_of_its_own() -> None:
    sources = [ROOT / "README.md", *sorted((ROOT / "exports").glob("*.md"))]
    known = figures("\n".join(path.read_text(encoding="utf-8") for path in sources))
    assert figures((DOCUMENTS / "explanation.md").read_text(encoding="utf-8")) - known == set()


# Links


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCUMENTS.glob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
