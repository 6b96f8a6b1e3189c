"""Stability: an image is judged again under re-encodings; what does not survive them is left open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from forensic_cli.card import REAL
from forensic_cli.ensemble import GENERATED, INCONCLUSIVE, UNDECIDED, strength_of
from forensic_cli.model import Sample
from forensic_cli.pipeline import Prepared
from forensic_cli.results import Stability, Verdict

Judge: TypeAlias = Callable[[Sequence[tuple[Sample, bool]]], list[Verdict]]
"""Images, and whether training had pictures of their kind -> one verdict an image, in their order."""


def with_stability(verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    """Add what the same image's verdicts under re-encodings ({name: verdict}) say of its own verdict.

    The raw label, its confidence and its scores stay. Where any re-encoding has another raw label, the verdict
    becomes `inconclusive`; where `real` and the generators change sides, the headline becomes `undecided`. A lower
    confidence alone changes nothing but the range.
    """
    confidences = [verdict.confidence, *(other.scores[verdict.label] for other in others.values())]
    flips = {name: other.label for name, other in others.items() if other.label != verdict.label}
    flips |= {name: _side(other) for name, other in others.items() if name not in flips and _turned(verdict, other)}
    stability = Stability(min(confidences), max(confidences), flips, tuple(others))
    if not flips:
        return replace(verdict, stability=stability)
    headline = UNDECIDED if any(_turned(verdict, other) for other in others.values()) else verdict.headline
    survives = headline == verdict.headline and {*flips.values()} <= {*verdict.candidates}
    return replace(
        verdict,
        headline=headline,
        verdict=INCONCLUSIVE,
        strength=strength_of(headline, INCONCLUSIVE, verdict.log10_lr),
        candidates=verdict.candidates if survives else (),
        stability=stability,
    )


def _side(verdict: Verdict) -> str:
    """Return which of the two is more probable, `real` or "generated", whatever the thresholds."""
    return REAL if verdict.scores.get(REAL, 0.0) > 0.5 else GENERATED


def _turned(verdict: Verdict, other: Verdict) -> bool:
    return _side(verdict) != _side(other)


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
