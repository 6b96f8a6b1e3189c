"""The documentation against the command line: every command and option that it shows exists, and parses."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from forensic_cli.main import app

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "exports/README.md", "train/build_exports.sh"),
    *(
        f"train/docs/{name}.md"
        for name in ("tutorial", "how-to", "reference", "explanation", "scanning", "measurements")
    ),
)
_SEPARATORS = {"|", "||", "&&", ";", ">", ">>", "<"}


def shown_commands() -> list[tuple[str, ...]]:
    """Return every command line that begins with, or pipes into, `genforensic COMMAND` in the documents, as words."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        if name.endswith(".md"):
            text = "".join(re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
        pattern = r"^(?:[^#`\n]*\| *)?(?:\.venv/bin/)?genforensic ([a-z].+)$"
        found += [one_command(line) for line in re.findall(pattern, text, flags=re.MULTILINE)]
    return list(dict.fromkeys(found))


def mentioned_commands() -> list[tuple[str, ...]]:
    """Return every `genforensic COMMAND ...` that stands in a sentence, as words; arguments may be missing."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        found += [one_command(words) for words in re.findall(r"`genforensic ([a-z][^`]*)`", text)]
    return list(dict.fromkeys(found))


def one_command(line: str) -> tuple[str, ...]:
    """Return the words of a line up to a comment, a pipe or a redirection."""
    words = shlex.split(line, comments=True)
    return tuple(words[: next((i for i, word in enumerate(words) if word in _SEPARATORS), None)])


@pytest.mark.parametrize("words", [*shown_commands(), *mentioned_commands()], ids=" ".join)
def test_each_shown_command_and_option_exists(words: tuple[str, ...], run) -> None:
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


def test_the_documents_show_commands() -> None:
    shown = {words[0] for words in shown_commands()}
    assert shown >= {"scan", "train", "evaluate", "audit", "benchmark", "verify", "diff", "triage", "report", "merge"}
    assert "corpus" in shown
