"""Tests of configuration files, environment variables, shell completion, help pages and colours."""

import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from forensic_cli.main import app
from forensic_cli.reports import REPORTS
from toys import child_environment, genforensic

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any) -> Path:
    """Return a folder with an empty working folder, `here`, and the user's `config/genforensic/config.toml`."""
    del run  # requested because it sets XDG_CONFIG_HOME first
    (tmp_path / "here").mkdir()
    (tmp_path / "config" / "genforensic").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def local(home: Path, text: str) -> None:
    (home / "here" / "genforensic.toml").write_text(text)


def own(home: Path, text: str) -> None:
    (home / "config" / "genforensic" / "config.toml").write_text(text)


def threshold(run: Any, toy_exports: Path, images: Path, *more: Any, **options: Any) -> float | None:
    done = run("scan", images, "--exports", toy_exports, "-f", "jsonl", *more, **options)
    assert done.exit_code == 0
    value: float | None = json.loads(done.stdout.splitlines()[0])["genforensic"]["threshold"]
    return value


def test_the_order_of_precedence(run: Any, home: Path, toy_exports: Path, images: Path) -> None:
    shared = (run, toy_exports, images)
    assert threshold(*shared) is None  # the model card's
    own(home, "[scan]\nthreshold = 0.11\n")
    assert threshold(*shared) == 0.11
    local(home, "[scan]\nthreshold = 0.22\n")
    assert threshold(*shared) == 0.22
    environment = {"GENFORENSIC_SCAN_THRESHOLD": "0.33"}
    assert threshold(*shared, env=environment) == 0.33
    assert threshold(*shared, "--threshold", "0.44", env=environment) == 0.44


def test_two_files_complete_each_other(run: Any, home: Path, toy_exports: Path, images: Path) -> None:
    own(home, f'[scan]\nexports = "{toy_exports}"\nformat = "json"\ntechnique = ["weighted", "finetune"]\n')
    local(home, '[scan]\nformat = "jsonl"\nbatch-size = 7\nrecursive = false\n')
    done = run("scan", images)
    header = json.loads(done.stdout.splitlines()[0])["genforensic"]
    assert [model["technique"] for model in header["models"]] == ["weighted", "finetune"]
    assert header["batch_size"] == 7
    assert done.stderr == "genforensic.toml in this folder sets format, batch-size, recursive\n"


def test_the_exports_of_the_environment_come_before_those_of_a_file(
    run: Any, home: Path, toy_exports: Path, images: Path
) -> None:
    own(home, f'[scan]\nexports = "{home}/none"\n')
    assert run("scan", images).exit_code == 3
    assert run("scan", images, env={"GENFORENSIC_EXPORTS": str(toy_exports)}).exit_code == 0


def test_environment_variables_of_flags_and_lists(run: Any, toy_exports: Path, images: Path) -> None:
    environment = {
        "GENFORENSIC_SCAN_EXPORTS": str(toy_exports),
        "GENFORENSIC_SCAN_TECHNIQUE": "weighted finetune",
        "GENFORENSIC_SCAN_FORMAT": "jsonl",
        "GENFORENSIC_SCAN_RECURSIVE": "0",
    }
    (images / "inner").mkdir()
    (images / "1-red.png").rename(images / "inner" / "1-red.png")
    lines = run("scan", images, env=environment).stdout.splitlines()
    assert len(json.loads(lines[0])["genforensic"]["models"]) == 2
    assert len(lines) == 1 + 4 + 1


def test_the_environment_cannot_overwrite_a_file(run: Any, toy_exports: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("precious")
    done = run("scan", images, "--exports", toy_exports, "-o", out, env={"GENFORENSIC_SCAN_FORCE": "1"})
    assert (done.exit_code, out.read_text()) == (2, "precious")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GENFORENSIC_SCAN_TRESHOLD", "is not a variable of genforensic; did you mean GENFORENSIC_SCAN_THRESHOLD?"),
        ("GENFORENSIC_EXPORT", "is not a variable of genforensic; did you mean GENFORENSIC_EXPORTS?"),
        ("GENFORENSIC_THRESHOLD", "is not a variable of genforensic; did you mean GENFORENSIC_SCAN_THRESHOLD?"),
        ("GENFORENSIC_VERIFY_JSON", ": --json works on the command line only; unset the variable"),
    ],
)
def test_a_variable_that_sets_nothing_is_one_line(name: str, message: str, run: Any) -> None:
    done = run("models", env={name: "0.8"})
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"genforensic: {name}{'' if message.startswith(':') else ' '}{message}\n"
    assert run("models", "--help", env={name: "0.8"}).exit_code == 0


ALLOWED = "[scan], "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scann]\n", f"'scann' is not a section; allowed: {ALLOWED}"),
        ("threshold = 0.5\n", f"'threshold' is not a section; allowed: {ALLOWED}"),
        ("[verify]\ntreshold = 1\n", "unknown key 'treshold' in [verify]; allowed: root, exports, seal, files, models"),
        ("[scan]\nforce = true\n", "--force works on the command line only; remove it from [scan]"),
        ("[scan]\nthreshold = 'high'\n", "threshold in [scan]: Input should be a valid number"),
        ("[scan]\nthreshold = 2\n", "threshold in [scan]: Input should be less than or equal to 1"),
        ("[scan]\nthreshold = [1]\n", "threshold in [scan] must be a single value, not [1]"),
        ("[scan]\nthreshold = true\n", "threshold in [scan] must be a single value, not True"),
        ("[scan]\nquiet = 'yes'\n", "quiet in [scan] must be true or false, not 'yes'"),
        ("[scan]\ntechnique = 3\n", 'technique in [scan] must be a list of strings, such as ["a", "b"], not 3'),
        ("[scan]\nformat = 'xml'\n", "format in [scan]: 'xml' is not one of 'table', 'jsonl'"),
        ("[scan\n", "is not valid TOML (Expected ']' at the end of a table declaration (at line 1, column 6)); write"),
    ],
)
@pytest.mark.parametrize("place", [local, own])
def test_a_wrong_file_is_one_line(
    place: Any, text: str, message: str, run: Any, home: Path, toy_exports: Path, images: Path
) -> None:
    place(home, text)
    file = "genforensic.toml" if place is local else home / "config" / "genforensic" / "config.toml"
    done = run("scan", images, "--exports", toy_exports)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"genforensic: {file}: {message}")


