"""scan(): files -> prepared views -> models -> ensemble -> evidence records. The whole flow on one screen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version

import cv2
import numpy as np
import onnxruntime as ort
import PIL

from forensic_cli import __version__
from forensic_cli.card import Preprocessing
from forensic_cli.duplicates import Found, Seen
from forensic_cli.ensemble import decide
from forensic_cli.errors import UsageError
from forensic_cli.exports import check_labels
from forensic_cli.findings import perceptual_hash
from forensic_cli.metadata import CONFLICT, disagrees
from forensic_cli.model import Model, image_logits, images_at_once
from forensic_cli.pipeline import Prepared, Reading, work_on
from forensic_cli.preprocess import MAX_PIXELS, Views
from forensic_cli.results import FileResult, RunHeader, Verdict, printable
from forensic_cli.stability import Judge, stable_verdicts


@dataclass(frozen=True)
class ScanSettings:
    """How to judge, apart from the models."""

    fusion: str = "mean"
    """Name from ensemble.FUSIONS; without effect on one model."""
    threshold: float | None = None
    """Confidence below which a verdict is `inconclusive`; None: the highest of the models' own."""
    batch_size: int = 0
    """Images that go through a model at once; 0: what suits the models' devices (model.images_at_once)."""
    workers: int = 0
    """Threads, each of which reads and judges its own images; 0: one a core."""
    coverage: float | None = None
    """Level of the conformal sets; None: the highest of the models' own defaults."""
    reencodings: tuple[str, ...] = ()
    """Names from reencode.REENCODINGS that each image is judged under, too; a flip makes it `inconclusive`."""
    max_pixels: int = MAX_PIXELS
    """Images with more are `too_large`, judged by their header."""
    dedupe: int | None = None
    """Bits in which the perceptual hashes of near-duplicates may differ; None: no search for them."""
    command: tuple[str, ...] = ()
    """The command line, for the record."""


def scan(
    files: Iterable[Path], models: Sequence[Model], settings: ScanSettings, seen: Seen | None = None
) -> Iterator[FileResult]:
    """Judge files with one or more models of the same labels; yields a record a file, in the files' order.

    `seen`: what is known of files before these. A file with the bytes of one that is known has its record.
    Raises ModelError when the models' labels differ. A bad file is a record with a status, never an exception.
    """
    seen = seen or Seen.nothing(settings.dedupe)
    labels = check_labels(models)
    reading = Reading(
        wanted=_preprocessings(models),
        reencodings=settings.reencodings,
        max_pixels=settings.max_pixels,
        batch_size=settings.batch_size or images_at_once(models),
        workers=settings.workers,
        fingerprint=None if settings.dedupe is None else perceptual_hash,
    )
    decision = partial(
        decide,
        labels,
        fusion=settings.fusion,
        threshold=effective_threshold(models, settings.threshold),
        cards={model.card.technique: model.card for model in models},
        level=effective_level(models, settings.coverage),
    )
    judge = partial(_judge, models=models, labels=labels, decision=decision)
    work = partial(_found, judge=judge, stable=bool(settings.reencodings))
    for found in work_on(files, reading, work, seen.originals):
        yield from map(seen.row, found)


def _found(batch: Sequence[Prepared], judge: Judge, stable: bool) -> list[Found]:
    good = [item for item in batch if item.failure is None and not item.is_copy]
    judged = judge([item.views for item in good])
    verdicts = iter(stable_verdicts(good, judged, judge) if stable else judged)
    return [
        Found(printable(item.path), item.original, None if item.is_copy else _result(item, verdicts)) for item in batch
    ]


def effective_threshold(models: Sequence[Model], option: float | None) -> float:
    """Return the threshold that a scan applies: the user's, else the strictest of the models' own."""
    return option if option is not None else max(model.card.threshold for model in models)


def effective_level(models: Sequence[Model], option: float | None) -> str | None:
    """Return the coverage level that a scan applies: the user's, else the highest of the models' defaults.

    None: no model has sets. Raises UsageError for a level that a model does not store.
    """
    with_sets = [(model.card.name, model.card.sets) for model in models if model.card.sets]
    if option is not None and len(with_sets) < len(models):
        bare = next(model.card.name for model in models if not model.card.sets)
        raise UsageError(
            f"--coverage needs prediction sets, and {bare} has none; leave it out, or export the run again "
            "with `genforensic export`"
        )
    if not with_sets:
        return None
    wanted = option if option is not None else max(float(sets.default) for _, sets in with_sets)
    for name, sets in with_sets:
        if wanted not in map(float, sets.quantiles):
            raise UsageError(
                f"--coverage {wanted:g} is not a level of {name}; allowed: {', '.join(sorted(sets.quantiles))}"
            )
    return next(level for level in with_sets[0][1].quantiles if float(level) == wanted)


def run_header(models: Sequence[Model], settings: ScanSettings) -> RunHeader:
    """Describe what is about to judge the files."""
    level = effective_level(models, settings.coverage)
    return RunHeader(
        version=__version__,
        models=tuple(
            {
                "name": model.card.name,
                "technique": model.card.technique,
                "recipe": model.card.recipe,
                "labels": list(model.card.labels),
                "temperature": model.card.calibration.temperature,
                "file": printable(Path(model.path.name)),
                "sha256": model.sha256,
                "validation": model.card.validation,
                "log10_lr_bounds": {
                    label: [one.lower, one.upper] for label, one in model.card.likelihood_ratios.items()
                },
            }
            for model in models
        ),
        providers=tuple(model.provider for model in models),
        onnxruntime=ort.__version__,
        ensemble=settings.fusion if len(models) > 1 else None,
        threshold=effective_threshold(models, settings.threshold),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        coverage=float(level) if level else None,
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
        "simplejpeg": _installed("simplejpeg"),
        "pillow-heif": _installed("pillow-heif"),
        "c2pa": _installed("c2pa-python"),
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _judge(
    images: Sequence[tuple[Views, ...]],
    models: Sequence[Model],
    labels: tuple[str, ...],
    decision: Callable[..., Verdict],
) -> list[Verdict]:
    """Judge images, each given as its views for every different preprocessing of the models."""
    if not images:
        return []
    by_technique = {}
    for model, logits in zip(models, image_logits(models, _preprocessings(models), images), strict=True):
        order = [model.card.labels.index(label) for label in labels]
        by_technique[model.card.technique] = np.asarray(model.probabilities(logits)[:, order])
    return [decision({name: rows[i] for name, rows in by_technique.items()}) for i in range(len(images))]


def _preprocessings(models: Sequence[Model]) -> tuple[Preprocessing, ...]:
    return tuple(dict.fromkeys(model.card.preprocessing for model in models))


def _result(item: Prepared, verdicts: Iterator[Verdict]) -> FileResult:
    """Return a file's row; takes the next verdict where it was judged."""
    header = item.header
    verdict = None if item.failure else next(verdicts)
    conflict = [CONFLICT] if verdict and disagrees(item.metadata, verdict.verdict) else []
    return FileResult(
        path=printable(item.path),
        status=item.failure.status if item.failure else "ok",
        reason=item.failure.reason if item.failure else None,
        verdict=verdict,
        sha256=item.sha256,
        bytes=item.size,
        format=header.format if header else None,
        width=header.width if header else None,
        height=header.height if header else None,
        views=len(item.views[0]) if item.views else 0,
        warnings=tuple(sorted({*item.warnings, *conflict})),
        phash=None if item.fingerprint is None else f"{item.fingerprint:016x}",
        metadata=item.metadata,
    )
