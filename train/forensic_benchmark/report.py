"""The benchmark's report: the paper's tables, tiers, controls and pictures, as Markdown with a JSON file beside it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group

from forensic_benchmark.attributors import REENCODINGS, STRANGERS, Attributor, Tiers, read_result
from forensic_benchmark.checkpoints import ALL_CHECKPOINTS, Checkpoint
from forensic_benchmark.experiment import PAPER_TECHNIQUES, Experiment
from forensic_benchmark.generators.families import PAPER_FAMILIES, SWAPPED
from forensic_benchmark.plots import draw_confusion, draw_radial_spectra, draw_residual_spectra
from forensic_benchmark.quality import BANDS
from forensic_benchmark.samples import FULL, scaled_counts
from forensic_train.card_markdown import markdown_table
from forensic_train.evaluation_report import plain_table

PUBLISHED = {"baseline": 0.49, "weighted": 0.49, "finetune": 0.91, "adversarial": 0.56}
"""Accuracy on the unseen subject. Source: PAPER, "Published results"."""
PAPER_RECIPE = "paper-32"
"""Recipe that stands for the paper's."""
REPORT_FILE = "report.md"
_JSON_FILE = "report.json"
_ACCURACIES = ("T0", "T1", "published", "T2")
_HARD = (*(f"T3 {name}" for name in REENCODINGS), "T4 generator", "T4 real")
_CLASS_HEADER = (
    "generator",
    *(f"{tier} {name}" for tier in ("T1", "T2") for name in ("precision", "recall", "F1", "n")),
)
_CHECKPOINTS = {"plain": 1, "two": 2}
"""Of each generator in the training images, by the data of an Attributor."""


@dataclass(frozen=True)
class Entry:
    """One line of the tables: a technique with a recipe on some data, over all seeds."""

    recipe: str
    """Name."""
    technique: str
    """Name; `adversarial (stable)` for the bounded variant."""
    data: str
    """Name as in Attributor."""
    results: tuple[Mapping[str, Any], ...]
    """As measure_attributor() gives them, one a seed."""

    def accuracies(self, *sets: str) -> list[float]:
        """Return a mean accuracy over sets for each seed."""
        return [float(np.mean([one["metrics"][name]["accuracy"] for name in sets])) for one in self.results]

    def confusion(self, name: str) -> np.ndarray:
        """Return images by true and predicted label, summed over the seeds."""
        return np.asarray(np.sum([one["metrics"][name]["confusion"] for one in self.results], axis=0))

    def recalls(self, name: str) -> list[float]:
        """Return the recall of each label, a mean over the seeds."""
        counts = self.confusion(name)
        return [float(recall) for recall in np.diag(counts) / counts.sum(axis=1)]


def collect(wanted: Sequence[Attributor], output: Path) -> list[Entry]:
    """Read all results, one entry for what differs in the seed alone."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for one in wanted:
        stable = dict(one.settings).get("stable") == "true"
        results = read_result(one, output)
        for technique in one.techniques:
            name = f"{technique} (stable)" if stable else technique
            found.setdefault((one.recipe, name, one.data), []).append(results[technique])
    return [Entry(*key, tuple(results)) for key, results in found.items()]


def report_tables(entries: Sequence[Entry]) -> Group:
    """Return the paper's tables for the terminal: each technique of its recipe, then all accuracies and the ranking."""
    plain = [one for one in entries if one.data == "plain"]
    paper = [one for one in plain if one.recipe == PAPER_RECIPE]
    accuracies: list[list[object]] = [
        [f"{one.recipe}: {one.technique}", place, *_accuracy_row(one)]
        for place, one in enumerate(_by_accuracy(plain), start=1)
    ]
    hard = [
        [f"{one.recipe}: {one.technique}", *(f"{np.mean(values):.3f}" for values in _hard_figures(one))]
        for one in plain
    ]
    return Group(
        *(plain_table(f"{one.recipe}: {one.technique}", _CLASS_HEADER, _class_rows(one)) for one in paper),
        plain_table("T2 re-encoded (T3), and told from strangers (T4, AUROC)", ["technique", *_HARD], hard),
        plain_table(
            "Ranking by accuracy on the unseen subject (T1), mean ± sd over the seeds",
            ["technique", "rank", *_ACCURACIES],
            accuracies,
        ),
    )


def _by_accuracy(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda one: -float(np.mean(one.accuracies("unseen"))))


