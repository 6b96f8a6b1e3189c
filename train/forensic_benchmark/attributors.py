"""Attributors of the benchmark: techniques trained on some of its images, and how they are measured."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from forensic_benchmark.checkpoints import THIRD_SEED
from forensic_benchmark.generators.families import SWAPPED
from forensic_benchmark.images import Images, read_images
from forensic_benchmark.recipes import BENCHMARK_RECIPES
from forensic_benchmark.samples import copies, write_softened
from forensic_benchmark.spectra import radial_spectrum
from forensic_cli.images.history import blur
from forensic_cli.model import Logits, Model, softmax
from forensic_train.evaluate import infer, measure, targets_of
from forensic_train.fit import FitOptions
from forensic_train.manifest import write_rows
from forensic_train.openset import auroc, oscr
from forensic_train.recipes import RECIPES
from forensic_train.robustness import card_robustness, robustness
from forensic_train.rows import Row
from forensic_train.run import write_json
from forensic_train.seeds import generator_for
from forensic_train.splits import SplitShares
from forensic_train.training import train
from forensic_train.training_plan import TrainOptions

SETS = ("seen", "unseen", "separate")
"""Tiers on which every attributor is measured: T0, T1 and T2."""
STRANGERS = ("outsider", "real")
"""Tiers of images that no label fits: T4."""
REENCODINGS = ("jpeg90", "jpeg75", "resize0.75", "blur")
"""Re-encodings of the images of T2: T3."""
_DATA_WORDS = {"two": "two checkpoints", "shuffled": "shuffled labels", "soft": "low-passed"}
RESULT_FILE = "result.json"
_HELD_BACK = 0.1
"""Share of the training images kept for calibration, as in a random split."""
_BLURS = np.arange(0.0, 2.01, 0.05)

Tiers = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Attributor:
    """Techniques that are trained one after another on the same images."""

    recipe: str
    """Name in RECIPES or BENCHMARK_RECIPES."""
    techniques: tuple[str, ...]
    """Names in TECHNIQUES."""
    seed: int
    """Seed of the training."""
    data: str = "plain"
    """`plain`; `two`: half the training images from a second checkpoint of each generator; `shuffled`: labels permuted;
    `soft`: every generator low-passed to the softest."""
    settings: tuple[tuple[str, str], ...] = ()
    """Overrides of the techniques' settings."""

    @property
    def label(self) -> str:
        """What is trained, in words."""
        words = ["stable"] if ("stable", "true") in self.settings else []
        words += [_DATA_WORDS[self.data]] if self.data != "plain" else []
        return ", ".join([f"{self.recipe} {'+'.join(self.techniques)}", *words, f"seed {self.seed}"])

    def folder(self, output: Path) -> Path:
        """Return its folder below the output of the benchmark."""
        named = "-".join([self.data, *(f"{key}={value}" for key, value in self.settings if key != "epochs")])
        return output / "runs" / self.recipe / f"{named}-{self.seed}"


def run_attributor(one: Attributor, tiers: Tiers, output: Path) -> None:
    """Train, export and measure; writes the result next to the run, and does nothing if it exists already."""
    folder = one.folder(output)
    if is_finished(one, output):
        return
    RECIPES.update(BENCHMARK_RECIPES)
    chosen = _tiers_of(one, tiers, output)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.csv"
    adapt = [replace(row, split="adapt") for row in chosen["adapt"]]
    write_rows(manifest, [*(replace(row, split="train") for row in chosen["train"]), *adapt, *chosen["seen"]])
    found = {}
    for technique in one.techniques:
        options = TrainOptions(
            technique,
            manifest,
            folder,
            one.recipe,
            one.seed,
            "cpu",
            overrides=dict(one.settings),
            fit=FitOptions(resume=True),
            shares=SplitShares(val=_HELD_BACK),
        )
        exports = train(options, evaluated=False)
        found[technique] = measure_attributor(Model.load(exports / f"{one.recipe}-{technique}.onnx"), chosen)
    write_json(folder / RESULT_FILE, found)


def is_finished(one: Attributor, output: Path) -> bool:
    """Tell whether run_attributor() has written its result."""
    return (one.folder(output) / RESULT_FILE).exists()


def read_result(one: Attributor, output: Path) -> dict[str, Any]:
    """Return the result of run_attributor(): {technique: figures}."""
    return dict(json.loads((one.folder(output) / RESULT_FILE).read_text(encoding="utf-8")))


