"""Rows that are one finding: copies, which have the same bytes, and what a scan with --dedupe says looks the same."""

from collections.abc import Mapping
from typing import Any


class Groups:
    """Gathers the rows of a scan, in their order."""

    def __init__(self) -> None:
        self._members: dict[tuple[str, Any], list[int]] = {}
        self._answers: dict[tuple[str, Any], set[tuple[str | None, str | None]]] = {}

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Take a row; a copy has the cluster of its original."""
        fields = ((name, row.get(name)) for name in ("cluster", "sha256"))
        key = next((field for field in fields if field[1] is not None), ("row", number))
        self._members.setdefault(key, []).append(number)
        self._answers.setdefault(key, set()).add((row.get("headline"), row.get("verdict")))

    @property
    def judged(self) -> int:
        """Findings whose images were judged."""
        return sum(answers != {(None, None)} for answers in self._answers.values())

    @property
    def mixed(self) -> int:
        """Findings whose images have different answers."""
        return sum(len(answers) > 1 for answers in self._answers.values())

    @property
    def several(self) -> list[list[int]]:
        """The rows of each finding that has more than one."""
        return [members for members in self._members.values() if len(members) > 1]