def _class_rows(one: Entry) -> list[list[object]]:
    """Return a line a generator, and their mean: precision, recall, F1 and images of a seed, on T1, then on T2."""
    rows: list[list[object]] = [[name] for name in (*PAPER_FAMILIES, "macro average")]
    for tier in ("unseen", "separate"):
        support = one.confusion(tier).sum(axis=1) // len(one.results)
        images = [*map(int, support), int(support.sum())]
        for row, figures, count in zip(rows, _class_figures(one, tier), images, strict=True):
            row += [*(f"{value:.2f}" for value in figures), count]
    return rows


def write_report(
    entries: Sequence[Entry], tiers: Tiers, experiment: Experiment, about: Mapping[str, Any], folder: Path
) -> Path:
    """Write report.md, report.json and the pictures; returns the Markdown file."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_residual_spectra(tiers, folder / "residual-spectra.png")
    draw_radial_spectra(tiers, folder / "radial-spectra.png")
    parts = [
        "# Generator attribution with biased data, in a box",
        "\n".join(f"- {name}: {value}" for name, value in about.items()),
        *_summary(entries),
        *_steps(entries),
        *_controls(entries),
        *_swap(entries),
        *_paper_tables(entries, folder),
        *_generators(experiment),
    ]
    (folder / REPORT_FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    record = {"about": dict(about), "entries": [asdict(one) for one in entries]}
    (folder / _JSON_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder / REPORT_FILE


def _summary(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Summary"
    yield (
        "Accuracy, mean and standard deviation over the seeds of the attributors. T0: cells that training has. T1: "
        "the unseen subject, from the checkpoints that training images came from. **T2: the unseen subject from two "
        "checkpoints that were trained separately**, what a forensic user meets. T3: T2 re-encoded. T4: "
        "AUROC of the confidence, T2 against a seventh generator and against untouched scenes. Published: "
        "accuracy of the paper on its own unseen subject, whose images came from the generators trained on, as in T1. "
        "Chance is .167."
    )
    header = ["recipe", "technique", *(f"**{name}**" if name == "T2" else name for name in _ACCURACIES), *_HARD]
    rows = [
        [one.recipe, one.technique, *_accuracy_row(one), *map(_spread, _hard_figures(one))]
        for one in entries
        if one.data == "plain"
    ]
    yield markdown_table(header, rows)


def _accuracy_row(one: Entry) -> list[object]:
    published = PUBLISHED.get(one.technique) if one.recipe == PAPER_RECIPE else None
    row = [_spread(one.accuracies(name)) for name in ("seen", "unseen", "separate")]
    return [*row[:2], "" if published is None else f"{published:.2f}", row[2]]


def _hard_figures(one: Entry) -> list[list[float]]:
    """Return T3's accuracies and T4's AUROCs, each a list over the seeds."""
    values = [[result["reencoded"][name]["accuracy"] for result in one.results] for name in REENCODINGS]
    return [*values, *([result["open_set"][name]["auroc"] for result in one.results] for name in STRANGERS)]


def _steps(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Steps towards separately trained generators"
    yield (
        "T2 on the checkpoints of the third seed alone, which no attributor here was trained on. Checkpoints: of each "
        "generator in the training images; `2` has as many images as `1`, half of them from a second checkpoint."
    )
    rows: list[list[object]] = [
        [
            one.recipe,
            one.technique,
            _CHECKPOINTS[one.data],
            *(_spread(one.accuracies(name)) for name in ("unseen", "third")),
            *(f"{recall:.2f}" for recall in one.recalls("third")),
        ]
        for one in sorted(entries, key=lambda one: float(np.mean(one.accuracies("third"))))
        if one.data in _CHECKPOINTS
    ]
    yield markdown_table(["recipe", "technique", "checkpoints", "T1", "**T2, third seed**", *PAPER_FAMILIES], rows)


def _controls(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Controls"
    yield (
        "`shuffled`: training labels permuted; what is above chance would be a leak. `soft`: each generator low-passed "
        "to the softest one's highest frequencies; what falls was sharpness. A rule that knows the subject and nothing "
        f"else would reach {_subject_rule():.3f} on T0 and {1 / len(PAPER_FAMILIES):.3f} on T1 and T2."
    )
    rows: list[list[object]] = [
        [
            one.recipe,
            one.technique,
            one.data,
            *(_spread(one.accuracies(name)) for name in ("seen", "unseen", "separate")),
        ]
        for one in entries
        if one.technique == "baseline" and one.data in ("plain", "shuffled", "soft")
    ]
    yield markdown_table(["recipe", "technique", "images", "T0", "T1", "T2"], rows)


def _subject_rule() -> float:
    """Return what the most frequent generator of each subject in training gets right on T0."""
    counts = scaled_counts(FULL.training)
    subjects = {subject for row in counts.values() for subject in row}
    best = {subject: max(counts, key=lambda name: counts[name].get(subject, 0)) for subject in subjects}
    return float(np.mean([np.mean([best[s] == name for s in row]) for name, row in counts.items()]))


def _swap(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Does attribution follow the operation?"
    yield (
        "stylegan2 and lsgm were trained again with the nearest-neighbour up-sampling of guided_diffusion in place of "
        "the FIR filter and of the bilinear shortcut, nothing else changed, and their images of the unseen subject "
        "were attributed: share of each label, beside the shares of the genuine generator of the third seed."
    )
    chosen = [one for one in entries if one.data in _CHECKPOINTS and one.technique in ("baseline", "discriminant")]
    header = ["recipe", "technique", "checkpoints", "images", *PAPER_FAMILIES]
    for family, changed in SWAPPED.items():
        rows: list[list[object]] = []
        for one in chosen:
            for name, counts in ((family, _genuine(one, family)), (changed, _swapped(one, changed))):
                shares = [f"{share:.2f}" for share in counts / counts.sum()]
                rows.append([one.recipe, one.technique, _CHECKPOINTS[one.data], name, *shares])
        yield markdown_table(header, rows)


def _genuine(one: Entry, family: str) -> np.ndarray:
    return np.asarray(one.confusion("third")[list(one.results[0]["labels"]).index(family)])


def _swapped(one: Entry, changed: str) -> np.ndarray:
    labels = one.results[0]["labels"]
    counts = [[result["swapped"][changed].get(label, 0) for label in labels] for result in one.results]
    return np.asarray(np.sum(counts, axis=0))


def _paper_tables(entries: Sequence[Entry], folder: Path) -> Iterator[str]:
    yield "## The paper's tables"
    yield "Precision / recall / F1 for every generator on the unseen subject (T1), means over the seeds."
    header = ["recipe", "technique", *PAPER_FAMILIES, "macro"]
    chosen = [one for one in entries if one.data == "plain"]
    yield markdown_table(header, [[one.recipe, one.technique, *_classes(one, "unseen")] for one in chosen])
    yield "The same on T2."
    yield markdown_table(header, [[one.recipe, one.technique, *_classes(one, "separate")] for one in chosen])
    for one in chosen:
        if one.technique.split()[0] in PAPER_TECHNIQUES:
            name = f"confusion-{one.recipe}-{one.technique.replace(' (stable)', '-stable')}.png"
            draw_confusion(one, folder / name)
            yield f"![Confusion of {one.technique}, {one.recipe}, on T1 and T2]({name})"


def _classes(one: Entry, name: str) -> list[object]:
    """Return `precision / recall / F1` of every generator and of their mean, each a mean over the seeds."""
    return [" / ".join(f"{value:.2f}" for value in line) for line in _class_figures(one, name)]


def _class_figures(one: Entry, name: str) -> np.ndarray:
    """Return precision, recall and F1 of every generator and of their mean, each a mean over the seeds."""
    keys = ("precision", "recall", "f1")
    tables = [result["metrics"][name]["classes"] for result in one.results]
    figures = np.array([[[line[key] for key in keys] for line in table] for table in tables]).mean(axis=0)
    return np.concatenate([figures, figures.mean(axis=0, keepdims=True)])


def _generators(experiment: Experiment) -> Iterator[str]:
    yield "## The miniature generators"
    yield (
        "Trained from scratch, each on scenes of its own; 32 x 32 pixels. Power: of samples over that of scenes, in "
        "four bands of spatial frequency. The sample sheet lies beside each checkpoint."
    )
    header = ["checkpoint", "parameters", "training", *(f"power {a}-{b - 1}" for a, b in BANDS)]
    header += ["diversity", "recognised", "failed gates"]
    places = (Checkpoint(one.name, one.seed, experiment.checkpoints) for one in ALL_CHECKPOINTS)
    yield markdown_table(header, [_generator_row(one) for one in places])
    yield "![Mean residual spectra](residual-spectra.png)"
    yield "![Radial spectra](radial-spectra.png)"


def _generator_row(one: Checkpoint) -> list[object]:
    known = one.describe()
    quality = known["quality"]
    return [
        one.stem,
        known["parameters"],
        f"{known['training_seconds'] / 60:.1f} min",
        *(f"{value:.2f}" for value in quality["power"]),
        f"{quality['diversity']:.2f}",
        f"{quality['recognised']:.2f}",
        ", ".join(known["failed_gates"]) or "–",
    ]


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean
