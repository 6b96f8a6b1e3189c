"""The same training with several seeds: means, standard deviations and summed confusion matrices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FIGURES = ("precision", "recall", "f1")
"""What the paper's tables give for each generator."""


@dataclass(frozen=True)
class Repeats:
    """The figures of one technique on one set of images, once for each seed."""

    metrics: tuple[Mapping[str, Any], ...]
    """A Metrics as a dict for each seed."""

    def values(self, name: str) -> list[float]:
        """Return a figure, such as `accuracy` or the macro average `f1`, for each seed."""
        return [float(metrics[name]) for metrics in self.metrics]

    def confusion(self) -> np.ndarray:
        """Return images by true and predicted label, summed over the seeds."""
        return np.asarray(np.sum([metrics["confusion"] for metrics in self.metrics], axis=0))

    def recalls(self) -> list[float]:
        """Return the recall of each label over all seeds together; every label needs images."""
        counts = self.confusion()
        return [float(recall) for recall in np.diag(counts) / counts.sum(axis=1)]

    def generators(self) -> list[str]:
        """Return the generators that have images with at least one seed, in logit order."""
        names = [line["generator"] for metrics in self.metrics for line in metrics["classes"]]
        return sorted(dict.fromkeys(names))

    def of_generator(self, generator: str, name: str) -> list[float]:
        """Return a figure of FIGURES, or `support`, of a generator for each seed with which it has images."""
        lines = (line for metrics in self.metrics for line in metrics["classes"])
        return [float(line[name]) for line in lines if line["generator"] == generator]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return `mean ± standard deviation` (of a sample), or the value alone if there is only one."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean
