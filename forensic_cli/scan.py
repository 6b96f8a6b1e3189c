"""scan(): files -> prepared views -> models -> ensemble -> evidence records. The whole flow on one screen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort

from forensic_cli import __version__
from forensic_cli.ensemble import decide
from forensic_cli.errors import UsageError
from forensic_cli.exports import check_labels
from forensic_cli.model import Model
from forensic_cli.pipeline import Prepared, batches, default_workers, ordered_map, prepare
from forensic_cli.preprocess import MAX_PIXELS, Views
from forensic_cli.results import FileResult, RunHeader, Verdict, printable
from forensic_cli.stability import stable_verdicts


@dataclass(frozen=True)
class ScanSettings:
    """How to judge, apart from the models."""

    fusion: str = "mean"
    """Name from ensemble.FUSIONS; without effect on one model."""
    threshold: float | None = None
    """Confidence below which a verdict is `inconclusive`; None: the highest of the models' own."""
    batch_size: int = 64
    """Views that go through a model at once."""
    workers: int = 0
    """Decoding threads; 0: one a core."""
    coverage: float | None = None
    """Level of the conformal sets; None: the highest of the models' own defaults."""
    reencodings: tuple[str, ...] = ()
    """Names from reencode.REENCODINGS that each image is judged under, too; a flip makes it `inconclusive`."""
    max_pixels: int = MAX_PIXELS
    """Images with more are `too_large`, judged by their header."""


def scan(files: Iterable[Path], models: Sequence[Model], settings: ScanSettings) -> Iterator[FileResult]:
    """Judge files with one or more models of the same labels; yields a record a file, in the files' order.

    Raises ModelError when the models' labels differ. A bad file is a record with a status, never an exception.
    """
    labels = check_labels(models)
    wanted = list(dict.fromkeys(model.card.preprocessing for model in models))
    workers = settings.workers or default_workers()
    # Two batches ahead keep the models busy; each image waits as views, not as pixels, and re-encodings count as images
    ahead = 2 * settings.batch_size // (1 + len(settings.reencodings)) + workers
    reading = partial(prepare, wanted=wanted, reencodings=settings.reencodings, max_pixels=settings.max_pixels)
    prepared = ordered_map(reading, files, workers, ahead)
    decision = partial(
        decide,
        labels,
        fusion=settings.fusion,
        threshold=effective_threshold(models, settings.threshold),
        cards={model.card.technique: model.card for model in models},
        level=effective_level(models, settings.coverage),
    )
    judge = partial(_judge, models=models, labels=labels, decision=decision)
    for batch in batches(prepared, settings.batch_size):
        good = [item for item in batch if item.failure is None]
        judged = judge([item.views for item in good])
        verdicts = iter(stable_verdicts(good, judged, judge) if settings.reencodings else judged)
        for item in batch:
            yield _result(item, next(verdicts) if item.failure is None else None)


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
        batch_size=settings.batch_size,
        max_pixels=settings.max_pixels,
        exports=tuple(model.path for model in models),
    )


def _judge(
    images: Sequence[tuple[Views, ...]],
    models: Sequence[Model],
    labels: tuple[str, ...],
    decision: Callable[..., Verdict],
) -> list[Verdict]:
    """Judge images, each given as its views for every different preprocessing of the models."""
    if not images:
        return []
    wanted = list(dict.fromkeys(model.card.preprocessing for model in models))
    by_technique = {}
    for model in models:
        place = wanted.index(model.card.preprocessing)
        probabilities = model.probabilities(model.image_logits([views[place] for views in images]))
        order = [model.card.labels.index(label) for label in labels]
        by_technique[model.card.technique] = np.asarray(probabilities[:, order])
    return [decision({name: rows[i] for name, rows in by_technique.items()}) for i in range(len(images))]


def _result(item: Prepared, verdict: Verdict | None) -> FileResult:
    header = item.header
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
        warnings=item.warnings,
    )
