"""The model card: everything a network needs besides its weights, as JSON inside the ONNX file."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

import msgspec

from forensic_cli.errors import ModelError

CARD_KEY = "genforensic"
"""Key of the card in the ONNX file's metadata_props; `genforensic.TECHNIQUE` where a file has several techniques."""
CARD_VERSION = 2
REAL = "real"
"""The label of photographs and of everything else that was not made by a generator."""
UNKNOWN = "unknown"
"""The label of images from generators without a name of their own, and the verdict where it fits best."""
INCONCLUSIVE = "inconclusive"
"""The verdict where the evidence supports neither a generator nor `real`."""
GENERATED, UNDECIDED = "generated", "undecided"
"""The headlines other than `real`."""
ANY_STATE = "any"
"""The only state of a network that treats images in every state alike."""
NEVER = 2.0
"""A threshold that no probability reaches."""
LEAST_PROBABILITY = 1e-9
"""Probabilities are clipped to this distance from 0 and 1, so that their log odds are finite."""

Counts: TypeAlias = Mapping[str, Mapping[str, int]]
"""Images per cell: {generator: {subject: images}}."""


@dataclass(frozen=True)
class Preprocessing:
    """How one image becomes views; see `images.views`."""

    mode: Literal["whole", "patches"]
    """whole: one view, the resized image. patches: cut out at native resolution, never resized."""
    size: int
    """Side of a square view, in pixels."""
    grid: int = 1
    """Maximum number of patches along each side of the image; 1 for `whole`."""
    align: int = 1
    """Patches start at multiples of this many pixels; 8 keeps them on the block grid of a JPEG."""

    def __post_init__(self) -> None:
        if not (8 <= self.size <= 4096 and 1 <= self.grid <= 16 and 1 <= self.align <= 64):
            raise ValueError(f"preprocessing size {self.size}, grid {self.grid} or align {self.align} is out of range")


