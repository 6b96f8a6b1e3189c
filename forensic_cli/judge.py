"""From prepared files to rows: what the models measure becomes a verdict, a verdict and a file become a row.

Rows are marked as copies and near-duplicates of earlier ones in the order of the files, where they leave the scan, so
that the marks do not depend on threads.
"""

from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from PIL import Image

from forensic_cli.card import Decision, Preprocessing
from forensic_cli.errors import require
from forensic_cli.exports import check_labels
from forensic_cli.images.header import OTHER_COMPRESSION, SILENT_STATE, UNJUDGED, UNLIKE_TRAINING, Pixels, state_of
from forensic_cli.images.history import in_words
from forensic_cli.model import Evidence, Model, Sample, judge_samples
from forensic_cli.pipeline import Prepared
from forensic_cli.provenance import CONFLICT, disagrees
from forensic_cli.record import FileResult, Verdict, printable
from forensic_cli.verdict import decide, probabilities, with_stability

Judgement: TypeAlias = tuple[Verdict, set[str]]
"""What the models say about one image, and warnings (images.header.WARNINGS) that say why they give no answer."""


@dataclass(frozen=True)
class Judge:
    """One or more techniques with the same labels, and how their answers are fused."""

    models: Sequence[Model]
    """In the order of the report."""
    fusion: str = "mean"
    """Name from verdict.FUSIONS."""
    threshold: float | None = None
    """Probability among the generators from which one is named; None: the models' own."""
    stability: bool = False
    """Whether to judge the files' re-encodings as well."""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels that all models share. Raises ModelError if they differ."""
        return check_labels(self.models)

    @cached_property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """Each different preprocessing that the models want."""
        return tuple(dict.fromkeys(model.card.preprocessing for model in self.models))

    def rows(self, files: Sequence[Prepared]) -> list[FileResult]:
        """Return the row of each file; those that can be judged go through the models together."""
        readable = [file for file in files if file.sample]
        judgements = self._judge([(file.sample, file.warnings) for file in readable if file.sample])
        others = self._under_reencodings(readable) if self.stability else [None] * len(readable)
        judged = iter(zip(judgements, others, strict=True))
        return [make_row(file, *(next(judged) if file.sample else (None, None))) for file in files]

    def _under_reencodings(self, files: Sequence[Prepared]) -> list[dict[str, Verdict]]:
        """Return each file's verdicts {re-encoding: verdict}; every re-encoding is a batch of its own."""
        verdicts: list[dict[str, Verdict]] = [{} for _ in files]
        for name in dict.fromkeys(name for file in files for name in file.variants):
            having = [i for i, file in enumerate(files) if name in file.variants]
            judgements = self._judge([(files[i].variants[name], ()) for i in having])
            for i, (verdict, _) in zip(having, judgements, strict=True):
                verdicts[i][name] = verdict
        return verdicts

    def _judge(self, images: Sequence[tuple[Sample, Sequence[str]]]) -> list[Judgement]:
        """Judge images; the warnings beside each one tell whether training had pictures of that kind."""
        if not images:
            return []
        measured = judge_samples(self.models, self.preprocessings, [sample for sample, _ in images])
        return [
            self._decide(i, sample.state, UNJUDGED.isdisjoint(warnings), measured)
            for i, (sample, warnings) in enumerate(images)
        ]

    def _decide(self, place: int, state: str, was_trained_on: bool, measured: Sequence[Evidence]) -> Judgement:
        warnings: set[str] = set()
        by_technique, decisions = {}, {}
        for model, evidence in zip(self.models, measured, strict=True):
            card, decision = model.card, model.card.decision(state)
            row = probabilities(card, decision or Decision(), evidence.logits[place : place + 1])[0]
            by_technique[card.technique] = np.asarray(row[[card.labels.index(label) for label in self.labels]])
            if decision is None:
                warnings.add(OTHER_COMPRESSION)
            elif not decision.reaches(float(evidence.distances[place])):
                warnings.add(UNLIKE_TRAINING)
            decisions[card.technique] = decision
        is_answered_for = was_trained_on and not warnings
        answering = decisions if is_answered_for else dict.fromkeys(decisions)
        verdict = decide(self.labels, by_technique, answering, self.fusion, self.threshold)
        if any(decision is not None and decision.is_silent for decision in decisions.values()):
            warnings.add(SILENT_STATE)
        return verdict, warnings


