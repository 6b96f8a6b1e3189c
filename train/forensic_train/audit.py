"""The bias audit: how well the subject, or properties of the file alone, already predict the generator."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from forensic_cli.console import track
from forensic_cli.errors import DataError, UsageError
from forensic_cli.images.decode import decode, read_header
from forensic_cli.images.header import Unreadable
from forensic_cli.pipeline import default_workers, ordered_map, read_file
from forensic_cli.tables import Table, counts_table
from forensic_train.manifest import count_cells, same_bytes_two_generators
from forensic_train.rows import Row
from forensic_train.seeds import seed_for

_FOLDS = 3
_LARGE_GAIN = 0.2
"""Part of the way from chance to certainty above which a shortcut gets a warning."""


@dataclass(frozen=True)
class Bias:
    """How a generator x subject table is biased; entropies in nats."""

    generators: tuple[str, ...]
    """Rows of the table."""
    subjects: tuple[str, ...]
    """Columns of the table."""
    counts: tuple[tuple[int, ...], ...]
    """Images per cell."""
    generator_entropy: float
    """H(G)."""
    subject_entropy: float
    """H(S)."""
    mutual_information: float
    """I(G;S)."""
    conditional_entropy: float
    """H(S|G): the lowest loss that a subject head can reach if it knows the generator."""
    empty_cells: int
    """Number of cells without an image."""
    subject_rule_accuracy: float
    """Accuracy on the training images of a rule that names the most frequent generator of each subject, 0 to 1."""


@dataclass(frozen=True)
class Shortcut:
    """How well a small decision tree predicts the generator from one kind of file property."""

    name: str
    """The kind of property."""
    balanced_accuracy: float
    """Mean recall over the generators, cross-validated with groups kept together, 0 to 1."""
    chance: float
    """1 / number of generators."""

    @property
    def suspicious(self) -> bool:
        """Whether the property reveals the generator."""
        return self.balanced_accuracy > self.chance + _LARGE_GAIN * (1 - self.chance)


@dataclass(frozen=True)
class FileFaults:
    """Problems with the files of labelled images."""

    unreadable: tuple[tuple[Path, str], ...]
    """Files that training cannot read, each with the reason."""
    two_generators: tuple[tuple[Row, ...], ...]
    """Groups of rows with the same bytes but different generators."""


def bias_of(counts: Mapping[str, Mapping[str, int]]) -> Bias:
    """Compute the bias figures of {generator: {subject: images}} (PAPER, "Data")."""
    generators = tuple(counts)
    subjects = tuple(dict.fromkeys(subject for row in counts.values() for subject in row))
    table = np.array([[row.get(subject, 0) for subject in subjects] for row in counts.values()], np.float64)
    joint = table / table.sum()
    g, s, both = (_entropy(p) for p in (joint.sum(axis=1), joint.sum(axis=0), joint))
    return Bias(
        generators=generators,
        subjects=subjects,
        counts=tuple(tuple(int(n) for n in row) for row in table),
        generator_entropy=g,
        subject_entropy=s,
        mutual_information=g + s - both,
        conditional_entropy=both - g,
        empty_cells=int((table == 0).sum()),
        subject_rule_accuracy=float(joint.max(axis=0).sum()),
    )


def subject_entropies(counts: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Return H(S|g) in nats for each generator; 0 if there is a single subject."""
    return {
        generator: _entropy(np.array(list(row.values()), np.float64) / sum(row.values()))
        for generator, row in counts.items()
    }


def bias_of_rows(rows: Sequence[Row]) -> Bias:
    """Compute the bias figures of labelled images."""
    return bias_of(count_cells(rows))


def in_words(bias: Bias) -> str:
    """Return the figures of a bias as three lines of text."""
    return (
        f"H(G) {bias.generator_entropy:.3f}   H(S) {bias.subject_entropy:.3f}   "
        f"I(G;S) {bias.mutual_information:.3f}   H(S|G) {bias.conditional_entropy:.3f} nats\n"
        f"{bias.empty_cells} of {len(bias.generators) * len(bias.subjects)} cells are empty.\n"
        f"A rule that sees only the subject gets {bias.subject_rule_accuracy:.1%} right."
    )


def bias_tables(bias: Bias, shortcuts: Sequence[Shortcut]) -> list[Table]:
    """Return the table of cells, and the shortcut probe unless it is empty."""
    counts = {
        generator: dict(zip(bias.subjects, row, strict=True))
        for generator, row in zip(bias.generators, bias.counts, strict=True)
    }
    tables = [counts_table("Images per cell", counts, "generator")]
    if shortcuts:
        rows = [
            (shortcut.name, f"{shortcut.balanced_accuracy:.3f}", f"{shortcut.chance:.3f}") for shortcut in shortcuts
        ]
        suspicious = {place: "yellow" for place, shortcut in enumerate(shortcuts) if shortcut.suspicious}
        columns = ("property", "balanced accuracy", "chance")
        title = "Shortcut probe: the generator from the file alone"
        tables.append(Table(title, columns, rows, styles=suspicious))
    return tables


