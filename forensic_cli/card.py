"""The model card: everything a network needs besides its weights, as JSON inside the ONNX file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

from forensic_cli.errors import ModelError

CARD_KEY = "genforensic"
"""Key of the card in the ONNX file's metadata_props; where a file has several techniques, `genforensic.TECHNIQUE`."""
CARD_VERSION = 1
LEAST_PROBABILITY = 1e-9
"""Probabilities are kept this far from 0 and 1 before their log odds are taken."""

Counts: TypeAlias = Mapping[str, Mapping[str, int]]
"""Images per cell: {generator: {subject: images}}."""


@dataclass(frozen=True)
class Preprocessing:
    """How one image becomes views; `preprocess.views` is its only reader."""

    mode: Literal["whole", "patches"]
    """whole: the image resized to one view. patches: native resolution, never resized."""
    size: int
    """Side of a square view, in pixels."""
    grid: int = 1
    """Most patches along one side of the image; 1 for `whole`."""

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "patches"):
            raise ValueError(f"preprocessing mode is {self.mode!r}; allowed: whole, patches")
        if not (8 <= self.size <= 4096 and 1 <= self.grid <= 16):
            raise ValueError(f"preprocessing size {self.size} or grid {self.grid} is out of range")


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities: softmax(logits / temperature) (Guo et al. 2017)."""

    temperature: float = 1.0
    """Divisor of the logits, above 0."""
    images: int = 0
    """Images that the temperature was fitted on; 0: not calibrated."""
    ece_before: float | None = None
    """Expected calibration error on those images at temperature 1, 0 to 1 (15 bins)."""
    ece_after: float | None = None
    """The same at `temperature`."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < 1e4:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")


@dataclass(frozen=True)
class SetFigures:
    """What conformal sets of one level reached on groups of images that their quantiles were not taken from."""

    coverage: float
    """Share of images whose set holds their label, 0 to 1; each label counts the same."""
    worst_coverage: float
    """The same in the label and group where it is lowest, of those with enough images to say."""
    size: float
    """Mean number of labels in a set."""


