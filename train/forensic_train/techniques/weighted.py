"""Weighted sampling: rare generators are drawn more often (PAPER, `weighted`)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from forensic_train.rows import Row, as_rows
from forensic_train.seeds import generator_for
from forensic_train.techniques.baseline import Baseline


class Weighted(Baseline):
    """The baseline on batches drawn with replacement; image i has probability 1 / (K * C_i)."""

    name = "weighted"

    def sampler(self, rows: Sequence[Row], epoch: int) -> npt.NDArray[np.int64]:
        """Draw as many rows as there are; C_i: images by the generator of row i, K: number of generators."""
        rng = generator_for("sampler", self.context.seed, epoch)
        return rng.choice(len(rows), size=len(rows), p=sampling_weights(rows))


def sampling_weights(rows: Sequence[Row]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the probability 1 / (K * C_i) of each row; they sum to 1."""
    generators = as_rows(rows).column("generator")
    counts = Counter(generators)
    return np.array([1 / (len(counts) * counts[generator]) for generator in generators])
