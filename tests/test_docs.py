"""The documentation against the command line: every command and option that it shows exists."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "train/build_exports.sh")


def shown_commands() -> list[tuple[str, ...]]:
    """Return every `genforensic COMMAND ...` line of the documents, as words."""
    found = []
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:\.venv/bin/)?genforensic ([a-z].+)$", text, flags=re.MULTILINE):
            found.append(tuple(shlex.split(line, comments=True)))
    return found


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_each_shown_command_and_option_exists(words: tuple[str, ...], run) -> None:
    done = run(words[0], "--help")
    assert done.exit_code == 0, done.output
    for word in words[1:]:
        if word.startswith("--"):
            assert word.partition("=")[0] in done.output, word


def test_the_documents_show_commands() -> None:
    assert {words[0] for words in shown_commands()} >= {"scan", "train", "evaluate", "audit", "benchmark"}