@dataclass(frozen=True)
class ConformalSets:
    """Which labels an image may still have: class-conditional conformal sets (Vovk 2012).

    A label is in the set while its nonconformity, 1 - calibrated probability, is at most the label's quantile.
    The model's `unknown` label has no quantile and so is never in a set.
    """

    quantiles: Mapping[str, Mapping[str, float]]
    """{level: {label: largest nonconformity at which the label stays in}}; a level is text such as "0.90", the
    share of a label's images whose set holds it; 1.0 keeps the label in every set."""
    default: str = "0.90"
    """Level that a scan takes when none is asked for."""
    images: int = 0
    """Images that the quantiles were taken from."""
    note: str = ""
    """What those images are, in words."""
    measured: Mapping[str, SetFigures] = field(default_factory=dict)
    """{level: figures on left-out groups}; empty where there was one group only."""

    def __post_init__(self) -> None:
        if self.default not in self.quantiles:
            raise ValueError(f"the default coverage {self.default!r} is none of {list(self.quantiles)}")
        for level, by_label in self.quantiles.items():
            if not 0 < float(level) < 1:
                raise ValueError(f"coverage level {level!r} must lie between 0 and 1")
            if not all(0 <= quantile <= 1 for quantile in by_label.values()):
                raise ValueError(f"a quantile of coverage level {level} does not lie between 0 and 1")

    def members(self, probabilities: Mapping[str, float], level: str) -> tuple[str, ...]:
        """Return the labels of the set at a stored level, in the order of the calibrated `probabilities`."""
        quantiles = self.quantiles[level]
        return tuple(name for name, p in probabilities.items() if name in quantiles and 1 - p <= quantiles[name])

    @classmethod
    def from_record(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote. Raises ValueError or TypeError for anything else."""
        measured = {str(level): SetFigures(**figures) for level, figures in raw.get("measured", {}).items()}
        return cls(**{**raw, "measured": measured})


@dataclass(frozen=True)
class LikelihoodRatio:
    """How a label's calibrated probability becomes a log10 likelihood ratio of it against the other known labels."""

    slope: float
    """Of the natural log likelihood ratio over the natural log odds of the probability; not negative."""
    intercept: float
    """Natural log likelihood ratio at a probability of one half."""
    lower: float
    """Least log10 ratio that the validation images support, at most 0 (ELUB, Vergeer et al. 2016)."""
    upper: float
    """Greatest log10 ratio that they support, at least 0."""
    images_for: int = 0
    """Validation images of the label."""
    images_against: int = 0
    """Validation images of the other known labels."""
    groups: int = 0
    """Groups of images that were left out in turn to measure the costs; 0: parts drawn by chance."""
    cllr: float | None = None
    """Log-likelihood-ratio cost of the left-out images in bits; 0 is perfect, 1 is a ratio that says nothing."""
    cllr_min: float | None = None
    """The part of it that no calibration could mend."""
    cllr_cal: float | None = None
    """The rest: what imperfect calibration costs."""

    def __post_init__(self) -> None:
        numbers = (self.slope, self.intercept, self.lower, self.upper)
        if not all(math.isfinite(number) for number in numbers) or self.slope < 0:
            raise ValueError("a likelihood ratio needs a slope of 0 or more, and finite numbers")
        if not self.lower <= 0 <= self.upper:
            raise ValueError(f"the bounds of a likelihood ratio, {self.lower} and {self.upper}, do not enclose 0")

    def log10(self, probability: float) -> float:
        """Return the bounded log10 likelihood ratio at a calibrated probability."""
        p = min(max(probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
        ratio = (self.slope * math.log(p / (1 - p)) + self.intercept) / math.log(10)
        return min(max(ratio, self.lower), self.upper)


@dataclass(frozen=True)
class ModelCard:
    """What an export says of itself."""

    name: str
    """Unique within a folder of exports: recipe-technique, such as native-baseline."""
    technique: str
    """The way it was trained: baseline, weighted, finetune, adversarial, ..."""
    recipe: str
    """Network, views and augmentation: paper, native, ..."""
    labels: tuple[str, ...]
    """Label of each logit, in order. The only place where label order lives."""
    preprocessing: Preprocessing
    calibration: Calibration = Calibration()
    threshold: float = 0.5
    """Confidence below which the verdict is `inconclusive`, 0 to 1."""
    sets: ConformalSets | None = None
    """Labels that an image may still have; None: the threshold alone decides."""
    likelihood_ratios: Mapping[str, LikelihoodRatio] = field(default_factory=dict)
    """{label: its likelihood ratio against the other known labels}; empty: none was validated."""
    validation: str = ""
    """Which images calibration, sets and ratios were measured on: one plain sentence, or nothing."""
    data: Counts = field(default_factory=dict)
    """Images per cell that the weights were fitted on."""
    sources: Counts = field(default_factory=dict)
    """Images per source and generator that the weights were fitted on: {source: {generator: images}}."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """{name of the image set: what `evaluate` measured on it}."""
    robustness: Mapping[str, Any] = field(default_factory=dict)
    """{re-encoding, or `original`: {accuracy, macro_recall, images}} on the set `test`; empty: not measured."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings, seed, device, versions, hash of the split: what makes the weights again."""
    precision: Mapping[str, Any] = field(default_factory=dict)
    """How an export of reduced precision judges beside the float32 one: {precision, same_label, accuracy, ...}; empty:
    float32."""
    limits: tuple[str, ...] = ()
    """Known limits, one sentence each."""
    created: str = ""
    """UTC time of the export, ISO 8601."""
    genforensic: str = ""
    """Version that wrote the card."""
    card_version: int = CARD_VERSION

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be two or more different names, not {list(self.labels)}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it must lie between 0 and 1")

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card back. Raises ModelError for anything that is not a card of this version."""
        try:
            raw = json.loads(text)
            if raw.get("card_version") != CARD_VERSION:
                raise ModelError(
                    f"the model card has version {raw.get('card_version')!r}, this genforensic reads {CARD_VERSION}: "
                    "export the run again with `genforensic export`"
                )
            known = {name: raw[name] for name in (f.name for f in fields(cls)) if name in raw}
            known["labels"] = tuple(str(label) for label in raw["labels"])
            known["limits"] = tuple(raw.get("limits", ()))
            known["preprocessing"] = Preprocessing(**raw["preprocessing"])
            known["calibration"] = Calibration(**raw.get("calibration", {}))
            known["sets"] = ConformalSets.from_record(raw["sets"]) if raw.get("sets") is not None else None
            ratios = raw.get("likelihood_ratios", {})
            known["likelihood_ratios"] = {label: LikelihoodRatio(**one) for label, one in ratios.items()}
            for name in ("name", "technique", "recipe", "created", "genforensic", "validation"):
                if not isinstance(known.get(name, ""), str):
                    raise TypeError(f"{name} is not text")
            for name in ("data", "sources", "metrics", "robustness", "training", "precision"):
                if not isinstance(known.get(name, {}), dict):
                    raise TypeError(f"{name} is not an object")
            return cls(**known)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = " ".join(str(error).split())
            raise ModelError(f"the model card cannot be read ({type(error).__name__}: {what})") from error


def card_key(technique: str, techniques: int) -> str:
    """Return the key of a technique's card in a file with so many techniques."""
    return CARD_KEY if techniques == 1 else f"{CARD_KEY}.{technique}"


def output_name(technique: str, techniques: int) -> str:
    """Return the graph's output with a technique's logits in a file with so many techniques."""
    return "logits" if techniques == 1 else f"logits.{technique}"
