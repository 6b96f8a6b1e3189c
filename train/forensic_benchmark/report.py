"""The report of the benchmark: the paper's tables, tiers, controls and pictures, as Markdown and JSON."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group

from forensic_benchmark.attributors import REENCODINGS, STRANGERS, Attributor, Tiers, read_result
from forensic_benchmark.checkpoints import ALL_CHECKPOINTS, Checkpoint
from forensic_benchmark.experiment import Experiment
from forensic_benchmark.generators.families import PAPER_FAMILIES, SWAPPED
from forensic_benchmark.plots import draw_confusion, draw_radial_spectra, draw_residual_spectra
from forensic_benchmark.quality import BANDS
from forensic_benchmark.samples import FULL, scaled_counts
from forensic_cli.tables import MISSING, Table
from forensic_train.paper import PUBLISHED
from forensic_train.repeats import FIGURES, Repeats, spread

PAPER_RECIPE = "paper-32"
"""The recipe that reproduces the paper's."""
REPORT_FILE = "report.md"
_JSON_FILE = "report.json"
_ACCURACIES = ("T0", "T1", "published", "T2")
_HARD = (*(f"T3 {name}" for name in REENCODINGS), "T4 generator", "T4 real")
_CHECKPOINTS = {"plain": 1, "two": 2}
"""Checkpoints of each generator in the training images, by the data of an Attributor."""


@dataclass(frozen=True)
class Entry:
    """One row of the tables: a technique with a recipe on some data, over all seeds."""

    recipe: str
    """Name of the recipe."""
    technique: str
    """Name; `adversarial (stable)` for the bounded variant."""
    data: str
    """Name as in Attributor."""
    results: tuple[Mapping[str, Any], ...]
    """What measure_attributor() returned for each seed."""

    def on(self, name: str) -> Repeats:
        """Return the figures on a tier of attributors.SETS, or on `third`."""
        return Repeats(tuple(result["metrics"][name] for result in self.results))


def collect(wanted: Sequence[Attributor], output: Path) -> list[Entry]:
    """Read all results; those that differ in nothing but the seed become one entry."""
    by_entry: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for attributor in wanted:
        stable = dict(attributor.settings).get("stable") == "true"
        results = read_result(attributor, output)
        for technique in attributor.techniques:
            name = f"{technique} (stable)" if stable else technique
            by_entry.setdefault((attributor.recipe, name, attributor.data), []).append(results[technique])
    return [Entry(*key, tuple(results)) for key, results in by_entry.items()]


def report_tables(entries: Sequence[Entry]) -> Group:
    """Return the paper's tables for the terminal: each technique of its recipe, then all accuracies and the ranking."""
    plain = [entry for entry in entries if entry.data == "plain"]
    best_first = sorted(plain, key=lambda entry: -float(np.mean(entry.on("unseen").values("accuracy"))))
    tables = [
        *(_class_table(entry) for entry in plain if entry.recipe == PAPER_RECIPE),
        _by_entry(
            "T2 re-encoded (T3), and separated from strangers (T4, AUROC)",
            _HARD,
            plain,
            lambda entry: [f"{np.mean(values):.3f}" for values in _hard_figures(entry)],
        ),
        _by_entry(
            "Ranking by accuracy on the unseen subject (T1), mean ± sd over the seeds",
            _ACCURACIES,
            best_first,
            _accuracy_cells,
        ),
    ]
    return Group(*(table.rich() for table in tables))


def _by_entry(
    title: str,
    columns: Sequence[str],
    entries: Sequence[Entry],
    cells: Callable[[Entry], Sequence[object]],
    note: str = "",
) -> Table:
    """Return a table with a row for each entry: its recipe, its technique and `cells` of it under `columns`."""
    rows = [[entry.recipe, entry.technique, *cells(entry)] for entry in entries]
    return Table(title, ("recipe", "technique", *columns), rows, note, left=(0, 1), unbroken=(0, 1))