@dataclass(frozen=True)
class LikelihoodRatio:
    """Turns a calibrated probability into a log10 likelihood ratio for one hypothesis against another."""

    slope: float
    """Slope of the natural log likelihood ratio over the log odds of the probability; 0 or more."""
    intercept: float
    """Natural log likelihood ratio at a probability of 0.5."""
    lower: float
    """Lowest log10 ratio that the validation images support, 0 or less (ELUB, Vergeer et al. 2016)."""
    upper: float
    """Highest log10 ratio that they support, 0 or more."""
    images_for: int = 0
    """Validation images for which the first hypothesis is true."""
    images_against: int = 0
    """Validation images for which the second hypothesis is true."""
    groups: int = 0
    """Sources that were held out in turn to measure the costs below."""
    cllr: float | None = None
    """Log-likelihood-ratio cost in bits on the held-out images: 0 is perfect, 1 is uninformative."""
    cllr_min: float | None = None
    """The part of `cllr` that remains after perfect calibration."""
    cllr_cal: float | None = None
    """The rest of `cllr`: the loss due to imperfect calibration."""

    def __post_init__(self) -> None:
        numbers = (self.slope, self.intercept, self.lower, self.upper)
        if not all(math.isfinite(number) for number in numbers) or self.slope < 0:
            raise ValueError("a likelihood ratio needs finite numbers and a slope of 0 or more")
        if not self.lower <= 0 <= self.upper:
            raise ValueError(f"the bounds of a likelihood ratio must enclose 0, not {self.lower} to {self.upper}")

    def log10(self, probability: float) -> float:
        """Return the bounded log10 likelihood ratio at a calibrated probability."""
        p = min(max(probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
        ratio = (self.slope * math.log(p / (1 - p)) + self.intercept) / math.log(10)
        return min(max(ratio, self.lower), self.upper)


@dataclass(frozen=True)
class Decision:
    """How logits become an answer for images in one state; every number was fitted on held-out sources.

    It answers two questions in turn: was the image generated, and if so by which generator? For the first, the score
    logsumexp(generator logits) - logit of `real` becomes a probability by logistic regression at equal prior odds
    (Platt 1999). For the second, the generator logits pass through a softmax with a temperature (Guo et al. 2017).
    """

    slope: float = 1.0
    """Slope of the natural log odds of "generated" over the score; above 0."""
    intercept: float = 0.0
    """Natural log odds of "generated" at a score of 0."""
    temperature: float = 1.0
    """Divisor of the generator logits; above 0."""
    generated_from: float = NEVER
    """The headline is `generated` from this probability of "generated" upwards; NEVER disables it."""
    real_to: float = -NEVER
    """The headline is `real` up to this probability of "generated"; -NEVER disables it."""
    name_from: float = NEVER
    """The verdict names a generator from this probability among the generators upwards; NEVER disables it."""
    names_from: Mapping[str, float] = field(default_factory=dict)
    """{generator: its own threshold, instead of `name_from`}."""
    shortlist: float = 0.9
    """Total probability among the generators that the list of candidates must cover, 0 to 1."""
    farthest: float | None = None
    """Images farther than this from the training images get no answer; None: no limit."""
    generated: LikelihoodRatio | None = None
    """Likelihood ratio of "generated" against `real`; None: not validated, or uninformative."""
    ratios: Mapping[str, LikelihoodRatio] = field(default_factory=dict)
    """{generator: its ratio against the other known generators}, where that ratio is informative."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Results on sources that were not used to fit these numbers; see forensic_train.decide."""

    def __post_init__(self) -> None:
        numbers = [self.slope, self.intercept, self.temperature, self.generated_from, self.real_to, self.name_from]
        numbers += self.names_from.values()
        numbers += [self.shortlist, 0.0 if self.farthest is None else self.farthest]
        if not (all(math.isfinite(number) for number in numbers) and self.slope > 0 and 0 < self.temperature < 1e4):
            raise ValueError("a decision needs finite numbers, and a slope and a temperature above 0")
        if self.real_to > self.generated_from:
            raise ValueError(f"real up to {self.real_to} and generated from {self.generated_from} overlap")

    def reaches(self, distance: float) -> bool:
        """Tell whether an image at this distance from the training images can be answered for."""
        return self.farthest is None or distance <= self.farthest

    def least_of(self, label: str) -> float:
        """Return the probability among the generators from which a generator is named."""
        return self.names_from.get(label, self.name_from)

    @property
    def names_in_words(self) -> str:
        """The thresholds for naming generators, such as "dalle2 0.61, flux 0.80", or "never"."""
        reached = {label: least for label, least in self.names_from.items() if least < NEVER}
        own = [f"{label} {least:.2f}" for label, least in sorted(reached.items())]
        others = [f"{'others ' if own else ''}{self.name_from:.2f}"] if self.name_from < NEVER else []
        return ", ".join(own + others) or "never"

    @property
    def is_silent(self) -> bool:
        """Whether every image in the state stays undecided."""
        names = min((self.name_from, *self.names_from.values()))
        return self.generated_from >= NEVER and self.real_to <= -NEVER and names >= NEVER


@dataclass(frozen=True)
class ModelCard:
    """What an export says of itself."""

    name: str
    """RECIPE-TECHNIQUE, such as native-baseline; unique within a folder of exports."""
    technique: str
    """How it was trained: baseline, weighted, finetune, adversarial, ..."""
    recipe: str
    """Network, views and augmentation: paper, native, ..."""
    labels: tuple[str, ...]
    """The label of each logit, in order. Label order is stored nowhere else."""
    preprocessing: Preprocessing
    """How its views are made."""
    states: tuple[str, ...] = (ANY_STATE,)
    """The states that the network has weights for, in the order of its input `state`; or `any` alone."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """{state, or `any`: how its logits become an answer}. Images in a state without a decision get no answer."""
    validation: str = ""
    """The images that the decisions were measured on, in one plain sentence, or empty."""
    data: Counts = field(default_factory=dict)
    """Training images per cell."""
    sources: Counts = field(default_factory=dict)
    """Training images per source: {source: {generator: images}}."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """{image set: what `evaluate` measured on it}."""
    robustness: Mapping[str, Any] = field(default_factory=dict)
    """{`original` or a re-encoding: {accuracy, macro_recall, images}} on the test set; empty if not measured."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Everything needed to train the weights again: settings, seed, device, versions, hash of the split."""
    precision: Mapping[str, Any] = field(default_factory=dict)
    """How a reduced-precision export compares with float32: {precision, same_label, accuracy, ...}; else empty."""
    limits: tuple[str, ...] = ()
    """Known limitations, one sentence each."""
    created: str = ""
    """When it was exported: UTC, ISO 8601."""
    genforensic: str = ""
    """The version of genforensic that wrote the card."""
    card_version: int = CARD_VERSION
    """The version of this format."""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels must be two or more different names, not {list(self.labels)}")
        if not self.states:
            raise ValueError("a network needs at least one state")
        unknown = set(self.decisions) - {*self.states, ANY_STATE}
        if unknown:
            raise ValueError(f"decisions for unknown states: {', '.join(sorted(unknown))}")
        for decision in self.decisions.values():
            if not set(decision.ratios) <= set(self.generators):
                raise ValueError("a likelihood ratio for something that is not one of the generators")
            if decision.generated is not None and REAL not in self.labels:
                raise ValueError(f"a likelihood ratio against {REAL!r}, which is not one of the labels")

    @property
    def generators(self) -> tuple[str, ...]:
        """The labels that are names of generators, in logit order."""
        return tuple(label for label in self.labels if label not in (REAL, UNKNOWN))

    def decision(self, state: str) -> Decision | None:
        """Return the decision for images in a state; None if they cannot be answered for."""
        return self.decisions.get(state, self.decisions.get(ANY_STATE))

    def to_json(self) -> str:
        """Return the card as JSON text."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a card back. Raises ModelError for anything that is not a card of this version."""
        try:
            raw = json.loads(text)
            version = raw.get("card_version") if isinstance(raw, dict) else None
            if version != CARD_VERSION:
                raise ModelError(
                    f"the model card has version {version!r}, but this genforensic reads version {CARD_VERSION}: "
                    "export the run again with `genforensic export`"
                )
            card = msgspec.convert(raw, cls)
            for part, kind in _parts(raw):
                if unknown := part.keys() - {field.name for field in fields(kind)}:
                    raise ValueError(f"unknown {kind.__name__} fields: {', '.join(sorted(unknown))}")
        except (ValueError, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ModelError(f"the model card cannot be read ({reason})") from error
        return card


def _parts(raw: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], type]]:
    """Yield the parts of a valid card whose unknown fields are refused: a later field there may change every answer."""
    yield raw["preprocessing"], Preprocessing
    for decision in raw.get("decisions", {}).values():
        yield decision, Decision
        ratios = [*decision.get("ratios", {}).values(), decision.get("generated") or {}]
        yield from ((ratio, LikelihoodRatio) for ratio in ratios)


def card_key(technique: str, techniques: int) -> str:
    """Return the metadata key of a technique's card; `techniques`: how many are in the file."""
    return CARD_KEY if techniques == 1 else f"{CARD_KEY}.{technique}"


def output_names(technique: str, techniques: int) -> tuple[str, str]:
    """Return the names of a technique's outputs, logits and distances; `techniques`: how many are in the file."""
    return ("logits", "distance") if techniques == 1 else (f"logits.{technique}", f"distance.{technique}")
