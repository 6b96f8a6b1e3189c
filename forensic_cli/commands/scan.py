"""`genforensic scan`: judge images, print the report."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import DEVICES, one_of
from forensic_cli.errors import ExitCode
from forensic_cli.reports import REPORTS

_FUSIONS = ("mean", "vote")


def scan(
    paths: Annotated[
        list[Path],
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
            help="Technique to scan with; repeat it, or say all, for several.",
        ),
    ] = None,
    ensemble: Annotated[
        str,
        typer.Option(metavar="|".join(_FUSIONS), callback=one_of(_FUSIONS), help="How several techniques are fused."),
    ] = "mean",
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recipe of the exports, where a folder has several.")
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
        str,
        typer.Option("--format", "-f", metavar="|".join(REPORTS), callback=one_of(REPORTS), help="Report format."),
    ] = "table",
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
        typer.Option(min=0, max=1, help="Confidence below which a verdict is `inconclusive`; else the model card's."),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Share of a generator's images whose set of candidates holds it, such as 0.90: a higher level names "
            "fewer images and is wrong less often; else the model card's.",
            show_default=False,
        ),
    ] = None,
    stability: Annotated[
        bool,
        typer.Option(
            "--stability",
            help="Judge a few realistic re-encodings of each image, too: report the range of the confidence, and call "
            "an image whose label flips `inconclusive`.",
        ),
    ] = False,
    device: Annotated[
        str,
        typer.Option(metavar="|".join(DEVICES), callback=one_of(DEVICES), help="auto: the GPU where one works."),
    ] = "auto",
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Fail rather than run on the CPU.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Views that go through a model at once.")] = 32,
    workers: Annotated[int, typer.Option(min=0, max=256, help="Decoding threads; 0: one a core.")] = 0,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Images with more pixels by their header are `too_large`; else 200000000."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Name the generator behind each image, with calibrated confidence and an evidence record.

    The verdict is a generator, `real`, `inconclusive` (several labels explain the image, or the best one is not
    sure enough) or `unknown` (none does). The raw label, the candidates and the likelihood ratios stay beside it.

    Examples:

        genforensic scan ./images

        genforensic scan ./images --technique all --ensemble mean

        genforensic scan ./images --technique all --stability

        genforensic scan case-17/ --format jsonl --output case-17.jsonl --resume

        genforensic scan case-17/ --format html --output case-17.html

        find case-17/ -name "*.png" -print0 | genforensic scan - --format csv

    Exit code: 0 done, 1 done but some files could not be read, 2 wrong use, 3 no usable exports.
    """
    from forensic_cli.desk import Target, report_scan
    from forensic_cli.discover import Search, check_paths
    from forensic_cli.exports import export_files, load_models, peek_exports, select
    from forensic_cli.preprocess import MAX_PIXELS
    from forensic_cli.reencode import STABILITY
    from forensic_cli.scan import ScanSettings

    check_paths(paths)
    search = Search(recursive, tuple(include or ()), tuple(exclude or ()))
    wanted = "cuda" if require_gpu else device
    models = load_models(select(peek_exports(export_files(exports)), technique or [], recipe), wanted)
    settings = ScanSettings(
        ensemble,
        threshold,
        batch_size,
        workers,
        coverage=coverage,
        reencodings=STABILITY if stability else (),
        max_pixels=max_pixels or MAX_PIXELS,
    )
    summary = report_scan(paths, search, models, settings, Target(output, report_format, force, quiet, resume))
    raise typer.Exit(ExitCode.SOME_UNREADABLE if summary.unreadable else ExitCode.DONE)
