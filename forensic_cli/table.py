"""A table that is made once and shown in a terminal, in Markdown, or on a page by the template of reports/html."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

_BAR = re.compile(r"(?<!\\)\|")
MISSING = "–"
"""Stands in a cell for a figure that there is none of."""


@dataclass(frozen=True)
class Table:
    """Rows under a title. Cells are shown as `str` gives them. Raises ValueError for ragged rows."""

    title: str
    """A few words, without a full stop."""
    columns: Sequence[str]
    """The first one names the rows."""
    rows: Sequence[Sequence[object]]
    """As many cells in each row as there are columns."""
    note: str = ""
    """A paragraph that explains the table; not shown in a terminal."""
    styles: Mapping[int, str] = field(default_factory=dict)
    """{row: rich style}, such as "bold"; in Markdown the names of these rows are bold."""
    left: Collection[int] = (0,)
    """Columns that are aligned left: words. Figures are aligned right."""
    unbroken: Collection[int] = (0,)
    """Columns whose cells a terminal never breaks."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.title}: a row does not have one cell for each of {list(self.columns)}")

    def rich(self) -> "RichTable":
        """Return the table for a terminal."""
        from rich.table import Table as RichTable

        table = RichTable(title=self.title, title_justify="left")
        for place, name in enumerate(self.columns):
            table.add_column(name, justify="left" if place in self.left else "right", no_wrap=place in self.unbroken)
        for place, row in enumerate(self.rows):
            table.add_row(*map(str, row), style=self.styles.get(place))
        return table

    def markdown(self, level: int = 0) -> str:
        """Return the table in Markdown, below its title as a heading of a level and its note; 0: the table alone."""
        lines = [markdown_head(self.columns, self.left)]
        for place, (name, *cells) in enumerate(self.rows):
            lines.append(markdown_row([f"**{name}**" if place in self.styles else name, *cells]))
        above = [f"{'#' * level} {self.title}", self.note] if level else []
        return "\n\n".join([*filter(None, above), "\n".join(lines)])


def markdown_head(columns: Sequence[str], left: Collection[int]) -> str:
    """Return the two lines that begin a table: the names of the columns, and how they are aligned."""
    rule = markdown_row("---" if place in left else "---:" for place in range(len(columns)))
    return f"{markdown_row(columns)}\n{rule}"


def markdown_row(cells: Iterable[object]) -> str:
    """Return one line of a table; a bar in a cell is escaped unless it is already, because it would end the cell."""
    return "| " + " | ".join(_BAR.sub(r"\|", str(cell)) for cell in cells) + " |"
