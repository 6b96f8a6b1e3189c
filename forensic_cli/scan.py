"""A scan: paths -> files -> prepared views -> verdicts -> marked rows -> report. The whole flow on two screens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from platform import platform, python_version
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import PIL

from forensic_cli import __version__
from forensic_cli.card import GENERATED, NEVER, Decision
from forensic_cli.console import Output, note, track, wants_colour
from forensic_cli.discover import LISTED, LeftOut, Search, Source, discover
from forensic_cli.errors import UsageError
from forensic_cli.images.decode import MAX_PIXELS
from forensic_cli.judge import Judge, Seen, perceptual_hash
from forensic_cli.model import Model, images_at_once
from forensic_cli.objects import Location
from forensic_cli.pipeline import Reading, work_on
from forensic_cli.record import FileResult, RunHeader, Summary, UsedModel, printable
from forensic_cli.reports import Selection, check_verdicts, make_report, worth_unfinished
from forensic_cli.reports.json_formats import JsonLinesReport
from forensic_cli.resume import Kept, keep_rows, kept_lines
from forensic_cli.watch import LastRows, arrivals


@dataclass(frozen=True)
class ScanSettings:
    """How to judge, apart from the models."""

    fusion: str = "mean"
    """Name from verdict.FUSIONS; without effect on one model."""
    threshold: float | None = None
    """Probability among the generators from which one is named; None: the models' own."""
    batch_size: int = 0
    """Images that go through a model together; 0: what suits the models' devices (model.images_at_once)."""
    workers: int = 0
    """Threads, each of which reads and judges images of its own; 0: one a core."""
    reencodings: tuple[str, ...] = ()
    """Names from images.history.REENCODINGS that each image is judged under as well (`--stability`)."""
    max_pixels: int = MAX_PIXELS
    """Images with more are `too_large`, by their header."""
    dedupe: int | None = None
    """Bits by which the perceptual hashes of near-duplicates may differ; None: do not look for them."""
    command: tuple[str, ...] = ()
    """The command line, for the record."""


@dataclass(frozen=True)
class Target:
    """Where a report goes and what it looks like."""

    output: Path | None
    """A new file, or None for standard output."""
    format: str
    """Name from reports.REPORTS."""
    force: bool
    """Overwrite the file."""
    quiet: bool
    """Show no progress bar."""
    resume: bool = False
    """Go on where an earlier scan into the file was stopped."""
    selection: Selection = field(default_factory=Selection)
    """Which rows are written, and in which order."""
    watch: bool = False
    """Go on with files that arrive later, until interrupted."""

    @property
    def is_resumable(self) -> bool:
        """Whether a scan that is stopped can go on: its rows stand alone, in a file."""
        return self.output is not None and self.format == "jsonl" and self.selection.is_all


def report_scan(
    paths: Sequence[Source], search: Search, models: Sequence[Model], settings: ScanSettings, target: Target
) -> Summary:
    """Scan, and write each row as soon as it is known. Returns the totals; with `watch` it ends by an interrupt only.

    Raises UsageError if there is no image at all, ModelError for models that cannot be fused, OutputError for a report
    that cannot be written.
    """
    check_verdicts("--only", target.selection.only, Judge(models).labels)
    summary = Summary()
    arriving = _watched(paths, search) if target.watch else None
    files = find_images(paths, search, summary)
    first = next(files, None)
    if first is None and arriving is None:
        raise UsageError(nothing_found(paths, summary.left_out))
    selection = {} if target.selection.is_all else asdict(target.selection)
    header = replace(run_header(models, settings), search=asdict(search), selection=selection)
    kept = _kept(target, header, files if first is None else chain([first], files), summary)
    # Before the output is opened: a format whose package is missing leaves no file
    report = make_report(target.format, target.output is None and wants_colour(), target.quiet)
    unfinished = worth_unfinished(target.format)
    with Output(target.output, target.force or target.resume, kept.length, unfinished) as out:
        # Rows on a terminal are progress enough, and a bar would run through them
        quiet = target.quiet or out.is_terminal
        total = None if quiet else count_images(paths, search, kept.rows)
        if target.output and isinstance(report, JsonLinesReport) and kept.length:
            report.go_on(kept_lines(target.output, kept.length))
        else:
            out.write(report.begin(header))
        judge = partial(scan, models=models, settings=settings, seen=kept.seen)
        rows = track(judge(kept.files), "scanning", total, quiet)
        try:
            every = rows if arriving is None else _and_arriving(rows, arriving, judge)
            for row in target.selection.apply(_counted(summary, every)):
                out.write(report.row(row))
            out.write(report.end(summary))
        except KeyboardInterrupt as interrupt:
            if target.watch:
                out.write(report.end(summary))
            elif target.is_resumable:
                note("To go on, give the same command with --resume")
            raise KeyboardInterrupt(unfinished) from interrupt
    return summary


def scan(
    files: Iterable[Location], models: Sequence[Model], settings: ScanSettings, seen: Seen | None = None
) -> Iterator[FileResult]:
    """Judge files with one or more models of the same labels; yields a row for each file, in the files' order.

    `seen` remembers the rows before these. Raises ModelError if the models' labels differ. A bad file is a row with a
    status, never an exception.
    """
    return map((seen or Seen(settings.dedupe)).mark, judge_files(files, models, settings))


