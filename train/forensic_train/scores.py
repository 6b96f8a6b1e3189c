"""Cross-fitted scores: what models that never saw an image's source, subject or generator said of it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from forensic_cli.errors import DataError, UsageError
from forensic_cli.model import Logits
from forensic_train.manifest import Row
from forensic_train.run import atomic

_ROW_COLUMNS = ("path", "sha256", "generator", "subject", "group", "source", "fold")
_LOGIT = "logit_"


@dataclass(frozen=True)
class Scores:
    """Images and what a technique's fold models said of them."""

    technique: str
    """Name."""
    labels: tuple[str, ...]
    """Of the logits' columns."""
    rows: tuple[Row, ...]
    """B images, held out by the model that judged them."""
    folds: npt.NDArray[np.int64]
    """B: which model judged it."""
    logits: Logits
    """B x K; minus infinity for a label that the fold's model does not know."""

    def at(self, places: Sequence[int]) -> Self:
        """Return the scores of some of the images."""
        rows = tuple(self.rows[i] for i in places)
        return replace(self, rows=rows, folds=self.folds[places], logits=self.logits[places])


def scores_file(technique: str) -> str:
    """Return the name of a technique's file of scores."""
    return f"scores-{technique}.csv"


def check_folder(folder: Path) -> None:
    """Raise UsageError where there is no folder that could hold scores."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; --calibrate takes the output of `genforensic evaluate --leave-out source`"
        )


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores as a CSV: a line an image."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*_ROW_COLUMNS, *(_LOGIT + label for label in scores.labels)])
        for row, fold, logits in zip(scores.rows, scores.folds, scores.logits, strict=True):
            fields = [row.path.resolve(), *(getattr(row, name) for name in _ROW_COLUMNS[1:-1]), int(fold)]
            writer.writerow([*fields, *(f"{value:.6g}" for value in logits)])


def read_scores(path: Path) -> Scores:
    """Read scores back. Raises DataError for a file that write_scores() did not write."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
            records = list(csv.DictReader(stream, strict=True))
        labels = tuple(name.removeprefix(_LOGIT) for name in records[0] if name.startswith(_LOGIT))
        rows = tuple(
            Row(Path(one["path"]), split="test", **{name: one[name] for name in _ROW_COLUMNS[1:-1]}) for one in records
        )
        logits = np.array([[float(one[_LOGIT + label]) for label in labels] for one in records], np.float32)
        folds = np.array([int(one["fold"]) for one in records], np.int64)
    except (OSError, KeyError, ValueError, IndexError, csv.Error) as error:
        raise DataError(f"{path}: is not a file of scores ({type(error).__name__}: {error})") from error
    return Scores(path.stem.removeprefix("scores-"), labels, rows, folds, logits)
