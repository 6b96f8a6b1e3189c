"""The model card: everything a network needs besides its weights, as JSON inside the ONNX file."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

from forensic_cli.errors import ModelError

CARD_KEY = "genforensic"
"""Key of the card in the ONNX file's metadata_props; where a file has several techniques, `genforensic.TECHNIQUE`."""
CARD_VERSION = 2
REAL = "real"
"""The label of photographs and of everything else that no generator made."""
UNKNOWN = "unknown"
"""The label of images by generators that are not to be named, and the verdict for an image that only it explains."""
INCONCLUSIVE = "inconclusive"
"""Verdict where the evidence carries neither a name nor `real`."""
GENERATED, UNDECIDED = "generated", "undecided"
"""Headlines beside `real`."""
ANY_STATE = "any"
"""The one state of a network that does not ask for a picture's state."""
NEVER = 2.0
"""A threshold that no probability reaches."""
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
    align: int = 1
    """Patches begin at multiples of this many pixels: 8 keeps the blocks of a JPEG where they are."""

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "patches"):
            raise ValueError(f"preprocessing mode is {self.mode!r}; allowed: whole, patches")
        if not (8 <= self.size <= 4096 and 1 <= self.grid <= 16 and 1 <= self.align <= 64):
            raise ValueError(f"preprocessing size {self.size}, grid {self.grid} or align {self.align} is out of range")


@dataclass(frozen=True)
class LikelihoodRatio:
    """How a calibrated probability becomes a log10 likelihood ratio of one statement against another."""

    slope: float
    """Of the natural log likelihood ratio over the natural log odds of the probability; not negative."""
    intercept: float
    """Natural log likelihood ratio at a probability of one half."""
    lower: float
    """Least log10 ratio that the validation images support, at most 0 (ELUB, Vergeer et al. 2016)."""
    upper: float
    """Greatest log10 ratio that they support, at least 0."""
    images_for: int = 0
    """Validation images of which the first statement is true."""
    images_against: int = 0
    """Validation images of which the other one is."""
    groups: int = 0
    """Sources that were left out in turn to measure the costs."""
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
class Decision:
    """How an image's logits become an answer, for pictures in one state; every number comes from left-out sources.

    Two questions, one after the other: is the picture generated, and by which generator. The score of the first is
    logsumexp(logits of the generators) - logit of `real`, made a probability by logistic regression at equal odds
    (Platt 1999); the second is a softmax over the generators at a temperature (Guo et al. 2017).
    """

    slope: float = 1.0
    """Of the natural log odds of "generated" over the score; above 0."""
    intercept: float = 0.0
    """Natural log odds of "generated" at a score of 0."""
    temperature: float = 1.0
    """Divisor of the generators' logits, above 0."""
    generated_from: float = NEVER
    """Probability of "generated" from which on the headline says so; NEVER: it does not."""
    real_to: float = -NEVER
    """Probability of "generated" up to which the headline is `real`; -NEVER: it is not."""
    name_from: float = NEVER
    """Probability of a generator among the generators from which on the verdict names it; NEVER: none is named."""
    names_from: Mapping[str, float] = field(default_factory=dict)
    """{generator: a probability of its own in place of `name_from`}."""
    shortlist: float = 0.9
    """Probability among the generators that the candidates have together, 0 to 1."""
    farthest: float | None = None
    """Distance from the training images beyond which nothing is said of a picture; None: no limit."""
    generated: LikelihoodRatio | None = None
    """Of "generated" against `real`; None: not validated, or no better than silence."""
    ratios: Mapping[str, LikelihoodRatio] = field(default_factory=dict)
    """{generator: its ratio against the other known generators}, for those whose ratios are better than silence."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """Figures on sources that chose none of these numbers; see forensic_train.decide."""

    def __post_init__(self) -> None:
        numbers = [self.slope, self.intercept, self.temperature, self.generated_from, self.real_to, self.name_from]
        numbers += self.names_from.values()
        numbers += [self.shortlist, 0.0 if self.farthest is None else self.farthest]
        if not (all(math.isfinite(number) for number in numbers) and self.slope > 0 and 0 < self.temperature < 1e4):
            raise ValueError("a decision needs a slope and a temperature above 0, and finite numbers")
        if self.real_to > self.generated_from:
            raise ValueError(f"real up to {self.real_to} and generated from {self.generated_from} overlap")

    def reaches(self, distance: float) -> bool:
        """Tell whether a picture at this distance from training is near enough to be answered for."""
        return self.farthest is None or distance <= self.farthest

    def least_of(self, label: str) -> float:
        """Return from which probability among the generators on a generator is named."""
        return self.names_from.get(label, self.name_from)

    @property
    def names_in_words(self) -> str:
        """From which probabilities on generators are named, such as "dalle2 0.61, flux 0.80"; "never"."""
        reached = {label: least for label, least in self.names_from.items() if least < NEVER}
        own = [f"{label} {least:.2f}" for label, least in sorted(reached.items())]
        others = [f"{'others ' if own else ''}{self.name_from:.2f}"] if self.name_from < NEVER else []
        return ", ".join(own + others) or "never"

    @property
    def is_silent(self) -> bool:
        """Whether every picture in the state stays undecided."""
        names = min((self.name_from, *self.names_from.values()))
        return self.generated_from >= NEVER and self.real_to <= -NEVER and names >= NEVER

    @classmethod
    def from_record(cls, raw: Mapping[str, Any]) -> Self:
        """Read what `asdict` wrote. Raises ValueError or TypeError for anything else."""
        generated, measured = raw.get("generated"), raw.get("measured", {})
        if not isinstance(measured, dict):
            raise TypeError("measured is not an object")
        ratios = {str(label): LikelihoodRatio(**ratio) for label, ratio in raw.get("ratios", {}).items()}
        whole = None if generated is None else LikelihoodRatio(**generated)
        return cls(**{**raw, "generated": whole, "ratios": ratios})


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
    states: tuple[str, ...] = (ANY_STATE,)
    """Names of the states that the network has weights for, in the order of its input `state`; `any`: it asks none."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """{state: how its logits become an answer}, or one for `any`; a state without one is never answered for."""
    validation: str = ""
    """Which images the decisions were measured on: one plain sentence, or nothing."""
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
        if not self.states:
            raise ValueError("a network knows one state or more")
        unknown = set(self.decisions) - {*self.states, ANY_STATE}
        if unknown:
            raise ValueError(f"decisions for states that the network does not know: {', '.join(sorted(unknown))}")
        for decision in self.decisions.values():
            if not set(decision.ratios) <= set(self.generators):
                raise ValueError("a likelihood ratio of what is no generator among the labels")
            if decision.generated is not None and REAL not in self.labels:
                raise ValueError(f"a likelihood ratio against {REAL!r}, which is none of the labels")

    @property
    def generators(self) -> tuple[str, ...]:
        """The labels that an answer may name besides `real`, in logit order."""
        return tuple(label for label in self.labels if label not in (REAL, UNKNOWN))

    def decision(self, state: str) -> Decision | None:
        """Return how a picture in a state is answered for; None: nothing can be said of it."""
        return self.decisions.get(state, self.decisions.get(ANY_STATE))

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
            known["states"] = tuple(str(name) for name in raw.get("states", (ANY_STATE,)))
            known["decisions"] = {str(k): Decision.from_record(v) for k, v in raw.get("decisions", {}).items()}
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


def output_names(technique: str, techniques: int) -> tuple[str, str]:
    """Return the graph's outputs with a technique's logits and distances in a file with so many techniques."""
    return ("logits", "distance") if techniques == 1 else (f"logits.{technique}", f"distance.{technique}")
