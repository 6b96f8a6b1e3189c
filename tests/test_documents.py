"""The documents against the tool: commands parse, links lead somewhere, the tutorial runs, tables are up to date."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from forensic_cli.errors import ExitCode
from forensic_cli.main import app
from forensic_cli.record import Summary
from forensic_cli.scan import ScanSettings, run_header
from forensic_cli.seal import Sealer
from toys import ROOT, child_environment

FOLDER = ROOT / "train" / "docs"
README = ROOT / "README.md"
TUTORIAL = FOLDER / "tutorial.md"
REFERENCE = FOLDER / "reference.md"
HOW_TO = FOLDER / "how-to.md"
DOCUMENTS = (
    *(README, ROOT / "CONTRIBUTING.md", ROOT / "exports" / "README.md", ROOT / "tests" / "samples" / "README.md"),
    *sorted(FOLDER.glob("*.md")),
)
MOST_WORDS = 900
"""Of the README, as `wc -w` counts."""
LARGEST_PICTURE = 300_000
"""Bytes of a picture in the README."""
_SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<"}
_ANSWERS = "2\nfur in full detail at 400 %\nq\n"
"""What the tutorial's reader types when `triage` asks; no other command asks anything."""


def blocks(path: Path, language: str) -> list[str]:
    """Return the contents of a document's fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


# The README


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_the_pictures_of_the_readme_are_small_and_load_nothing() -> None:
    names = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert len(names) == 2
    for name in names:
        data = (ROOT / name).read_bytes()
        assert len(data) < LARGEST_PICTURE
        assert b"http" not in data.replace(b"http://www.w3.org/2000/svg", b"")


# Commands


def shown_commands() -> list[tuple[str, ...]]:
    """Return every command line that begins with, or pipes into, `genforensic COMMAND` in the documents, as words."""
    texts = ["".join(blocks(path, "sh")) for path in DOCUMENTS]
    texts.append((ROOT / "train" / "build_exports.sh").read_text(encoding="utf-8"))
    pattern = r"^(?:[^#`\n]*\| *)?(?:\.venv/bin/)?genforensic ([a-z].+)$"
    lines = [line for text in texts for line in re.findall(pattern, text.replace("\\\n", " "), flags=re.MULTILINE)]
    return list(dict.fromkeys(map(command_words, lines)))


def mentioned_commands() -> list[tuple[str, ...]]:
    """Return every `genforensic COMMAND ...` within a sentence, as words; arguments may be missing."""
    texts = [path.read_text(encoding="utf-8") for path in DOCUMENTS]
    lines = [line for text in texts for line in re.findall(r"`genforensic ([a-z][^`]*)`", text)]
    return list(dict.fromkeys(map(command_words, lines)))


def command_words(line: str) -> tuple[str, ...]:
    """Return the words of a line up to a comment, a pipe or a redirection."""
    words = shlex.split(line, comments=True)
    return tuple(words[: next((i for i, word in enumerate(words) if word in _SEPARATORS), None)])


@pytest.mark.parametrize("words", [*shown_commands(), *mentioned_commands()], ids=" ".join)
def test_each_shown_command_and_option_exists(words: tuple[str, ...], run: Any) -> None:
    done = run(words[0], "--help")
    assert done.exit_code == 0, done.output
    for word in words[1:]:
        if word.startswith("--"):
            option = word.partition("=")[0]
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", done.output), word


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_each_shown_command_parses(words: tuple[str, ...]) -> None:
    group: Any = typer.main.get_command(app)
    name, *arguments = words
    assert group.commands[name].make_context(name, arguments).params


def test_the_documents_show_every_command() -> None:
    group: Any = typer.main.get_command(app)
    by_hand = [path for path in DOCUMENTS if path != REFERENCE]
    shown = "".join(path.read_text(encoding="utf-8") for path in by_hand)
    assert [name for name in group.commands if f"genforensic {name}" not in shown] == []


# The tutorial


def tutorial_commands() -> list[tuple[str, int]]:
    """Return the tutorial's commands in order, each with the exit code that its comment announces, or 0."""
    commands = []
    for line in "".join(blocks(TUTORIAL, "sh")).splitlines():
        code = re.search(r"# exit code (\d+)$", line)
        commands.append((line, int(code[1]) if code else 0))
    return commands


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the sample images at their place in a checkout, and the tool in its `bin`."""
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
    exit_codes = [int(code) for code in (checkout / "codes").read_text().split()]
    assert dict(zip([line for line, _ in commands], exit_codes, strict=True)) == dict(commands), done.stderr
    for quote in ("1 of 9 cells are empty.", "holds; 11 rows, 11 images and 1 model compared", "rows_changed: "):
        assert quote in TUTORIAL.read_text(encoding="utf-8")
        assert quote in done.stdout, done.stdout
    assert "A. Ramirez" in (work / "new.jsonl.decisions.jsonl").read_text(encoding="utf-8")
    assert (work / "new.html").stat().st_size > 10_000


# The reference, and what else is made from the code and the model cards


def reference_maker() -> ModuleType:
    """Return train/docs/make_reference.py as a module."""
    spec = importlib.util.spec_from_file_location("make_reference", FOLDER / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    return maker


def test_the_generated_parts_are_up_to_date() -> None:
    maker = reference_maker()
    for path in maker.DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        assert "<!-- made: " in text
        assert text == maker.updated(text), f"{path.name}: run PYTHONPATH=.:train python train/docs/make_reference.py"
    commands = re.findall("^### genforensic ", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) == len(maker.commands())


def names_below(heading: str) -> list[str]:
    """Return the names in the first column of the table that follows a line of the reference."""
    text = REFERENCE.read_text(encoding="utf-8")
    (start,) = [match.end() for match in re.finditer(rf"^{re.escape(heading)}$", text, re.MULTILINE)]
    table = re.search(r"^\| *-+.*\n((?:\|.*\n)+)", text[start:], re.MULTILINE)
    assert table is not None
    cells = [line.split("|")[1] for line in table[1].splitlines()]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell) or [cell.strip()]]


RECORDS: dict[str, dict[str, Any]] = {
    "### Summary": Summary().record(),
    "### Seal": Sealer("").seal(),
}


@pytest.mark.parametrize("heading", RECORDS)
def test_the_reference_has_every_field(heading: str) -> None:
    assert set(names_below(heading)) == set(RECORDS[heading])


def test_the_reference_has_every_threshold_of_a_model(toy_exports: Path) -> None:
    from forensic_cli.exports import export_files, peek_exports
    from forensic_cli.model import load_models

    models = load_models(peek_exports(export_files(toy_exports)), "cpu")
    header = run_header(models, ScanSettings())
    assert set(names_below("An entry of `decisions`:")) == set(header.models[0].decisions["any"])


def test_the_reference_has_every_exit_code() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


# The how-to guides and the explanation


def test_the_settings_in_the_how_to_are_understood(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (settings,) = blocks(HOW_TO, "toml")
    (tmp_path / "genforensic.toml").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = run("scan", ROOT / "tests" / "samples" / "procedural_checkerboard.png", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "genforensic.toml in this folder sets technique, threshold, include\n")


def test_the_python_in_the_how_to_lists_clusters(tmp_path: Path) -> None:
    script = next(script for script in blocks(HOW_TO, "python") if "cluster" in script)
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
    """Return the shares with two or three decimals and the percentages with one, written alike."""
    shares = re.findall(r"(?<![\d.])[01]?\.\d{2,3}(?![\d.])", text)
    percentages = re.findall(r"\d+\.\d(?= ?%)", text)
    return {f"{float(share):g}" for share in shares} | {f"{float(share):g} %" for share in percentages}


def test_the_explanation_has_no_figures_of_its_own(run: Any) -> None:
    sources = [README, FOLDER / "measurements.md", *sorted((ROOT / "exports").glob("*.md"))]
    known = figures("\n".join(path.read_text(encoding="utf-8") for path in sources))
    known |= figures(run("audit", "--counts", ROOT / "train" / "forensic_train" / "paper_counts.csv").stdout)
    assert figures((FOLDER / "explanation.md").read_text(encoding="utf-8")) - known == set()


# Links


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target
