"""An analyst's own decisions, beside a results file and never in it: lines appended to RESULTS.decisions.jsonl."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forensic_cli.card import UNKNOWN
from forensic_cli.ensemble import INCONCLUSIVE, UNDECIDED
from forensic_cli.errors import OutputError
from forensic_cli.results_file import LONGEST_LINE, Results

MOST_TEXT = 2000
"""Characters of a decision or a note that are kept."""


@dataclass(frozen=True)
class Decision:
    """What a person decided on one image."""

    path: str
    """As in the row."""
    sha256: str | None
    """Of the image, as in the row."""
    headline: str | None
    """The machine's, for reading along; it stays what it is in the results file."""
    verdict: str | None
    """The machine's as well."""
    decision: str
    """The person's: generated, real, undecided, a label, or a word of their own."""
    note: str
    """Why."""
    analyst: str
    """Who."""
    decided: str
    """UTC, ISO 8601."""


def decide_now(row: Mapping[str, Any], decision: str, note: str, analyst: str) -> Decision:
    """Return a decision of this moment on a row."""
    return Decision(
        path=row["path"],
        sha256=row.get("sha256"),
        headline=row.get("headline"),
        verdict=row.get("verdict"),
        decision=decision[:MOST_TEXT],
        note=note[:MOST_TEXT],
        analyst=analyst[:MOST_TEXT],
        decided=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def decisions_path(results: Path) -> Path:
    """Return where the decisions on a results file stand."""
    return results.with_name(f"{results.name}.decisions.jsonl")


def read_decisions(path: Path) -> list[Mapping[str, Any]]:
    """Return the decisions in a file, none where there is no such file; a line that is none is left out."""
    found: list[Mapping[str, Any]] = []
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict) and isinstance(record.get("decision"), str):
                    found.append(record)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    return found


def append_decision(path: Path, decision: Decision) -> None:
    """Add one line, and have it on the disk before returning. Raises OutputError where that fails."""
    line = json.dumps(asdict(decision), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    try:
        with path.open("ab+") as stream:
            if stream.tell() and _last_byte(stream) != b"\n":  # a power cut left half a line
                line = b"\n" + line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def to_decide(results: Results, decided: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the uncertain rows that have no decision yet: undecided ones, and those where techniques disagree."""
    done = {(one.get("path"), one.get("sha256")) for one in decided}
    return [row for row in results.rows if is_uncertain(row) and (row["path"], row.get("sha256")) not in done]


def is_uncertain(row: Mapping[str, Any]) -> bool:
    """Tell whether a person should look at a row."""
    if row.get("verdict") is None:
        return False
    # A row of an older version has no headline
    is_open = row["headline"] == UNDECIDED if row.get("headline") else row["verdict"] in (INCONCLUSIVE, UNKNOWN)
    agreement = row.get("agreement")
    return is_open or (agreement is not None and agreement < 1)


def _last_byte(stream: Any) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return bytes(stream.read(1))
