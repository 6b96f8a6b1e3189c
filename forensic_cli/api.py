"""The Python API: a scanner that keeps its models, for notebooks, services and other programs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

from forensic_cli.discover import Search, sources
from forensic_cli.errors import UsageError
from forensic_cli.exports import export_files, peek_exports, select
from forensic_cli.model import load_models
from forensic_cli.objects import location
from forensic_cli.pipeline import prepare_bytes
from forensic_cli.record import FileResult, RunHeader, Summary
from forensic_cli.scan import ScanSettings, find_images, how_to_judge, run_header, scan
from forensic_cli.verdict import FUSIONS

DEVICES = ("auto", "cpu", "cuda")


class Scanner:
    """Judges images with models that are loaded once. Its methods may be called from several threads.

    Rows are those of `genforensic scan`; a bad image is a row with a status, never an exception.
    """

    def __init__(
        self,
        techniques: Sequence[str] = (),
        *,
        exports: Path | None = None,
        recipe: str | None = None,
        device: str = "auto",
        fusion: str = "mean",
        threshold: float | None = None,
        workers: int = 0,
    ) -> None:
        """Load the models; the arguments are the options of `genforensic scan`.

        `techniques`: names, or `all`; none: the default one. `device`: auto, cpu or cuda. `fusion`: mean or vote.
        `workers`: threads of one scan; 0: one a core. Raises ModelError without usable exports, and UsageError for
        names that no export has.
        """
        for name, value, allowed in (("device", device, DEVICES), ("fusion", fusion, tuple(FUSIONS))):
            if value not in allowed:
                raise UsageError(f"{name} {value!r} is not known; allowed: {', '.join(allowed)}")
        chosen = select(peek_exports(export_files(exports)), techniques, recipe)
        self._models = load_models(chosen, device)
        self._settings = ScanSettings(fusion, threshold, workers=workers)

    @cached_property
    def header(self) -> RunHeader:
        """What judges: models with their hashes, versions, settings. Keep it beside the rows."""
        return run_header(self._models, self._settings)

    def scan(self, paths: Iterable[str | os.PathLike[str]], search: Search | None = None) -> Iterator[FileResult]:
        """Yield a row for each image at or below paths or URLs of object stores, as soon as it is known, in order.

        Raises UsageError at once for a path that does not exist.
        """
        found = sources([os.fspath(path) for path in paths])
        return scan(find_images(found, search or Search(), Summary()), self._models, self._settings)

    def judge(self, data: bytes, name: str = "image") -> FileResult:
        """Return the row of an image in memory, such as an upload; `name` becomes its path, for the reader."""
        judge, reading = how_to_judge(self._models, self._settings)
        return judge.rows([prepare_bytes(location(name), data, reading)])[0]


def scan_files(paths: Iterable[str | os.PathLike[str]], techniques: Sequence[str] = ()) -> Iterator[FileResult]:
    """Judge images with the models that ship; see Scanner for everything else."""
    return Scanner(techniques).scan(paths)
