"""From paths to a written report: joins discovery, scan, report format and output, with a progress bar beside them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from forensic_cli.console import track
from forensic_cli.discover import LeftOut, discover
from forensic_cli.errors import UsageError
from forensic_cli.exports import check_labels
from forensic_cli.model import Model
from forensic_cli.output import Output
from forensic_cli.reports import make_report
from forensic_cli.results import Summary
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


def report_scan(
    paths: Sequence[Path], recursive: bool, models: Sequence[Model], settings: ScanSettings, target: Target
) -> Summary:
    """Scan, and write each row as soon as it is known. Returns the totals.

    Raises UsageError where there is no image at all or no such coverage level, ModelError for models that cannot
    be fused, OutputError for a report that cannot be written.
    """
    check_labels(models)
    effective_level(models, settings.coverage)
    summary = Summary.empty()
    files = _images(paths, recursive, summary)
    first = next(files, None)
    if first is None:
        raise UsageError(
            f"no images found in {', '.join(map(str, paths))} ({summary.left_out} other entries left out); "
            "give a folder with images"
        )
    with Output(target.output, target.force) as out:
        # Rows on a terminal are progress enough, and a bar would run through them
        quiet = target.quiet or out.is_terminal
        total = None if quiet else _count(paths, recursive)
        report = make_report(target.format, colour=out.is_terminal)
        out.write(report.begin(run_header(models, settings)))
        for result in track(scan(chain([first], files), models, settings), "scanning", total, quiet):
            out.write(report.row(result))
            summary.add(result)
        out.write(report.end(summary))
    return summary


def _images(paths: Sequence[Path], recursive: bool, summary: Summary) -> Iterator[Path]:
    for found in discover(paths, recursive):
        if isinstance(found, LeftOut):
            summary.left_out += 1
        else:
            yield found


def _count(paths: Sequence[Path], recursive: bool) -> int:
    return sum(1 for _ in _images(paths, recursive, Summary.empty()))
