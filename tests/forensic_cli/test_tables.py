"""Tests of tables: one content, shown in a terminal and in Markdown; the page shows it in test_html_report.py."""

import io

import pytest
from rich.console import Console

from forensic_cli.tables import Table

TABLE = Table(
    "Ranking",
    ("model", "images", "best at"),
    [("a|b", 1200, "faces"), ("total", 7, "–")],
    note="Of the `test` images.",
    styles={1: "bold"},
    left=(0, 2),
)


def test_markdown_has_a_heading_a_note_alignment_and_escaped_bars() -> None:
    assert TABLE.markdown(3) == (
        "### Ranking\n\n"
        "Of the `test` images.\n\n"
        "| model | images | best at |\n"
        "| --- | ---: | --- |\n"
        "| a\\|b | 1200 | faces |\n"
        "| **total** | 7 | – |"
    )
    assert TABLE.markdown() == TABLE.markdown(3).partition("images.\n\n")[2]


def test_a_bar_that_is_escaped_already_stays_as_it_is() -> None:
    assert Table("t", ("a",), [(r"x\|y",)]).markdown().splitlines()[-1] == r"| x\|y |"


def test_a_terminal_shows_the_same_cells() -> None:
    console = Console(file=io.StringIO(), width=60, markup=False)
    console.print(TABLE.rich())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith("Ranking")
    assert "│ a|b   │   1200 │ faces   │" in text
    assert "│ total │      7 │ –       │" in text


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"t: a row does not have one cell for each of \['a', 'b'\]"):
        Table("t", ("a", "b"), [("x", "y"), ("z",)])