def read_counts(path: Path) -> dict[str, dict[str, int]]:
    """Read a table of counts with a column `generator` and one column per subject.

    Raises UsageError for a path that does not exist, and DataError for anything that is not such a table.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a CSV whose first line is generator,SUBJECT,...")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            records = list(csv.DictReader(stream, strict=True))
        counts = {record["generator"]: {s: int(n) for s, n in record.items() if s != "generator"} for record in records}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not a table of counts ({type(error).__name__}: {error}); the first line is "
            "generator,SUBJECT,... and each further line a generator with whole numbers"
        ) from error
    if len(counts) < len(records) or any(n < 0 for row in counts.values() for n in row.values()):
        raise DataError(f"{path}: a generator appears twice, or a count is negative")
    if not all(sum(row.values()) for row in counts.values()) or len(counts) < 2:
        raise DataError(f"{path}: every generator needs images, and there must be at least two generators")
    return counts


def probe_shortcuts(rows: Sequence[Row], seed: int = 0) -> list[Shortcut]:
    """Measure how well file format, size, JPEG quality and metadata alone predict the generator.

    One decision tree of depth 6 for each kind and one for all together, by 3-fold cross-validation that never splits a
    group. Empty if a generator has fewer than three groups.
    """
    facts = list(ordered_map(_facts, rows, default_workers(), 64))
    kinds = {name: np.array([fact[name] for fact in facts], np.float64) for name in facts[0]}
    kinds["all of these"] = np.concatenate(list(kinds.values()), axis=1)
    target = np.array([row.generator for row in rows])
    groups = np.array([row.group or str(i) for i, row in enumerate(rows)])
    if min(len(set(groups[target == label])) for label in set(target)) < _FOLDS:
        return []
    return [
        Shortcut(name, _tree_accuracy(features, target, groups, seed), 1 / len(set(target)))
        for name, features in kinds.items()
    ]


def check_files(rows: Sequence[Row]) -> FileFaults:
    """Read and decode every image, as training does."""
    results = ordered_map(_check_file, (row.path for row in rows), default_workers(), 64)
    checked = list(track(results, "reading images", len(rows)))
    unreadable = [(row.path, reason) for row, (_, reason) in zip(rows, checked, strict=True) if reason]
    hashed = [replace(row, sha256=digest) for row, (digest, _) in zip(rows, checked, strict=True) if digest]
    return FileFaults(tuple(unreadable), tuple(tuple(copies) for copies in same_bytes_two_generators(hashed)))


def _check_file(path: Path) -> tuple[str, str]:
    """Return the sha256 of a file, empty if it cannot be read, and why it is not an image, empty if it is one."""
    data = read_file(path)
    if isinstance(data, Unreadable):
        return "", data.reason
    decoded = decode(data)
    return sha256(data).hexdigest(), decoded.reason if isinstance(decoded, Unreadable) else ""


def _tree_accuracy(
    features: npt.NDArray[np.float64], target: npt.NDArray[np.str_], groups: npt.NDArray[np.str_], seed: int
) -> float:
    """Return the cross-validated balanced accuracy of a decision tree."""
    from sklearn.metrics import recall_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.tree import DecisionTreeClassifier

    random_state = seed_for("shortcuts", seed) % 2**32
    predicted = target.copy()
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=random_state)
    for train, test in folds.split(features, target, groups):
        tree = DecisionTreeClassifier(max_depth=6, class_weight="balanced", random_state=random_state)
        predicted[test] = tree.fit(features[train], target[train]).predict(features[test])
    return float(recall_score(target, predicted, average="macro"))


def _entropy(p: npt.NDArray[np.float64]) -> float:
    """Return the Shannon entropy of a distribution, in nats."""
    positive = p[p > 0]
    return float(-(positive * np.log(positive)).sum())


_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def _pillow_facts(data: bytes) -> tuple[Mapping[int, Sequence[int]], set[str]]:
    """Return quantization tables and the names of metadata entries; empty if Pillow cannot read the file."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return getattr(image, "quantization", None) or {}, set(map(str, image.info))
    except Exception:  # a malformed header can make Pillow raise anything
        return {}, set()


def _facts(row: Row) -> dict[str, list[float]]:
    """Return the properties of a file by their kind; zeros if it cannot be read."""
    data = read_file(row.path)
    header = None if isinstance(data, Unreadable) else read_header(data)
    if isinstance(data, Unreadable) or header is None:
        return {
            "format": [0.0] * len(_FORMATS),
            "size": [0.0] * 4,
            "JPEG quality": [0.0] * 2,
            "metadata": [0.0] * 3,
        }
    tables, info = _pillow_facts(data)
    pixels = max(1, header.width * header.height)
    return {
        "format": [float(header.format == name) for name in _FORMATS],
        "size": [header.width, header.height, header.width / max(1, header.height), len(data) / pixels],
        "JPEG quality": [float(np.mean(table)) for table in (tables.get(0, [0]), tables.get(1, [0]))],
        "metadata": [float("exif" in info), float("icc_profile" in info), float(len(info))],
    }
