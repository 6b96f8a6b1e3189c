"""From prepared files to rows: what the models measure becomes a verdict, and a verdict and a file become a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forensic_cli.card import Decision, Preprocessing
from forensic_cli.exports import check_labels
from forensic_cli.images.header import OTHER_COMPRESSION, SILENT_STATE, UNJUDGED, UNLIKE_TRAINING, state_of
from forensic_cli.images.history import in_words
from forensic_cli.model import Evidence, Model, Sample, judge_samples
from forensic_cli.pipeline import Prepared
from forensic_cli.provenance import CONFLICT, disagrees
from forensic_cli.record import FileResult, Verdict, printable
from forensic_cli.verdict import decide, probabilities, with_stability


@dataclass(frozen=True)
class Judgement:
    """What the models say about one image."""

    verdict: Verdict
    """Their answer."""
    warnings: frozenset[str]
    """Names from images.header.WARNINGS: why they give none."""


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
        readable = [file for file in files if file.sample is not None]
        judgements = self._judge([(file.sample, file) for file in readable if file.sample])
        others = self._under_reencodings(readable) if self.stability else [None] * len(readable)
        judged = iter(zip(judgements, others, strict=True))
        return [_row(file, *(next(judged) if file.sample else (None, None))) for file in files]

    def _under_reencodings(self, files: Sequence[Prepared]) -> list[dict[str, Verdict]]:
        """Return each file's verdicts {re-encoding: verdict}; every re-encoding is a batch of its own."""
        verdicts: list[dict[str, Verdict]] = [{} for _ in files]
        for name in dict.fromkeys(name for file in files for name in file.variants):
            having = [i for i, file in enumerate(files) if name in file.variants]
            judgements = self._judge([(files[i].variants[name], None) for i in having])
            for i, judgement in zip(having, judgements, strict=True):
                verdicts[i][name] = judgement.verdict
        return verdicts

    def _judge(self, images: Sequence[tuple[Sample, Prepared | None]]) -> list[Judgement]:
        """Judge images; a file beside one says by its warnings whether training had pictures of that kind."""
        if not images:
            return []
        measured = judge_samples(self.models, self.preprocessings, [sample for sample, _ in images])
        return [
            self._decide(i, sample.state, file is None or UNJUDGED.isdisjoint(file.warnings), measured)
            for i, (sample, file) in enumerate(images)
        ]

    def _decide(self, place: int, state: str, was_trained_on: bool, measured: Sequence[Evidence]) -> Judgement:
        by_technique, decisions = {}, {}
        warnings = set()
        for model, evidence in zip(self.models, measured, strict=True):
            card, decision = model.card, model.card.decision(state)
            row = probabilities(card, decision or Decision(), evidence.logits[place : place + 1])[0]
            by_technique[card.technique] = np.asarray(row[[card.labels.index(label) for label in self.labels]])
            if decision is None:
                warnings.add(OTHER_COMPRESSION)
            elif not decision.reaches(float(evidence.distances[place])):
                warnings.add(UNLIKE_TRAINING)
            decisions[card.technique] = decision
        answering: Mapping[str, Decision | None] = decisions
        if warnings or not was_trained_on:
            answering = dict.fromkeys(decisions)
        verdict = decide(self.labels, by_technique, answering, self.fusion, self.threshold)
        if any(decision is not None and decision.is_silent for decision in decisions.values()):
            warnings.add(SILENT_STATE)
        return Judgement(verdict, frozenset(warnings))


def _row(file: Prepared, judgement: Judgement | None, reencoded: Mapping[str, Verdict] | None) -> FileResult:
    header, failure = file.header, file.failure
    verdict = judgement.verdict if judgement else None
    warnings = {*file.warnings, *(judgement.warnings if judgement else ())}
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