def write_soft_tiers(tiers: Tiers, output: Path) -> None:
    """Write the images of `soft` attributors that OUTPUT does not have."""
    soft = _soft_tiers(tiers, output)
    pairs = [pair for name, chosen in soft.items() for pair in zip(tiers[name], chosen, strict=True)]
    lacking = [(row, copy) for row, copy in pairs if not copy.path.exists()]
    if lacking:
        blurs = blurs_to_softest(tiers["train"])
        for row, copy in lacking:
            write_softened(row, copy, blurs[row.generator])


def _tiers_of(one: Attributor, tiers: Tiers, output: Path) -> Tiers:
    """Return the tiers for an attributor."""
    if one.data == "two":
        return {**tiers, "train": [*tiers["train"][::2], *tiers["second"]]}
    if one.data == "shuffled":
        return {**tiers, "train": _shuffled(tiers["train"], one.seed)}
    return {**tiers, **_soft_tiers(tiers, output)} if one.data == "soft" else tiers


def _soft_tiers(tiers: Tiers, output: Path) -> dict[str, Sequence[Row]]:
    return {name: copies(tiers[name], output / "images" / "soft" / name) for name in ("train", "adapt", *SETS)}


def measure_attributor(model: Model, tiers: Tiers) -> dict[str, Any]:
    """Measure an export on every tier, and on the part of `separate` that no attributor was trained on (`third`)."""
    logits = {name: infer(model, tiers[name])[0] for name in (*SETS, *STRANGERS, "swapped")}
    metrics = {name: asdict(measure(model.card, tiers[name], softmax(logits[name]))) for name in SETS}
    third = [i for i, row in enumerate(tiers["separate"]) if row.source.endswith(f"-{THIRD_SEED}")]
    rows = [tiers["separate"][i] for i in third]
    metrics["third"] = asdict(measure(model.card, rows, softmax(logits["separate"][third])))
    points = robustness(model, tiers["separate"], REENCODINGS)
    strangers = {name: _open_set(model, logits["separate"], tiers["separate"], logits[name]) for name in STRANGERS}
    return {
        "labels": model.card.labels,
        "metrics": metrics,
        "reencoded": card_robustness(points),
        "open_set": strangers,
        "swapped": {name: _swapped(model, tiers["swapped"], logits["swapped"], name) for name in SWAPPED.values()},
    }


def _swapped(model: Model, rows: Sequence[Row], logits: Logits, generator: str) -> dict[str, int]:
    """Count the images of a generator by the label that they got."""
    mine = [i for i, row in enumerate(rows) if row.generator == generator]
    return dict(Counter(model.card.labels[k] for k in logits[mine].argmax(axis=1)))


def blurs_to_softest(rows: Sequence[Row]) -> dict[str, float]:
    """Return the Gaussian width (pixels) by which each generator gets as few high frequencies as the softest one."""
    images = {name: read_images([row for row in rows if row.generator == name]) for name in {r.generator for r in rows}}
    softest = min(_top_power(one) for one in images.values())
    widths = {}
    for name, pixels in sorted(images.items()):
        widths[name] = float(next((width for width in _BLURS if _reaches(pixels, softest, width)), _BLURS[-1]))
    return widths


def _reaches(pixels: Images, wanted: float, width: float) -> bool:
    changed = pixels if width == 0 else np.stack([blur(one, float(width)) for one in pixels])
    return _top_power(changed) <= wanted * 1.05


def _top_power(images: Images) -> float:
    spectrum = radial_spectrum(images)
    return float(spectrum[2 * len(spectrum) // 3 :].mean())


def _shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    order = generator_for("shuffled labels", seed).permutation(len(rows))
    return [replace(row, generator=rows[int(k)].generator) for row, k in zip(rows, order, strict=True)]


def _open_set(model: Model, known: Logits, rows: Sequence[Row], strange: Logits) -> dict[str, float]:
    """Return AUROC and OSCR of the confidence between images of known generators and others."""
    inside, outside = softmax(known), softmax(strange)
    right = inside.argmax(axis=1) == targets_of(model.card, rows)
    scores = inside.max(axis=1), outside.max(axis=1)
    return {"auroc": auroc(*scores), "oscr": oscr(scores[0], right, scores[1])}
