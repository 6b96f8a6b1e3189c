"""`genforensic triage`: a person decides on the rows that the machine leaves open.

Decisions stand beside a results file and never in it: lines appended to RESULTS.decisions.jsonl.
"""

import getpass
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forensic_cli.card import GENERATED, REAL, UNDECIDED, UNKNOWN
from forensic_cli.commands import Root
from forensic_cli.console import note, print_text
from forensic_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from forensic_cli.record import FileResult, Verdict

MOST_TEXT = 2000
"""Characters of a decision or a note that are kept."""
_STOP = "q"


def triage(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="JSON Lines, JSON, Parquet or folder of parts of a scan.")
    ],
    analyst: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who decides; default: the account's name.", show_default=False)
    ] = None,
    root: Root = Path(),
) -> None:
    """Walk through the images that are undecided, or on which the techniques disagree, and decide.

    Each decision is appended to RESULTS.decisions.jsonl with the image's sha256, a note, the analyst and the UTC time.
    The machine's answer and the results file stay as they are, and no image is asked about twice. Answers are read
    from standard input: a number from the list or a word of your own, then a note. An empty answer skips the image, q
    stops.

    Examples:

        genforensic triage case-17.jsonl
        genforensic triage case-17.jsonl --analyst "A. Ramirez" --root /cases/17

    Exit code: 0 done or stopped, 2 wrong use.
    """
    from forensic_cli.record import printable
    from forensic_cli.reports.text import visible
    from forensic_cli.results_file import open_results
    from forensic_cli.seal import check_results

    results = results if results.name else results.resolve()
    sidecar = results.with_name(f"{results.name}.decisions.jsonl")
    scanned = open_results(results)
    earlier = read_decisions(sidecar)
    # Counted first and read again then, so that rows of any number fit into memory
    total = sum(1 for _ in to_decide(scanned.rows(), earlier))
    who = analyst or _account()
    if faults := check_results(results).faults:
        note(f"{results}: {faults[0].message}; decisions are recorded all the same", "yellow")
    choices = list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *scanned.header.labels, UNKNOWN]))
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(choices, 1))
    decided = 0
    for place, (row, verdict) in enumerate(to_decide(open_results(results, quiet=True).rows(), earlier), 1):
        print_text("\n".join(["", *map(visible, _shown(row, verdict, f"{place} of {total}", root))]))
        answer = _ask(f"decision ({visible(listed)}; empty skips, {_STOP} stops): ", choices)
        if answer == _STOP:
            break
        if answer:
            why, now = _read("note: ") or "", datetime.now(UTC).isoformat(timespec="seconds")
            machine = (row.path, row.sha256, verdict.headline, verdict.verdict)
            append_decision(
                sidecar, AnalystDecision(*machine, answer[:MOST_TEXT], why[:MOST_TEXT], who[:MOST_TEXT], now)
            )
            decided += 1
    print_text(f"{decided} of {total} decided; {printable(sidecar)}")


@dataclass(frozen=True)
class AnalystDecision:
    """What a person decided about one image."""

    path: str
    """As in the row."""
    sha256: str | None
    """Of the image, as in the row."""
    headline: str
    """The machine's, for reference; it stays what it is in the results file."""
    verdict: str
    """The machine's as well."""
    decision: str
    """The person's: generated, real, undecided, a label, or a word of their own."""
    note: str
    """Why."""
    analyst: str
    """Who."""
    decided: str
    """UTC, ISO 8601."""


def read_decisions(path: Path) -> list[Mapping[str, Any]]:
    """Return the decisions in a file, none if there is no such file; a line that is not a decision is left out."""
    from forensic_cli.results_file import LONGEST_LINE, json_object

    decisions: list[Mapping[str, Any]] = []
    try:
        with path.open("rb") as stream:
            while line := stream.readline(LONGEST_LINE):
                record = json_object(line)
                if isinstance(record.get("decision"), str):
                    decisions.append(record)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    return decisions


def append_decision(path: Path, decision: AnalystDecision) -> None:
    """Append one line, and see it on the disk before returning. Raises OutputError if that fails."""
    line = json.dumps(asdict(decision), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    try:
        with path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                stream.write(b"\n" if stream.read(1) != b"\n" else b"")  # a power cut left half a line
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def to_decide(
    rows: "Iterable[FileResult]", decided: Sequence[Mapping[str, Any]]
) -> "Iterator[tuple[FileResult, Verdict]]":
    """Yield the uncertain rows without a decision: undecided ones, and those on which techniques disagree."""
    done = {(decision.get("path"), decision.get("sha256")) for decision in decided}
    for row in rows:
        is_uncertain = row.verdict and (row.verdict.headline == UNDECIDED or row.verdict.agreement < 1)
        if row.verdict and is_uncertain and (row.path, row.sha256) not in done:
            yield row, row.verdict


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise UsageError("the account has no name; say who decides with --analyst NAME") from error


def _ask(question: str, choices: Sequence[str]) -> str:
    """Return a choice, a word of the analyst's own, nothing to skip, or `q` to stop, also at the end of the input."""
    while (answer := _read(question)) is not None:
        if not answer.isdecimal():
            return answer
        if 1 <= int(answer[:9]) <= len(choices):
            return choices[int(answer[:9]) - 1]
        typer.echo(f"{answer} is not in the list; give 1 to {len(choices)}, or a word of your own")
    return _STOP


def _read(question: str) -> str | None:
    """Return one line of standard input, or None at its end."""
    typer.echo(question, nl=False)
    try:
        return input().strip()
    except EOFError:
        typer.echo()
        return None
    except UnicodeDecodeError as error:
        raise UsageError("standard input is not text; type your answers, or pipe lines of UTF-8") from error


def _shown(row: "FileResult", verdict: "Verdict", place: str, root: Path) -> Iterator[str]:
    from forensic_cli.reports.text import answer_in_words
    from forensic_cli.seal import check_file

    yield f"{place}  {row.path}"
    yield "  " + ", ".join(filter(None, [answer_in_words(verdict), row.state]))
    ranked = sorted(verdict.scores.items(), key=lambda score: -score[1])
    yield f"  scores {', '.join(f'{label} {score:.3f}' for label, score in ranked)}"
    if len(verdict.techniques) > 1:
        yield from (f"  {name}: {own.label} {own.confidence:.3f}" for name, own in verdict.techniques.items())
    if row.warnings:
        yield f"  warnings {', '.join(row.warnings)}"
    if (fault := check_file(row.path, row.sha256, row.status, root)) is not None:
        yield f"  note: {fault.message}"
