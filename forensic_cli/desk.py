"""From paths to a written report: joins discovery, scan, report format and output, with a progress bar beside them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from forensic_cli.console import note, track
from forensic_cli.discover import LISTED, LeftOut, Search, discover
from forensic_cli.errors import UsageError
from forensic_cli.exports import check_labels
from forensic_cli.model import Model
from forensic_cli.output import Output
from forensic_cli.reports import make_report
from forensic_cli.results import RunHeader, Summary
from forensic_cli.resume import Kept, keep_rows
from forensic_cli.scan import ScanSettings, effective_level, run_header, scan


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

    @property
    def resumable(self) -> bool:
        """Whether a scan that is stopped can go on: rows that stand alone, in a file."""
        return self.output is not None and self.format == "jsonl"


def report_scan(
    paths: Sequence[Path], search: Search, models: Sequence[Model], settings: ScanSettings, target: Target
) -> Summary:
    """Scan, and write each row as soon as it is known. Returns the totals.

    Raises UsageError where there is no image at all or no such coverage level, ModelError for models that cannot
    be fused, OutputError for a report that cannot be written.
    """
    check_labels(models)
    effective_level(models, settings.coverage)
    summary = Summary.empty()
    files = _images(paths, search, summary)
    first = next(files, None)
    if first is None:
        raise UsageError(
            f"no images found in {', '.join(map(str, paths))} ({summary.left_out} other entries left out); "
            "give a folder with images"
        )
    header = run_header(models, settings)
    kept = _kept(target, header, chain([first], files), summary)
    with Output(target.output, target.force or target.resume, kept.length) as out:
        # Rows on a terminal are progress enough, and a bar would run through them
        quiet = target.quiet or out.is_terminal
        total = None if quiet or LISTED in paths else _count(paths, search) - kept.rows
        report = make_report(target.format, out.is_terminal, target.quiet)
        if not kept.length:
            out.write(report.begin(header))
        try:
            for result in track(scan(kept.files, models, settings), "scanning", total, quiet):
                out.write(report.row(result))
                summary.add(result)
        except KeyboardInterrupt:
            if target.resumable:
                note("To go on, give the same command with --resume")
            raise
        out.write(report.end(summary))
    return summary


def _kept(target: Target, header: RunHeader, files: Iterator[Path], summary: Summary) -> Kept:
    """Return what stays of the target's file; nothing unless it is to be resumed."""
    if not target.resume:
        return Kept(0, files, 0)
    if target.output is None or not target.resumable:
        raise UsageError("--resume goes on with JSON Lines in a file; add --format jsonl --output FILE")
    kept = keep_rows(target.output, header, files, summary)
    if kept.rows:
        note(f"{target.output}: {kept.rows} rows are kept")
    return kept


def _images(paths: Sequence[Path], search: Search, summary: Summary) -> Iterator[Path]:
    for found in discover(paths, search):
        if isinstance(found, LeftOut):
            summary.left_out += 1
        else:
            yield found


def _count(paths: Sequence[Path], search: Search) -> int:
    return sum(1 for _ in _images(paths, search, Summary.empty()))
