"""An analyst's own decisions, beside a results file and never in it: lines appended to RESULTS.decisions.jsonl."""

import getpass
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from forensic_cli.card import INCONCLUSIVE, UNDECIDED, UNKNOWN
from forensic_cli.console import note, print_text
from forensic_cli.errors import OutputError, UsageError
from forensic_cli.record import printable
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


_STOP = "q"


def triage(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="JSON Lines or JSON of a scan.")],
    analyst: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who decides; else the name of the account.", show_default=False)
    ] = None,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that relative paths in the results start from.")
    ] = Path(),
) -> None:
    """Walk through the images that are undecided, or judged differently by the techniques, and decide.

    Each decision is appended to RESULTS.decisions.jsonl with the image's sha256, a note, the analyst and the UTC time.
    The machine's answer and the results file stay as they are. What was decided is not asked again. Answers are read
    from standard input: a number of the list or a word of your own, then a note; nothing skips an image, q stops.

    Examples:

        genforensic triage case-17.jsonl

        genforensic triage case-17.jsonl --analyst "A. Ramirez" --root /cases/17

    Exit code: 0 done or stopped, 2 wrong use.
    """
    from forensic_cli.reports.text import visible
    from forensic_cli.results_file import load_results
    from forensic_cli.seal import check_results

    found, sidecar = load_results(results), decisions_path(results)
    who = analyst or _account()
    if problems := check_results(results).faults:
        note(f"{results}: {problems[0].message}; decisions are recorded all the same", "yellow")
    rows = to_decide(found, read_decisions(sidecar))
    choices = _choices(found.header)
    made = 0
    for place, row in enumerate(rows, 1):
        lines = _shown(row, f"{place} of {len(rows)}", root)
        print_text("\n".join(["", *map(visible, lines)]))
        answer = _ask(f"decision ({visible(_listed(choices))}; nothing skips, {_STOP} stops): ", choices)
        if answer == _STOP:
            break
        if answer:
            append_decision(sidecar, decide_now(row, answer, _read("note: ") or "", who))
            made += 1
    print_text(f"{made} of {len(rows)} decided; {printable(sidecar)}")


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError) as error:
        raise UsageError("the account has no name; say who decides with --analyst NAME") from error


def _choices(header: Mapping[str, Any]) -> list[str]:
    from forensic_cli.card import GENERATED, REAL, UNDECIDED, UNKNOWN

    models = header.get("models") or [{}]
    labels = models[0].get("labels") or () if isinstance(models[0], Mapping) else ()
    return list(dict.fromkeys([GENERATED, REAL, UNDECIDED, *map(str, labels), UNKNOWN]))


def _listed(choices: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(choices, 1))


def _ask(question: str, choices: Sequence[str]) -> str:
    """Return a choice, a word of the analyst's own, nothing to skip, or `q` to stop, as at the end of the input."""
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


def _shown(row: Mapping[str, Any], place: str, root: Path) -> Iterator[str]:
    from forensic_cli.seal import check_file
    from forensic_cli.verdict import shown_name

    techniques = row.get("techniques") or {}
    yield f"{place}  {row['path']}"
    headline = row.get("headline") or row["verdict"]
    name = shown_name(row["verdict"], [str(candidate) for candidate in row.get("candidates") or ()])
    p = None if row.get("p_generated") is None else f"p {_number(row['p_generated'])}"
    yield "  " + ", ".join(map(str, filter(None, [headline, name, row.get("strength"), p, row.get("state")])))
    yield f"  scores {_scores(row.get('scores') or {})}"
    if len(techniques) > 1:
        yield from (
            f"  {name}: {one.get('label')} {_number(one.get('confidence'))}" for name, one in techniques.items()
        )
    if row.get("warnings"):
        yield f"  warnings {', '.join(map(str, row['warnings']))}"
    if (problem := check_file(row, root)) is not None:
        yield f"  note: {problem.message}"


def _scores(scores: Mapping[str, Any]) -> str:
    ranked = sorted(scores.items(), key=lambda item: -float(item[1]))
    return ", ".join(f"{label} {_number(value)}" for label, value in ranked)


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