def test_a_folder_that_may_not_be_entered_and_no_home_are_no_file(
    run: Any, home: Path, toy_exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Any, *more: Any, **options: Any) -> Any:
        if str(path).startswith(str(home / "config")):
            raise PermissionError(13, "Permission denied")
        return stat(path, *more, **options)

    stat = os.stat
    monkeypatch.setattr(os, "stat", refuse)  # permissions do not stop root
    assert run("models", "--exports", toy_exports).exit_code == 0
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert run("models", "--exports", toy_exports).exit_code == 0


def test_help_is_shown_even_if_a_configuration_file_is_wrong(run: Any, home: Path) -> None:
    local(home, "[scann]\n")
    assert run("scan", "--help").exit_code == 0
    assert run("--help").exit_code == 0


# Help, completion, colours


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_page_with_examples(command: str, run: Any) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    text = inspect.cleandoc(typer.main.get_command(app).commands[command].help)  # type: ignore[attr-defined]
    examples = set(re.findall(r"^    (\S.*)$", text, re.MULTILINE))
    assert any(example.startswith(f"genforensic {command} ") for example in examples)
    assert examples <= {line.strip() for line in done.stdout.splitlines()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_placeholders_in_angle_brackets(command: str, run: Any) -> None:
    """Markdown takes <word> for HTML and drops it, unless it stands in backticks."""
    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    for placeholder in re.findall(r"<\w+>", " ".join(option.help or "" for option in options)):
        assert placeholder in run(command, "--help").stdout


def complete(words: str, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """Ask for completions as a shell does for the command `genforensic`."""
    program = "import sys; sys.argv = ['genforensic']; from forensic_cli.main import main; main()"
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1), "_TYPER_COMPLETE_ARGS": words}
    asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    environment = child_environment(_GENFORENSIC_COMPLETE=f"complete_{shell}", **asked)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", env=environment, check=False
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("genforensic ", set(COMMANDS)),
        ("genforensic do", {"doctor"}),
        ("genforensic scan --fail", {"--fail-on"}),
        ("genforensic verify --no-", {"--no-files", "--no-models"}),
        ("genforensic scan --format ", set(REPORTS)),
        ("genforensic scan -f js", {"json", "jsonl"}),
        ("genforensic scan --ensemble ", {"mean", "vote"}),
        ("genforensic scan --device ", {"auto", "cpu", "cuda"}),
        ("genforensic scan --sort dis", {"disagreement"}),
        ("genforensic diff --format ", {"table", "json"}),
        ("genforensic evaluate --format m", {"markdown"}),
        ("genforensic evaluate --leave-out s", {"source", "subject"}),
        ("genforensic train --technique w", {"weighted"}),
        ("genforensic train --recipe nat", {"native", "native-32"}),
        ("genforensic train --device c", {"cpu", "cuda"}),
    ],
)
def test_bash_completes_commands_options_and_values(words: str, expected: set[str]) -> None:
    done = complete(words)
    assert (done.stderr, set(done.stdout.split())) == ("", expected)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_complete_as_well(shell: str) -> None:
    assert "doctor" in complete("genforensic do", shell).stdout


def in_a_terminal(*arguments: Any, **environment: str) -> str:
    """Run with a terminal as standard output; returns what the terminal shows."""
    reading, writing = os.openpty()
    settings = {name: value for name, value in child_environment().items() if name != "NO_COLOR"}
    child = subprocess.Popen(
        [sys.executable, "-m", "forensic_cli", *map(str, arguments)],
        stdout=writing,
        stderr=subprocess.DEVNULL,
        env={**settings, "TERM": "xterm-256color", **environment},
    )
    os.close(writing)
    shown = b""
    try:
        while block := os.read(reading, 65536):
            shown += block
    except OSError:  # the other end of the terminal is closed
        pass
    finally:
        os.close(reading)
        child.wait(30)
    return shown.decode()


def test_colours_are_for_terminals_without_no_color(toy_exports: Path, images: Path) -> None:
    arguments = ("scan", images, "--exports", toy_exports)
    assert "\x1b[" in in_a_terminal(*arguments)
    assert "\x1b[" not in in_a_terminal(*arguments, NO_COLOR="1")
    assert "\x1b[" not in in_a_terminal(*arguments, TERM="dumb")
    environment = {name: value for name, value in child_environment().items() if name != "NO_COLOR"}
    piped = subprocess.run(
        [sys.executable, "-m", "forensic_cli", *map(str, arguments)], capture_output=True, env=environment, check=False
    )
    assert piped.returncode == 0
    assert b"\x1b[" not in piped.stdout + piped.stderr


def test_a_help_page_in_a_pipe_has_no_colours() -> None:
    assert "\x1b[" not in genforensic("scan", "--help").stdout
