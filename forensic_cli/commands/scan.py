"""`genforensic scan`: judge images and write a report."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from forensic_cli.commands import Device, Exports, Force, Quiet, command_line, on_command_line
from forensic_cli.console import note
from forensic_cli.errors import ExitCode, UsageError
from forensic_cli.reports import choose_format

# The names in reports.REPORTS, verdict.FUSIONS and reports.SORTS; a test compares them
Format: TypeAlias = Literal["table", "jsonl", "json", "csv", "sarif", "parquet", "html"]
Fusion: TypeAlias = Literal["mean", "vote"]
Sort: TypeAlias = Literal["confidence", "path", "disagreement"]
Engine: TypeAlias = Literal["local", "ray"]

PART_SIZE = 1024
"""Files in a part: ten to twenty seconds of a core, so that workers finish at about the same time."""

# The sections of the help page; options that other commands share come before them
_files, _models, _answers, _output, _speed, _cluster = (
    partial(typer.Option, rich_help_panel=heading)
    for heading in ("Files", "Models", "Answers", "Output", "Speed", "Cluster")
)


def scan(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images and folders of images, on disk or in an object store (s3://BUCKET/..., gs://...), or - for a "
            "list of them on standard input, in lines or NUL-separated.",
            show_default=False,
        ),
    ],
    recursive: Annotated[bool, _files(help="Search subfolders.")] = True,
    include: Annotated[
        list[str] | None, _files(metavar="GLOB", help="In folders, scan only files such as '*.png'. May be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, _files(metavar="GLOB", help="In folders, skip what matches, folders too. May be repeated.")
    ] = None,
    watch: Annotated[
        bool, _files("--watch", help="Then scan files as they arrive or change, until Ctrl-C. Needs watchfiles.")
    ] = False,
    max_pixels: Annotated[
        int | None, _files(metavar="N", min=1, help="Do not decode images with more pixels. Default: 200000000.")
    ] = None,
    technique: Annotated[
        list[str] | None,
        _models(
            "--technique",
            "-t",
            metavar="NAME|all",
            help="Technique to scan with. May be repeated. Default: `baseline`.",
        ),
    ] = None,
    ensemble: Annotated[Fusion, _models(help="How the scores of several techniques are combined.")] = "mean",
    recipe: Annotated[
        str | None, _models(metavar="NAME", help="Recipe of the exports, if the folder has several.")
    ] = None,
    exports: Exports = None,
    device: Device = "auto",
    require_gpu: Annotated[bool, _models("--require-gpu", help="Fail rather than run on the CPU.")] = False,
    threshold: Annotated[
        float | None,
        _answers(
            min=0, max=1, help="Name a generator from this probability among all of them. Default: see the model card."
        ),
    ] = None,
    stability: Annotated[
        bool, _answers("--stability", help="Judge re-encodings too; give no answer that does not hold for all of them.")
    ] = False,
    dedupe: Annotated[
        bool, _answers("--dedupe", help="Group images that look the same into numbered findings. Needs imagehash.")
    ] = False,
    fail_on: Annotated[
        list[str] | None,
        _answers(metavar="ANSWER", help="Exit with 10 if an image has this headline or verdict. May be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        _output(
            "--output", "-o", metavar="FILE", help="Write the report to this file, or with --engine ray to this folder."
        ),
    ] = None,
    report_format: Annotated[
        Format | None, _output("--format", "-f", help="Report format. Default: by the suffix of --output, else table.")
    ] = None,
    force: Force = False,
    resume: Annotated[
        bool, _output("--resume", help="Continue a stopped scan into the same JSON Lines, or parts.")
    ] = False,
    sort: Annotated[Sort | None, _output(help="Order of the rows; all are held in memory until the end.")] = None,
    only: Annotated[
        list[str] | None,
        _output(metavar="ANSWER", help="Show only this headline or verdict, and unreadable files. May be repeated."),
    ] = None,
    min_confidence: Annotated[
        float, _output(min=0, max=1, metavar="N", help="Show only images with at least this confidence.")
    ] = 0.0,
    quiet: Quiet = False,
    batch_size: Annotated[int, _speed(min=0, max=4096, help="Images per run; 0: 1 on a CPU and 32 on a GPU.")] = 0,
    workers: Annotated[
        int, _speed(min=0, max=256, help="Threads that judge images, or Ray workers; 0 means one per core.")
    ] = 0,
    threads: Annotated[
        int, _speed(min=1, max=256, help="Threads within each run of a model; more helps if images are few.")
    ] = 1,
    engine: Annotated[
        Engine, _cluster(help="ray: many processes or machines write parts into a folder. Needs ray.")
    ] = "local",
    address: Annotated[
        str | None, _cluster(metavar="HOST:PORT", help="Head of a Ray cluster. Default: one on this machine.")
    ] = None,
    part_size: Annotated[int, _cluster(metavar="N", min=1, help="Files in a part that a worker judges.")] = PART_SIZE,
) -> None:
    """Tell whether images are AI-generated, and by which generator, with the evidence for each answer.

    Each image gets a headline, `generated`, `real` or `undecided`, and a verdict: the name of the generator if the
    evidence supports one, otherwise `inconclusive`, with a shortlist of candidates where that helps. Every row keeps
    all scores and likelihood ratios. Files with the same bytes are marked as copies.

    Examples:

        genforensic scan ./images
        genforensic scan ./images --technique all --stability
        genforensic scan case-17/ --output case-17.jsonl --resume
        genforensic scan case-17/ --output case-17.html
        genforensic scan inbox/ --watch --output inbox.jsonl
        genforensic scan incoming/ --fail-on generated --quiet
        find case-17/ -name "*.png" -print0 | genforensic scan - --format csv
        genforensic scan s3://case-17/images --engine ray --address 10.0.0.5:6379 --output case-17-parts

    Exit codes: 0 success; 1 success, but some files could not be read; 2 wrong usage; 3 no usable exports; 10 an image
    has one of the answers of --fail-on; 130 interrupted.
    """
    from forensic_cli.discover import Search, sources
    from forensic_cli.exports import check_labels, export_files, peek_exports, select
    from forensic_cli.images.decode import MAX_PIXELS
    from forensic_cli.images.history import STABILITY
    from forensic_cli.judge import dedupe_distance
    from forensic_cli.model import load_models
    from forensic_cli.reports import Selection, check_verdicts
    from forensic_cli.scan import ScanSettings, Target, report_scan
    from forensic_cli.watch import check_watch

    named = sources(paths)
    given, setting = (report_format, None) if on_command_line(ctx, "report_format") else (None, report_format)
    chosen = (given or setting or "jsonl") if engine == "ray" else choose_format(output, given, setting)
    if engine == "local" and (address or on_command_line(ctx, "part_size")):
        raise UsageError("--address and --part-size are for scans on a cluster; add --engine ray")
    if watch:
        check_watch(named, chosen, resume, sort, fail_on or ())
    search = Search(recursive, tuple(include or ()), tuple(exclude or ()))
    chosen_exports = select(peek_exports(export_files(exports)), technique or [], recipe)
    device = "cuda" if require_gpu else device
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
    check_verdicts("--fail-on", fail_on or (), check_labels(chosen_exports))
    shown = Selection(sort, tuple(only or ()), min_confidence)
    target = Target(output, chosen, force, quiet, resume, shown, watch)
    if engine == "ray":
        from forensic_cli.ray_engine import Cluster, scan_in_parts

        cluster = Cluster(address, device, part_size, threads)
        summary = scan_in_parts(named, search, chosen_exports, settings, cluster, target)
    else:
        if sort and not quiet:
            note("With --sort, no row is written before all images have been judged")
        models = load_models(chosen_exports, device, threads)
        summary = report_scan(named, search, models, settings, target)
    if any(summary.verdicts.get(name) or summary.headlines.get(name) for name in fail_on or ()):
        raise typer.Exit(ExitCode.VERDICT_FOUND)
    raise typer.Exit(ExitCode.SOME_UNREADABLE if summary.unreadable else ExitCode.DONE)