def judge_files(files: Iterable[Location], models: Sequence[Model], settings: ScanSettings) -> Iterator[FileResult]:
    """Judge files as `scan` does, but without looking for copies: the one step that other engines take over."""
    judge, reading = how_to_judge(models, settings)
    batch_size = settings.batch_size or images_at_once(models)
    for rows in work_on(files, reading, judge.rows, batch_size, settings.workers):
        yield from rows


def how_to_judge(models: Sequence[Model], settings: ScanSettings) -> tuple[Judge, Reading]:
    """Return what judges files, and what it takes of each."""
    judge = Judge(models, settings.fusion, settings.threshold, stability=bool(settings.reencodings))
    fingerprint = None if settings.dedupe is None else perceptual_hash
    return judge, Reading(judge.preprocessings, settings.reencodings, settings.max_pixels, fingerprint)


def run_header(models: Sequence[Model], settings: ScanSettings) -> RunHeader:
    """Describe what is about to judge the files."""
    return RunHeader(
        version=__version__,
        models=tuple(
            UsedModel(
                name=model.card.name,
                technique=model.card.technique,
                recipe=model.card.recipe,
                labels=model.card.labels,
                file=printable(Path(model.path.name)),
                sha256=model.sha256,
                validation=model.card.validation,
                decisions={state: _decision_record(decision) for state, decision in model.card.decisions.items()},
            )
            for model in models
        ),
        providers=tuple(model.provider for model in models),
        onnxruntime=ort.__version__,
        ensemble=settings.fusion if len(models) > 1 else None,
        threshold=settings.threshold,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        reencodings=settings.reencodings,
        batch_size=settings.batch_size or images_at_once(models),
        max_pixels=settings.max_pixels,
        dedupe=settings.dedupe,
        command=settings.command,
        versions=versions(),
        exports=tuple(model.path for model in models),
    )


def versions() -> dict[str, str]:
    """Return what a scan runs on, besides ONNX Runtime."""
    return {
        "python": python_version(),
        "platform": platform(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": installed("simplejpeg"),
        "pillow-heif": installed("pillow-heif"),
        "c2pa": installed("c2pa-python"),
    }


def installed(package: str) -> str:
    """Return the version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _decision_record(decision: Decision) -> dict[str, Any]:
    """Return what an answer depends on; a threshold that is never reached is None."""
    thresholds = {name: getattr(decision, name) for name in ("generated_from", "real_to", "name_from")}
    ratios = dict(decision.ratios) | ({GENERATED: decision.generated} if decision.generated else {})
    return {
        **{name: None if abs(value) >= NEVER else value for name, value in thresholds.items()},
        "names_from": {label: None if least >= NEVER else least for label, least in decision.names_from.items()},
        "farthest": decision.farthest,
        "log10_lr_bounds": {label: [ratio.lower, ratio.upper] for label, ratio in ratios.items()},
    }


def find_images(paths: Sequence[Source], search: Search, summary: Summary) -> Iterator[Location]:
    """Yield the images, and count in the summary what is left out."""
    for entry in discover(paths, search):
        if isinstance(entry, LeftOut):
            summary.left_out += 1
        else:
            yield entry


def count_images(paths: Sequence[Source], search: Search, fewer: int = 0) -> int | None:
    """Return how many images there are, less `fewer`; None where that would use up a list or list a store twice."""
    if not all(isinstance(path, Path) for path in paths):
        return None
    return sum(1 for _ in find_images(paths, search, Summary())) - fewer


def nothing_found(paths: Sequence[Source], left_out: int) -> str:
    """Say that there is nothing to scan."""
    places = ", ".join("the list on standard input" if path is LISTED else str(path) for path in paths)
    return f"no images found in {places} ({left_out} other entries left out); give a folder with images"


def _kept(target: Target, header: RunHeader, files: Iterator[Location], summary: Summary) -> Kept:
    """Return what stays of the target's file; nothing unless it is to be resumed."""
    if not target.resume:
        return Kept(0, files, 0, Seen(header.dedupe))
    if not target.selection.is_all:
        raise UsageError(
            "--resume needs the rows of all files in their order; leave out --sort, --only and --min-confidence"
        )
    if target.output is None or not target.is_resumable:
        raise UsageError("--resume goes on with JSON Lines in a file; add --output FILE.jsonl")
    kept = keep_rows(target.output, header, files, summary)
    if kept.rows:
        note(f"{target.output}: {kept.rows} rows are kept")
    return kept


def _counted(summary: Summary, rows: Iterable[FileResult]) -> Iterator[FileResult]:
    """Yield the rows, each one counted whether it will be shown or not."""
    for row in rows:
        summary.add(row)
        yield row


def _watched(paths: Sequence[Source], search: Search) -> Iterator[list[Path]]:
    """Watch folders from now on, so that what arrives while they are searched is not missed."""
    arriving = arrivals([path for path in paths if isinstance(path, Path)], search)
    next(arriving)
    return arriving


def _and_arriving(
    rows: Iterator[FileResult],
    arriving: Iterator[list[Path]],
    judge: Callable[[Iterable[Location]], Iterator[FileResult]],
) -> Iterator[FileResult]:
    """Yield rows, and then those of files that arrive; a file that is found again unchanged gets none."""
    last = LastRows()
    yield from filter(last.is_news, rows)
    note("Waiting for new and changed files; press Ctrl-C to stop")
    for files in filter(None, arriving):
        yield from filter(last.is_news, judge(files))
