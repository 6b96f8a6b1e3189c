"""`genforensic triage`: a person decides on the rows that the machine leaves open."""

import getpass
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.output import print_text
from forensic_cli.results import printable

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
    from forensic_cli.decisions import append_decision, decide_now, decisions_path, read_decisions, to_decide
    from forensic_cli.reports.table import visible
    from forensic_cli.results_file import load_results
    from forensic_cli.seal_check import check_results

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
    from forensic_cli.card import REAL, UNKNOWN
    from forensic_cli.ensemble import GENERATED, UNDECIDED

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
    from forensic_cli.custody import check_file
    from forensic_cli.ensemble import shown_name

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
