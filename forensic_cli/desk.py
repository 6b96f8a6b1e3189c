"""From paths to a written report: joins discovery, scan, report format and output, with a progress bar beside them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

from forensic_cli.console import Output, note, track, wants_colour
from forensic_cli.copies import Seen
from forensic_cli.discover import LISTED, LeftOut, Search, Source, discover
from forensic_cli.errors import UsageError
from forensic_cli.exports import check_labels
from forensic_cli.model import Model
from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.reports import Resumable, make_report, worth_unfinished
from forensic_cli.resume import Kept, keep_rows, kept_lines
from forensic_cli.scan import ScanSettings, run_header, scan
from forensic_cli.seal import refuse_broken_seal
from forensic_cli.selection import Selection, check_verdicts
from forensic_cli.watch import LastRows, arrivals


@dataclass(frozen=True)
class Target:
    """Where a report goes and how it looks."""

    output: Path | None
    """A new file, or None for standard output."""
    format: str
    """Name from reports.REPORTS."""
    force: bool
    """Overwrite the file."""
    quiet: bool
    """Show no progress bar."""
    resume: bool = False
    """Go on with the file where an earlier scan was stopped, if it is there."""
    selection: Selection = field(default_factory=Selection)
    """Which rows are written, and in which order."""
    watch: bool = False
    """Go on with files that arrive later, until an interrupt."""

    @property
    def resumable(self) -> bool:
        """Whether a scan that is stopped can go on: rows that stand alone, in a file."""
        return self.output is not None and self.format == "jsonl" and self.selection.is_all


def report_scan(
    paths: Sequence[Source], search: Search, models: Sequence[Model], settings: ScanSettings, target: Target
) -> Summary:
    """Scan, and write each row as soon as it is known. Returns the totals; never where it is to watch.

    Raises UsageError where there is no image at all, ModelError for models that cannot
    be fused, OutputError for a report that cannot be written.
    """
    check_verdicts("--only", target.selection.only, check_labels(models))
    summary = Summary.empty()
    arriving = _watched(paths, search) if target.watch else None
    files = _images(paths, search, summary)
    first = next(files, None)
    if first is None and arriving is None:
        raise UsageError(_nothing_found(paths, summary.left_out))
    header = replace(run_header(models, settings), search=search.record(), selection=target.selection.record())
    kept = _kept(target, header, files if first is None else chain([first], files), summary)
    # Before the output is opened: a format whose package is missing leaves no file
    report = make_report(target.format, target.output is None and wants_colour(), target.quiet)
    unfinished = worth_unfinished(target.format)
    with Output(target.output, target.force or target.resume, kept.length, unfinished) as out:
        # Rows on a terminal are progress enough, and a bar would run through them
        quiet = target.quiet or out.is_terminal
        total = None if quiet or LISTED in paths else _count(paths, search) - kept.rows
        if kept.length and target.output and isinstance(report, Resumable):
            report.go_on(kept_lines(target.output, kept.length))
        else:
            out.write(report.begin(header))
        judge = partial(scan, models=models, settings=settings, seen=kept.seen)
        rows = track(judge(kept.files), "scanning", total, quiet)
        try:
            found = rows if arriving is None else _and_arriving(rows, arriving, judge)
            for result in target.selection.apply(_added(summary, found)):
                out.write(report.row(result))
            out.write(report.end(summary))
        except KeyboardInterrupt as interrupt:
            if target.watch:
                out.write(report.end(summary))
            elif target.resumable:
                note("To go on, give the same command with --resume")
            raise KeyboardInterrupt(unfinished) from interrupt
    return summary


def _nothing_found(paths: Sequence[Source], left_out: int) -> str:
    places = ", ".join("the list on standard input" if path is LISTED else str(path) for path in paths)
    return f"no images found in {places} ({left_out} other entries left out); give a folder with images"


def _added(summary: Summary, results: Iterable[FileResult]) -> Iterator[FileResult]:
    """Yield the results, each one counted, whether it will be shown or not."""
    for result in results:
        summary.add(result)
        yield result


def _watched(paths: Sequence[Source], search: Search) -> Iterator[list[Path]]:
    """Watch folders from now on: what arrives while they are searched is not missed."""
    arriving = arrivals([path for path in paths if isinstance(path, Path)], search)
    next(arriving)
    return arriving


def _and_arriving(
    rows: Iterator[FileResult],
    arriving: Iterator[list[Path]],
    judge: Callable[[Sequence[Path]], Iterator[FileResult]],
) -> Iterator[FileResult]:
    """Yield rows, and then those of files that arrive; a file that is found again as it was has none."""
    last = LastRows()
    yield from filter(last.is_news, rows)
    note("Waiting for new and changed files; Ctrl-C ends")
    for files in filter(None, arriving):
        yield from filter(last.is_news, judge(files))


def _kept(target: Target, header: RunHeader, files: Iterator[Path], summary: Summary) -> Kept:
    """Return what stays of the target's file; nothing unless it is to be resumed."""
    if not target.resume:
        return Kept(0, files, 0, Seen.nothing(header.dedupe))
    if not target.selection.is_all:
        raise UsageError(
            "--resume needs the rows of all files in their order; leave out --sort, --only and --min-confidence"
        )
    if target.output is None or not target.resumable:
        raise UsageError("--resume goes on with JSON Lines in a file; add --output FILE.jsonl")
    kept = keep_rows(target.output, header, files, summary)
    if kept.length:
        refuse_broken_seal(target.output)
    if kept.rows:
        note(f"{target.output}: {kept.rows} rows are kept")
    return kept


def _images(paths: Sequence[Source], search: Search, summary: Summary) -> Iterator[Path]:
    for found in discover(paths, search):
        if isinstance(found, LeftOut):
            summary.left_out += 1
        else:
            yield found


def _count(paths: Sequence[Source], search: Search) -> int:
    return sum(1 for _ in _images(paths, search, Summary.empty()))