def _class_table(entry: Entry) -> Table:
    """Return precision, recall, F1 and images of a seed for each generator and their mean, on T1, then on T2."""
    rows: list[list[object]] = [[name] for name in (*PAPER_FAMILIES, "macro average")]
    for tier in ("unseen", "separate"):
        support = entry.on(tier).confusion().sum(axis=1) // len(entry.results)
        images = [*map(int, support), int(support.sum())]
        for row, figures, count in zip(rows, _class_figures(entry, tier), images, strict=True):
            row += [*(f"{value:.2f}" for value in figures), count]
    columns = [f"{tier} {name}" for tier in ("T1", "T2") for name in ("precision", "recall", "F1", "n")]
    return Table(f"{entry.recipe}: {entry.technique}", ("generator", *columns), rows)


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
        *(table.markdown(2) for table in (_summary(entries), _steps(entries), _controls(entries))),
        *_swap(entries),
        *_paper_tables(entries, folder),
        _generators(experiment).markdown(2),
        "![Mean residual spectra](residual-spectra.png)",
        "![Radial spectra](radial-spectra.png)",
    ]
    (folder / REPORT_FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    record = {"about": dict(about), "entries": [asdict(entry) for entry in entries]}
    (folder / _JSON_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return folder / REPORT_FILE


def _summary(entries: Sequence[Entry]) -> Table:
    note = (
        "Accuracy: mean and standard deviation over the seeds of the attributors. T0: cells that occur in training. "
        "T1: the unseen subject, from the checkpoints that made the training images. **T2: the unseen subject from two "
        "checkpoints that were trained separately**, which is what a forensic user encounters. T3: T2 re-encoded. T4: "
        "AUROC of the confidence, T2 against a seventh generator and against untouched scenes. Published: the accuracy "
        "that the paper reports on its own unseen subject, whose images came from the generators trained on, as in T1. "
        "Chance is .167."
    )
    columns = (*(f"**{name}**" if name == "T2" else name for name in _ACCURACIES), *_HARD)
    plain = [entry for entry in entries if entry.data == "plain"]
    return _by_entry(
        "Summary",
        columns,
        plain,
        lambda entry: [*_accuracy_cells(entry), *map(spread, _hard_figures(entry))],
        note,
    )


def _accuracy_cells(entry: Entry) -> list[object]:
    published = PUBLISHED.get(entry.technique) if entry.recipe == PAPER_RECIPE else None
    seen, unseen, separate = (spread(entry.on(name).values("accuracy")) for name in ("seen", "unseen", "separate"))
    return [seen, unseen, "" if published is None else f"{published.accuracy:.2f}", separate]


def _hard_figures(entry: Entry) -> list[list[float]]:
    """Return T3's accuracies and T4's AUROCs, each as a list over the seeds."""
    values = [[result["reencoded"][name]["accuracy"] for result in entry.results] for name in REENCODINGS]
    return [*values, *([result["open_set"][name]["auroc"] for result in entry.results] for name in STRANGERS)]


def _steps(entries: Sequence[Entry]) -> Table:
    note = (
        "T2 on the checkpoints of the third seed only, which no attributor here was trained on. `checkpoints` is how "
        "many of each generator made the training images; with `2` there are as many images as with `1`, half of them "
        "from a second checkpoint."
    )

    def cells(entry: Entry) -> list[object]:
        accuracies = [spread(entry.on(name).values("accuracy")) for name in ("unseen", "third")]
        return [_CHECKPOINTS[entry.data], *accuracies, *(f"{recall:.2f}" for recall in entry.on("third").recalls())]

    chosen = [entry for entry in entries if entry.data in _CHECKPOINTS]
    chosen.sort(key=lambda entry: float(np.mean(entry.on("third").values("accuracy"))))
    columns = ("checkpoints", "T1", "**T2, third seed**", *PAPER_FAMILIES)
    return _by_entry("Steps towards separately trained generators", columns, chosen, cells, note)


def _controls(entries: Sequence[Entry]) -> Table:
    note = (
        "`shuffled`: the training labels are permuted, so anything above chance is a leak. `soft`: each generator "
        "is low-pass filtered to the bandwidth of the softest one, so any loss was due to sharpness. A rule that knows "
        f"only the subject would reach {_subject_rule():.3f} on T0 and {1 / len(PAPER_FAMILIES):.3f} on T1 and T2."
    )

    def cells(entry: Entry) -> list[object]:
        return [entry.data, *(spread(entry.on(name).values("accuracy")) for name in ("seen", "unseen", "separate"))]

    baselines = [entry for entry in entries if entry.technique == "baseline"]
    chosen = [entry for entry in baselines if entry.data in ("plain", "shuffled", "soft")]
    return _by_entry("Controls", ("images", "T0", "T1", "T2"), chosen, cells, note)


def _subject_rule() -> float:
    """Return the accuracy on T0 of naming the generator that is most frequent for the subject in training."""
    counts = scaled_counts(FULL.training)
    subjects = {subject for row in counts.values() for subject in row}
    best = {subject: max(counts, key=lambda name: counts[name].get(subject, 0)) for subject in subjects}
    return float(np.mean([np.mean([best[s] == name for s in row]) for name, row in counts.items()]))


def _swap(entries: Sequence[Entry]) -> Iterator[str]:
    yield "## Does attribution follow the operation?"
    yield (
        "stylegan2 and lsgm were trained again with the nearest-neighbour up-sampling of guided_diffusion in place of "
        "the FIR filter and the bilinear shortcut, and nothing else changed. The tables show which labels their images "
        "of the unseen subject were given, next to those of the unchanged generator of the third seed."
    )
    techniques = ("baseline", "discriminant")
    chosen = [entry for entry in entries if entry.data in _CHECKPOINTS and entry.technique in techniques]
    columns = ("recipe", "technique", "checkpoints", "images", *PAPER_FAMILIES)
    for family, changed in SWAPPED.items():
        rows: list[list[object]] = []
        for entry in chosen:
            for name, counts in ((family, _genuine(entry, family)), (changed, _swapped(entry, changed))):
                shares = [f"{share:.2f}" for share in counts / counts.sum()]
                rows.append([entry.recipe, entry.technique, _CHECKPOINTS[entry.data], name, *shares])
        yield Table(family, columns, rows, left=(0, 1, 3)).markdown(3)


def _genuine(entry: Entry, family: str) -> np.ndarray:
    return np.asarray(entry.on("third").confusion()[list(entry.results[0]["labels"]).index(family)])


def _swapped(entry: Entry, changed: str) -> np.ndarray:
    labels = entry.results[0]["labels"]
    counts = [[result["swapped"][changed].get(label, 0) for label in labels] for result in entry.results]
    return np.asarray(np.sum(counts, axis=0))


def _paper_tables(entries: Sequence[Entry], folder: Path) -> Iterator[str]:
    yield "## The paper's tables"
    yield "Precision / recall / F1 for every generator, means over the seeds."
    chosen = [entry for entry in entries if entry.data == "plain"]
    columns = (*PAPER_FAMILIES, "macro")
    yield _by_entry("On the unseen subject (T1)", columns, chosen, partial(_classes, tier="unseen")).markdown(3)
    separate = partial(_classes, tier="separate")
    yield _by_entry("On separately trained generators (T2)", columns, chosen, separate).markdown(3)
    for entry in chosen:
        if entry.technique.split()[0] in PUBLISHED:
            name = f"confusion-{entry.recipe}-{entry.technique.replace(' (stable)', '-stable')}.png"
            draw_confusion(entry, folder / name)
            yield f"![Confusion of {entry.technique}, {entry.recipe}, on T1 and T2]({name})"


def _classes(entry: Entry, tier: str) -> list[object]:
    """Return `precision / recall / F1` of every generator and of their mean, averaged over the seeds."""
    return [" / ".join(f"{value:.2f}" for value in line) for line in _class_figures(entry, tier)]


def _class_figures(entry: Entry, tier: str) -> np.ndarray:
    """Return precision, recall and F1 of every generator and of their mean, averaged over the seeds."""
    repeats = entry.on(tier)
    lines = [[np.mean(repeats.of_generator(name, key)) for key in FIGURES] for name in repeats.generators()]
    return np.array([*lines, np.mean(lines, axis=0)])


def _generators(experiment: Experiment) -> Table:
    note = (
        "Trained from scratch, each on scenes of its own, at 32 x 32 pixels. Power: of the samples divided by that of "
        "the scenes, in four bands of spatial frequency. The sample sheet lies beside each checkpoint."
    )
    columns = ["checkpoint", "parameters", "training", *(f"power {a}-{b - 1}" for a, b in BANDS)]
    columns += ["diversity", "recognised", "failed gates"]
    places = (Checkpoint(checkpoint.name, checkpoint.seed, experiment.checkpoints) for checkpoint in ALL_CHECKPOINTS)
    return Table("The miniature generators", columns, [_generator_row(place) for place in places], note)


def _generator_row(checkpoint: Checkpoint) -> list[object]:
    known = checkpoint.describe()
    quality = known["quality"]
    return [
        checkpoint.stem,
        known["parameters"],
        f"{known['training_seconds'] / 60:.1f} min",
        *(f"{value:.2f}" for value in quality["power"]),
        f"{quality['diversity']:.2f}",
        f"{quality['recognised']:.2f}",
        ", ".join(known["failed_gates"]) or MISSING,
    ]
