"""What "Generator Attribution With Biased Data" reports: the figures that a reproduction is compared with.

Source of all figures: PAPER, "Published results". They were measured on a subject that no training image shows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

GENERATORS = ("guided_diffusion", "latent_diffusion", "lsgm", "stylegan2", "stylegan3", "taming_transformers")
"""The paper's generators, in the order of its tables."""

Figures = tuple[float, float, float]
"""Precision, recall and F1, 0 to 1."""


@dataclass(frozen=True)
class Published:
    """The paper's results for one technique."""

    accuracy: float
    """On the unseen subject, 0 to 1."""
    average: Figures
    """Macro average over the generators."""
    generators: Mapping[str, Figures]
    """By generator."""


def _published(accuracy: float, average: Figures, *lines: Figures) -> Published:
    return Published(accuracy, average, dict(zip(GENERATORS, lines, strict=True)))


_NONE = (0.0, 0.0, 0.0)
PUBLISHED: Mapping[str, Published] = {
    "baseline": _published(
        0.49,
        (0.44, 0.49, 0.43),
        *(_NONE, (0.28, 0.93, 0.43), (1.00, 0.93, 0.97), (0.62, 0.26, 0.36), _NONE, (0.76, 0.83, 0.79)),
    ),
    "weighted": _published(
        0.49,
        (0.44, 0.49, 0.46),
        *(_NONE, (0.37, 0.33, 0.35), (1.00, 0.93, 0.97), (0.61, 0.74, 0.67), (0.09, 0.13, 0.11), (0.57, 0.80, 0.67)),
    ),
    "finetune": _published(
        0.91,
        (0.94, 0.94, 0.93),
        *((1.00, 0.67, 0.80), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.75, 1.00, 0.86), (0.88, 1.00, 0.93)),
        (1.0, 1.0, 1.0),
    ),
    "adversarial": _published(
        0.56,
        (0.47, 0.55, 0.50),
        *(_NONE, (0.28, 0.70, 0.40), (1.00, 0.93, 0.97), (0.55, 0.72, 0.63), _NONE, (1.00, 0.97, 0.98)),
    ),
}
"""The paper's techniques, those that others start from first; all but `finetune` were scored on all 176 images."""
TECHNIQUES = tuple(PUBLISHED)
"""Names of the paper's techniques, in the order in which they are trained."""
