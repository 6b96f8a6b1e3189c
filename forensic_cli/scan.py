"""scan(): files -> prepared views -> models -> ensemble -> evidence records. The whole flow on one screen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import platform, python_version
from typing import Any, TypeAlias

import cv2
import numpy as np
import onnxruntime as ort
import PIL

from forensic_cli import __version__
from forensic_cli.card import GENERATED, NEVER, Decision, Preprocessing
from forensic_cli.copies import Found, Seen, perceptual_hash
from forensic_cli.exports import check_labels
from forensic_cli.images.decode import MAX_PIXELS
from forensic_cli.images.header import OTHER_COMPRESSION, SILENT_STATE, UNJUDGED, UNLIKE_TRAINING, state_of
from forensic_cli.images.history import in_words
from forensic_cli.model import Evidence, Model, Sample, images_at_once, judge_samples
from forensic_cli.pipeline import Prepared, Reading, work_on
from forensic_cli.provenance import CONFLICT, disagrees
from forensic_cli.record import FileResult, RunHeader, Verdict, printable
from forensic_cli.verdict import decide, probabilities, with_stability

Judge: TypeAlias = Callable[[Sequence[tuple[Sample, bool]]], list[Verdict]]
"""Images, and whether training had pictures of their kind -> one verdict an image, in their order."""


@dataclass(frozen=True)
class ScanSettings:
    """How to judge, apart from the models."""

    fusion: str = "mean"
    """Name from ensemble.FUSIONS; without effect on one model."""
    threshold: float | None = None
    """Probability among the generators from which on one is named; None: the highest of the models' own."""
    batch_size: int = 0
    """Images that go through a model at once; 0: what suits the models' devices (model.images_at_once)."""
    workers: int = 0
    """Threads, each of which reads and judges its own images; 0: one a core."""
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
    judge = partial(_judge, models=models, labels=labels, settings=settings)
    work = partial(_found, judge=judge, stable=bool(settings.reencodings))
    for found in work_on(files, reading, work, seen.originals):
        yield from map(seen.row, found)


def _found(batch: Sequence[Prepared], judge: Judge, stable: bool) -> list[Found]:
    good = [item for item in batch if item.failure is None and not item.is_copy]
    judged = judge([(item.sample, UNJUDGED.isdisjoint(item.warnings)) for item in good if item.sample])
    verdicts = iter(stable_verdicts(good, judged, judge) if stable else judged)
    return [
        Found(printable(item.path), item.original, None if item.is_copy else _result(item, verdicts)) for item in batch
    ]


def run_header(models: Sequence[Model], settings: ScanSettings) -> RunHeader:
    """Describe what is about to judge the files."""
    return RunHeader(
        version=__version__,
        models=tuple(
            {
                "name": model.card.name,
                "technique": model.card.technique,
                "recipe": model.card.recipe,
                "labels": list(model.card.labels),
                "file": printable(Path(model.path.name)),
                "sha256": model.sha256,
                "validation": model.card.validation,
                "decisions": {state: _decision_record(decision) for state, decision in model.card.decisions.items()},
            }
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
        "simplejpeg": _installed("simplejpeg"),
        "pillow-heif": _installed("pillow-heif"),
        "c2pa": _installed("c2pa-python"),
    }


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _decision_record(decision: Decision) -> dict[str, Any]:
    """Return what an answer hung on; a threshold that is never reached is None."""
    thresholds = {name: getattr(decision, name) for name in ("generated_from", "real_to", "name_from")}
    ratios = dict(decision.ratios) | ({GENERATED: decision.generated} if decision.generated else {})
    return {
        **{name: None if abs(value) >= NEVER else value for name, value in thresholds.items()},
        "names_from": {label: None if least >= NEVER else least for label, least in decision.names_from.items()},
        "farthest": decision.farthest,
        "log10_lr_bounds": {label: [ratio.lower, ratio.upper] for label, ratio in ratios.items()},
    }


def _judge(
    images: Sequence[tuple[Sample, bool]], models: Sequence[Model], labels: tuple[str, ...], settings: ScanSettings
) -> list[Verdict]:
    """Judge images, each with whether training had pictures of its kind."""
    if not images:
        return []
    samples = [sample for sample, _ in images]
    measured = judge_samples(models, _preprocessings(models), samples)
    return [
        _decide(i, sample.state, trained_on, measured, models, labels, settings)
        for i, (sample, trained_on) in enumerate(images)
    ]


def _decide(
    place: int,
    state: str,
    trained_on: bool,
    measured: Sequence[Evidence],
    models: Sequence[Model],
    labels: tuple[str, ...],
    settings: ScanSettings,
) -> Verdict:
    by_technique, decisions = {}, {}
    warnings = set()
    for model, evidence in zip(models, measured, strict=True):
        card, decision = model.card, model.card.decision(state)
        row = probabilities(card, decision or Decision(), evidence.logits[place : place + 1])[0]
        by_technique[card.technique] = np.asarray(row[[card.labels.index(label) for label in labels]])
        if decision is None:
            warnings.add(OTHER_COMPRESSION)
        elif not decision.reaches(float(evidence.distances[place])):
            warnings.add(UNLIKE_TRAINING)
        decisions[card.technique] = decision
    answered_for = decisions if trained_on and not warnings else dict.fromkeys(decisions)
    verdict = decide(labels, by_technique, answered_for, settings.fusion, settings.threshold)
    if any(decision is not None and decision.is_silent for decision in decisions.values()):
        warnings.add(SILENT_STATE)
    return replace(verdict, warnings=tuple(sorted(warnings)))


def _preprocessings(models: Sequence[Model]) -> tuple[Preprocessing, ...]:
    return tuple(dict.fromkeys(model.card.preprocessing for model in models))


def _result(item: Prepared, verdicts: Iterator[Verdict]) -> FileResult:
    """Return a file's row; takes the next verdict where it was judged."""
    header = item.header
    verdict = None if item.failure else next(verdicts)
    conflict = [CONFLICT] if verdict and disagrees(item.metadata, verdict.headline) else []
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
        state=in_words(state_of(header).text, item.traces) if header and verdict else None,
        views=len(item.sample.views[0]) if item.sample else 0,
        warnings=tuple(sorted({*item.warnings, *conflict, *(verdict.warnings if verdict else ())})),
        phash=None if item.fingerprint is None else f"{item.fingerprint:016x}",
        metadata=item.metadata,
    )


def stable_verdicts(images: Sequence[Prepared], verdicts: Sequence[Verdict], judge: Judge) -> list[Verdict]:
    """Judge the re-encodings of readable images, and add to each verdict how it holds.

    Each re-encoding is a batch of its own, no larger than that of the originals.
    """
    others: list[dict[str, Verdict]] = [{} for _ in images]
    for name in dict.fromkeys(name for image in images for name in image.variants):
        places = [i for i, image in enumerate(images) if name in image.variants]
        for i, other in zip(places, judge([(images[i].variants[name], True) for i in places]), strict=True):
            others[i][name] = other
    return [with_stability(verdict, found) for verdict, found in zip(verdicts, others, strict=True)]
