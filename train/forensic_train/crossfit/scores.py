"""Out-of-fold scores: logits from models that never saw an image's source, subject or generator, as .npz files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
import numpy.typing as npt

from forensic_cli.errors import DataError, UsageError
from forensic_cli.model import Logits
from forensic_train.rows import Row
from forensic_train.run import atomic

_ROW_FIELDS = ("sha256", "generator", "subject", "group", "source")


@dataclass(frozen=True)
class Scores:
    """Logits of B images in D forms each, by the models of a technique's folds."""

    technique: str
    """Its name."""
    labels: tuple[str, ...]
    """Of the logits' columns."""
    rows: tuple[Row, ...]
    """B images, held out by the model that judged them."""
    folds: npt.NDArray[np.int64]
    """B: fold of the model that judged the image."""
    forms: tuple[str, ...]
    """D names: `as it is`, and the other forms of signals.FORMS if the recipe measures them."""
    states: npt.NDArray[np.str_]
    """B x D: name of the state of each form."""
    logits: Logits
    """B x D x K; minus infinity for a label that the fold's model does not know."""
    distances: npt.NDArray[np.float32]
    """B x D: distance of each from the training images."""

    def at(self, places: Sequence[int]) -> Self:
        """Return the scores of some of the images."""
        chosen = list(places)
        parts = {name: getattr(self, name)[chosen] for name in ("folds", "states", "logits", "distances")}
        return replace(self, rows=tuple(self.rows[i] for i in chosen), **parts)


def scores_file(technique: str) -> str:
    """Return the name of a technique's file of scores."""
    return f"scores-{technique}.npz"


def check_folder(folder: Path) -> None:
    """Raise UsageError if the folder for --calibrate does not exist."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder}: no such folder; --calibrate takes the output of `genforensic evaluate --leave-out source`"
        )


def write_scores(path: Path, scores: Scores) -> None:
    """Write scores as a NumPy .npz file."""
    rows: dict[str, Any] = {name: np.array([getattr(row, name) for row in scores.rows]) for name in _ROW_FIELDS}
    paths = np.array([str(row.path.resolve()).encode("utf-8", "surrogateescape") for row in scores.rows])
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            labels=np.array(scores.labels),
            forms=np.array(scores.forms),
            folds=scores.folds,
            states=scores.states,
            logits=scores.logits,
            distances=scores.distances,
            path=paths,
            **rows,
        )


def read_scores(path: Path) -> Scores:
    """Read scores back. Raises DataError for a file that was not written by write_scores()."""
    try:
        # An open stream, because np.load does not close a file that it opens and cannot read
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            named = zip(*(stored[name].tolist() for name in _ROW_FIELDS), strict=True)
            files = [Path(name.decode("utf-8", "surrogateescape")) for name in stored["path"].tolist()]
            rows = tuple(
                Row(file, split="test", **dict(zip(_ROW_FIELDS, values, strict=True)))
                for file, values in zip(files, named, strict=True)
            )
            return Scores(
                technique=path.stem.removeprefix("scores-"),
                labels=tuple(stored["labels"].tolist()),
                rows=rows,
                folds=stored["folds"],
                forms=tuple(stored["forms"].tolist()),
                states=stored["states"],
                logits=stored["logits"],
                distances=stored["distances"],
            )
    except (OSError, KeyError, ValueError, TypeError, AttributeError, EOFError, BadZipFile, ZlibError) as error:
        raise DataError(f"{path}: is not a file of scores ({type(error).__name__}: {error})") from error
