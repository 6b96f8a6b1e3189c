"""The model card: everything a network needs besides its weights, as JSON inside the ONNX file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

from forensic_cli.errors import ModelError

CARD_KEY = "genforensic"
"""Key of the card in the ONNX file's metadata_props."""
CARD_VERSION = 1

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
            for name in ("name", "technique", "recipe", "created", "genforensic"):
                if not isinstance(known.get(name, ""), str):
                    raise TypeError(f"{name} is not text")
            for name in ("data", "sources", "metrics", "robustness", "training"):
                if not isinstance(known.get(name, {}), dict):
                    raise TypeError(f"{name} is not an object")
            return cls(**known)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = " ".join(str(error).split())
            raise ModelError(f"the model card cannot be read ({type(error).__name__}: {what})") from error
