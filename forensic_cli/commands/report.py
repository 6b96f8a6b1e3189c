"""`genforensic report`: turn the results of an earlier scan into a page for people."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import Exports, Force, Quiet, Root
from forensic_cli.console import note

SAMPLE = 2000
"""Images on the page of a folder of parts, if the command line does not say."""


def report(
    results: Annotated[
        Path,
        typer.Argument(
            help="Results of `genforensic scan`: JSON Lines, JSON, Parquet or a folder.", show_default=False
        ),
    ],
    html: Annotated[
        Path, typer.Option("--html", metavar="FILE", help="Write one self-contained page here.", show_default=False)
    ],
    exports: Exports = None,
    root: Root = Path(),
    evidence: Annotated[
        int, typer.Option(min=0, metavar="N", help="Most images with an evidence map, generated ones first.")
    ] = 200,
    pictures: Annotated[
        int, typer.Option(min=0, metavar="MB", help="Most megabytes of thumbnails; images beyond that have none.")
    ] = 48,
    sample: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Show N images, as many of each answer, the surest first; the totals stay those of all. Default: all, "
            f"or {SAMPLE} of a folder of parts. Needs duckdb.",
            show_default=False,
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a page from the results of a scan: the answers, and for each image what its answer rests on.

    The page is a single file that opens without a network. Files whose SHA-256 is still that of their row are read
    again for thumbnails, and judged again by the models of the scan to show where the evidence lies. No answer
    changes.

    Examples:

        genforensic report case-17.jsonl --html case-17.html
        genforensic report case-17.jsonl --html case-17.html --evidence 1000 --root /mnt/case-17
        genforensic report run.json --html run.html --exports runs/first/exports

    Exit code: 0 done, 2 wrong use or not results, 3 an export that cannot be used.
    """
    from forensic_cli.console import Output, already_there
    from forensic_cli.errors import ModelError
    from forensic_cli.exports import export_files
    from forensic_cli.record import printable
    from forensic_cli.reports.html import PageSettings, Source, build_page, choose_rows
    from forensic_cli.reports.text import visible
    from forensic_cli.results_file import MANIFEST
    from forensic_cli.seal import check_results, file_sha256

    if html.exists() and not force:
        raise already_there(html)
    most = sample or (SAMPLE if results.is_dir() else None)
    shown = choose_rows(results, most)
    checked = check_results(results)
    if checked.faults:
        note(f"{printable(results)}: {visible(str(checked))}; the page says so", "yellow")
    try:
        files = export_files(exports)
    except ModelError:
        if exports is not None:
            raise
        files = []  # the page says which models are missing
    settings = PageSettings(root, evidence, pictures * 1_000_000, quiet)
    sealed = results / MANIFEST if results.is_dir() else results
    name = printable(Path(results.resolve().name))
    source = Source(name, file_sha256(sealed) or "", str(checked), not checked.faults)
    page = build_page(shown, files, settings, source)
    # Last, so that a failure neither leaves an empty page nor empties an old one
    with Output(html, force, unfinished="the page is unfinished and cannot be used") as out:
        out.write(page)