def make_row(
    file: Prepared, judgement: Judgement | None = None, reencoded: Mapping[str, Verdict] | None = None
) -> FileResult:
    """Return the row of a file; without a judgement it says why there is none."""
    header, failure = file.header, file.failure
    verdict, reasons = judgement or (None, ())
    warnings = {*file.warnings, *reasons}
    if verdict and reencoded is not None:
        verdict = with_stability(verdict, reencoded)
    if verdict and disagrees(file.metadata, verdict.headline):
        warnings.add(CONFLICT)
    return FileResult(
        path=printable(file.path),
        status=failure.status if failure else "ok",
        reason=failure.reason if failure else None,
        verdict=verdict,
        state=in_words(state_of(header).text, file.traces) if header and verdict else None,
        sha256=file.sha256,
        bytes=file.size,
        format=header.format if header else None,
        width=header.width if header else None,
        height=header.height if header else None,
        views=len(file.sample.views[0]) if file.sample else 0,
        warnings=tuple(sorted(warnings)),
        phash=None if file.fingerprint is None else f"{file.fingerprint:016x}",
        metadata=file.metadata,
    )


DISTANCE = 4
"""Most bits of 64 by which the hashes of near-duplicates differ. On 205 images of the field corpus JPEG 50 to 95, WebP,
half to one and a half times the size, blur and a screenshot changed at most 2; most crops change more than 4."""
REMEMBERED = 1 << 16
"""Different contents that are remembered, the most recent ones; about 200 bytes each."""


def dedupe_distance() -> int:
    """Return DISTANCE if --dedupe can work. Raises UsageError if its package is missing."""
    require(("imagehash", "scipy.fftpack"), "dedupe", "--dedupe")
    return DISTANCE


def perceptual_hash(pixels: Pixels) -> int:
    """Return the 64-bit DCT hash (ImageHash's phash) of an image's brightness. Plain images all have the same."""
    import imagehash

    bits = imagehash.phash(Image.fromarray(pixels)).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


Marks: TypeAlias = tuple[str | None, int | None]
"""A row's `duplicate_of` and `cluster`."""


def marked(row: FileResult, duplicate_of: str | None, cluster: int | None) -> FileResult:
    """Return a row with these marks."""
    if (duplicate_of, cluster) == (row.duplicate_of, row.cluster):
        return row
    return replace(row, duplicate_of=duplicate_of, cluster=cluster)


class Seen:
    """What a scan remembers of earlier rows; a resumed scan passes the rows that stay through it as well."""

    def __init__(self, distance: int | None = None) -> None:
        """`distance`: most differing bits between near-duplicates; None: do not look for any."""
        self._first_paths: OrderedDict[str, str] = OrderedDict()
        self._clusters = None if distance is None else Clusters(distance)

    def mark(self, row: FileResult) -> FileResult:
        """Return a row with `duplicate_of` and `cluster`, and remember it."""
        return marked(row, *self.marks(row.path, row.sha256, row.phash))

    def marks(self, path: str, sha256: str | None, phash: str | None) -> Marks:
        """Return a row's `duplicate_of` and `cluster`, and remember it."""
        duplicate_of = None if sha256 is None else self._original(sha256, path)
        cluster = None
        if self._clusters is not None and phash is not None:
            cluster = self._clusters.number(int(phash, 16))
        return duplicate_of, cluster

    def _original(self, sha256: str, path: str) -> str | None:
        """Return the first path with the same content; None if it is this one."""
        first = self._first_paths.setdefault(sha256, path)
        self._first_paths.move_to_end(sha256)
        if len(self._first_paths) > REMEMBERED:
            self._first_paths.popitem(last=False)
        return None if first == path else first


class Clusters:
    """Numbers clusters of near-duplicates 1, 2, ...; an image joins the cluster of the first hash it is close to.

    Costs 12 bytes for each different hash, and a comparison with all of them: 0.2 ms for 300,000 hashes.
    """

    def __init__(self, distance: int = DISTANCE) -> None:
        self._distance, self._total = distance, 0
        self._hashes, self._numbers = array("Q"), array("I")

    def number(self, fingerprint: int) -> int:
        """Return the number of an image's cluster, a new one if its hash is close to none before."""
        distances = np.bitwise_count(np.asarray(self._hashes) ^ np.uint64(fingerprint))
        close = np.flatnonzero(distances <= self._distance)
        if close.size:
            number = self._numbers[int(close[0])]
        else:
            number = self._total = self._total + 1
        if not close.size or distances[close].min() > 0:
            self._hashes.append(fingerprint)
            self._numbers.append(number)
        return number
