"""`genforensic audit`: how biased a labelled dataset is."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forensic_cli.console import print_json
from forensic_cli.errors import ExitCode, UsageError
from forensic_cli.record import printable
from forensic_train.commands import training_extra

if TYPE_CHECKING:
    from forensic_train.audit import Bias, FileFaults, Shortcut


def audit(
    data: Annotated[
        Path | None,
        typer.Argument(help="`ROOT/<generator>/<subject>/...` or a CSV manifest.", show_default=False),
    ] = None,
    counts: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="A generator x subject table of counts instead of images."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the bias of a dataset before anything is trained on it.

    Prints the generator x subject table, the entropies H(G), H(S), H(S|G) and the mutual information I(G;S) in nats,
    the accuracy of a rule that sees only the subject, and a shortcut probe: how well file format, size, JPEG quality
    and metadata alone predict the generator. Also reads every image, and lists files that training could not read and
    files with the same bytes under two generators.

    Exit code: 0 done, 1 done but some files could not be read, 2 wrong usage, 4 unusable data.

    Examples:

        genforensic audit ./labelled

        genforensic audit --counts table.csv
    """
    if (data is None) == (counts is None):
        raise UsageError("give either DATA (a folder or a manifest) or --counts FILE.csv")
    with training_extra("audit"):
        from forensic_train.audit import FileFaults, bias_of, bias_of_rows, check_files, probe_shortcuts, read_counts
        from forensic_train.manifest import read_manifest

        if counts is not None:
            bias, shortcuts, faults = bias_of(read_counts(counts)), [], FileFaults((), ())
        else:
            assert data is not None
            rows = read_manifest(data)
            bias, shortcuts, faults = bias_of_rows(rows), probe_shortcuts(rows), check_files(rows)
    if as_json:
        print_json({"bias": asdict(bias), "shortcuts": [asdict(s) for s in shortcuts], **_records(faults)})
    else:
        _print(bias, shortcuts)
        _print_faults(faults)
    if faults.unreadable:
        raise typer.Exit(ExitCode.SOME_UNREADABLE)


def _records(faults: "FileFaults") -> dict[str, Any]:
    """Return the faults as JSON objects."""
    return {
        "unreadable": [{"path": printable(path), "reason": reason} for path, reason in faults.unreadable],
        "two_generators": [
            {
                "sha256": copies[0].sha256,
                "files": [{"path": printable(row.path), "generator": row.generator} for row in copies],
            }
            for copies in faults.two_generators
        ],
    }


def _print_faults(faults: "FileFaults") -> None:
    from forensic_cli.reports.text import counted, visible

    if faults.unreadable:
        typer.echo(f"Training would stop at {counted(len(faults.unreadable), 'image')} that cannot be read:")
        for path, reason in faults.unreadable:
            typer.echo(f"  {visible(printable(path))}: {reason}")
    if faults.two_generators:
        typer.echo(f"{counted(len(faults.two_generators), 'file')} with the same bytes under several generators:")
        for copies in faults.two_generators:
            typer.echo("  " + ", ".join(f"{visible(printable(row.path))} ({row.generator})" for row in copies))


def _print(bias: "Bias", shortcuts: "list[Shortcut]") -> None:
    from forensic_cli.console import note, stdout_console
    from forensic_train.audit import bias_tables, in_words

    console = stdout_console()
    cells, *probe = (table.rich() for table in bias_tables(bias, shortcuts))
    console.print(cells)
    console.print(in_words(bias))
    if bias.subjects == ("",):
        note(
            "The data has no subjects: adversarial training and subject hold-outs are not possible.",
            "yellow",
        )
    if not shortcuts:
        return
    console.print(*probe)
    suspicious = [shortcut.name for shortcut in shortcuts if shortcut.suspicious]
    if suspicious:
        note(
            f"Warning: {', '.join(suspicious)} alone can predict the generator. A network may learn that instead of "
            "the image: save all images in one format, size and quality, and evaluate on held-out sources.",
            "yellow",
        )
