"""Weights by which every source counts the same within its label, and "generated" as much as "real"."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forensic_cli.card import REAL
from forensic_train.rows import Row

_LEAST_WEIGHT = 1e-12


def unit_of(row: Row) -> str:
    """Return what is held out together with an image: its source or, where the data names none, its group."""
    return row.source or row.group or str(row.path)


class SourceWeigher:
    """Weighs M images: sources the same within a label, generated labels the same, and generated as much as real.

    A cell is a label and a source; the images of a cell share its weight.
    """

    def __init__(self, truth: npt.NDArray[np.str_], sources: npt.NDArray[np.str_]) -> None:
        self.sources, source = np.unique(sources, return_inverse=True)
        labels, label = np.unique(truth, return_inverse=True)
        self._is_real = labels == REAL
        cells, self._cell = np.unique(label * len(self.sources) + source, return_inverse=True)
        self._cell_label, self._cell_source = cells // len(self.sources), cells % len(self.sources)
        self._images = np.bincount(self._cell)

    def weights(self, times: npt.NDArray[np.integer] | None = None) -> npt.NDArray[np.float64]:
        """Return M weights; those of real images sum to 1, and so do those of generated ones, where there are any.

        `times`: how often each of `self.sources` counts, as a bootstrap draws it; None: once each.
        """
        counted = np.ones(len(self._cell_source)) if times is None else times[self._cell_source].astype(np.float64)
        total = np.bincount(self._cell_label, counted, minlength=len(self._is_real))
        generated = max(1, int(((total > 0) & ~self._is_real).sum()))
        share = np.where(self._is_real, 1.0, 1 / generated) / np.maximum(total, _LEAST_WEIGHT)
        return np.asarray((counted * share[self._cell_label] / self._images)[self._cell], np.float64)


def source_weights(truth: npt.NDArray[np.str_], sources: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Return the weights of M images, given their labels and sources."""
    return SourceWeigher(truth, sources).weights()


def row_weights(rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """Return the weights of labelled images."""
    return source_weights(np.array([row.generator for row in rows]), np.array([unit_of(row) for row in rows]))
