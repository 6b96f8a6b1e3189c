"""`genforensic scan`: judge images, print the report."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import DEVICES, command_line, completing, completing_cards, on_command_line, one_of
from forensic_cli.console import note
from forensic_cli.errors import ExitCode
from forensic_cli.reports import REPORTS, choose_format

_FUSIONS = ("mean", "vote")
_SORTS = ("confidence", "path", "disagreement")
_answers = completing_cards(lambda card: card.labels, "generated", "real", "undecided", "inconclusive", "unknown")


def scan(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, and folders of images; - for a list of paths on standard input, ended by newline or NUL.",
            show_default=False,
        ),
    ],
    technique: Annotated[
        list[str] | None,
        typer.Option(
            "--technique",
            "-t",
            metavar="NAME|all",
            autocompletion=completing_cards(lambda card: [card.technique], "all"),
            help="Technique to scan with; repeat it, or say all, for several.",
        ),
    ] = None,
    ensemble: Annotated[
        str,
        typer.Option(
            metavar="|".join(_FUSIONS),
            callback=one_of(_FUSIONS),
            autocompletion=completing(_FUSIONS),
            help="How several techniques are fused.",
        ),
    ] = "mean",
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completing_cards(lambda card: [card.recipe]),
            help="Recipe of the exports, where a folder has several.",
        ),
    ] = None,
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of .onnx exports; else $GENFORENSIC_EXPORTS, else what ships."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the report here, not to the screen."),
    ] = None,
    report_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="|".join(REPORTS),
            callback=one_of(REPORTS),
            autocompletion=completing(REPORTS),
            help="Report format; else by the suffix of --output, such as .jsonl, else table.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on where a scan into this JSON Lines file was stopped; rows whose files changed go."
        ),
    ] = False,
    recursive: Annotated[bool, typer.Option(help="Look into folders within folders.")] = True,
    include: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, only files that match, such as '*.png'; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="In folders, leave out matching files and folders; may be repeated."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Probability among the generators from which on one is named: higher names fewer images and is wrong "
            "less often; else the model card's, for each state.",
            show_default=False,
        ),
    ] = None,
    stability: Annotated[
        bool,
        typer.Option(
            "--stability",
            help="Judge a few realistic re-encodings of each image, too: report the range of the confidence, and leave "
            "open what does not survive them.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Then wait for new and changed files in the folders and judge these, until Ctrl-C; needs watchfiles.",
        ),
    ] = False,
    dedupe: Annotated[
        bool,
        typer.Option(
            "--dedupe",
            help="Gather images that look the same as one finding, numbered in the rows; needs imagehash.",
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(
            metavar="|".join(DEVICES),
            callback=one_of(DEVICES),
            autocompletion=completing(DEVICES),
            help="auto: the GPU where one works.",
        ),
    ] = "auto",
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Fail rather than run on the CPU.")] = False,
    batch_size: Annotated[
        int,
        typer.Option(min=0, max=4096, help="Images that go through a model at once; 0: one on a CPU, 32 on a GPU."),
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=0, max=256, help="Threads that each read and judge their own images; 0: one a core.")
    ] = 0,
    threads: Annotated[
        int, typer.Option(min=1, max=256, help="Threads within one run of a model; more help where images are few.")
    ] = 1,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Images with more pixels by their header are `too_large`; else 200000000."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(_SORTS),
            callback=one_of(_SORTS),
            autocompletion=completing(_SORTS),
            help="Order of the rows: surest first, by path, or where techniques disagree first. No row is written "
            "before all are known, and all are held in memory.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ANSWER",
            autocompletion=_answers,
            help="Show only rows with this headline or verdict, and files that cannot be read; may be repeated.",
        ),
    ] = None,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, metavar="N", help="Show only rows with at least this confidence.")
    ] = 0.0,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ANSWER",
            autocompletion=_answers,
            help="Exit code 10 when an image has this headline or verdict; may be repeated.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Say of each image whether a generator made it, and which one, with an evidence record.

    The headline is `generated`, `real` or `undecided`. Where the evidence carries a name the verdict is that generator;
    else it is `inconclusive`, with a short list where that helps. The raw label, all scores and the likelihood ratios
    stay beside it. Files with the same bytes are judged once, and each has its row.

    Examples:

        genforensic scan ./images

        genforensic scan ./images --technique all --ensemble mean

        genforensic scan ./images --technique all --stability

        genforensic scan case-17/ --output case-17.jsonl --resume

        genforensic scan inbox/ --watch --output inbox.jsonl

        genforensic scan case-17/ --output case-17.html

        find case-17/ -name "*.png" -print0 | genforensic scan - --format csv

        genforensic scan incoming/ --technique all --sort disagreement --only undecided

        genforensic scan incoming/ --fail-on generated --quiet

    Exit code: 0 done, 1 done but some files could not be read, 2 wrong use, 3 no usable exports, 10 --fail-on,
    130 interrupted.
    """
    from forensic_cli.copies import dedupe_distance
    from forensic_cli.discover import Search, sources
    from forensic_cli.exports import check_labels, export_files, load_models, peek_exports, select
    from forensic_cli.images.decode import MAX_PIXELS
    from forensic_cli.images.history import STABILITY
    from forensic_cli.reports import Selection, check_verdicts
    from forensic_cli.scan import ScanSettings, Target, report_scan
    from forensic_cli.watch import check_watch

    named = sources(paths)
    given, setting = (report_format, None) if on_command_line(ctx, "report_format") else (None, report_format)
    chosen = choose_format(output, given, setting)
    if watch:
        check_watch(named, chosen, resume, sort, fail_on or ())
    search = Search(recursive, tuple(include or ()), tuple(exclude or ()))
    wanted = "cuda" if require_gpu else device
    models = load_models(select(peek_exports(export_files(exports)), technique or [], recipe), wanted, threads)
    settings = ScanSettings(
        ensemble,
        threshold,
        batch_size,
        workers,
        reencodings=STABILITY if stability else (),
        max_pixels=max_pixels or MAX_PIXELS,
        dedupe=dedupe_distance() if dedupe else None,
        command=command_line(ctx),
    )
    check_verdicts("--fail-on", fail_on or (), check_labels(models))
    if sort and not quiet:
        note("Rows are sorted: none is written before all are known")
    shown = Selection(sort, tuple(only or ()), min_confidence)
    summary = report_scan(named, search, models, settings, Target(output, chosen, force, quiet, resume, shown, watch))
    if any(summary.verdicts.get(name) or summary.headlines.get(name) for name in fail_on or ()):
        raise typer.Exit(ExitCode.VERDICT_FOUND)
    raise typer.Exit(ExitCode.SOME_UNREADABLE if summary.unreadable else ExitCode.DONE)
