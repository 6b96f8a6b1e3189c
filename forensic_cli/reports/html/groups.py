"""Rows that are one finding: copies, which have the same bytes, and what a scan with --dedupe says looks the same."""

from collections.abc import Mapping
from typing import Any


class Groups:
    """Gathers the rows of a scan, in their order."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, Any], list[int]] = {}
        self._verdicts: dict[tuple[str, Any], set[str | None]] = {}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take a row; a copy has the cluster of its original."""
        fields = ((name, row.get(name)) for name in ("cluster", "sha256"))
        key = next((field for field in fields if field[1] is not None), ("row", number))
        self._members.setdefault(key, []).append(number)
        self._verdicts.setdefault(key, set()).add(row.get("verdict"))

    @property
    def judged(self) -> int:
        """Findings whose images have verdicts."""
        return sum(verdicts != {None} for verdicts in self._verdicts.values())

    @property
    def mixed(self) -> int:
        """Findings whose images have different verdicts."""
        return sum(len(verdicts) > 1 for verdicts in self._verdicts.values())

    @property
    def several(self) -> list[list[int]]:
        """The rows of each finding that has more than one."""
        return [members for members in self._members.values() if len(members) > 1]
