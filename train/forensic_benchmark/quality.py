"""Quality gates of a miniature generator, so that the benchmark measures fingerprints and not blur or collapse."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from forensic_benchmark.images import Images, write_png
from forensic_benchmark.scenes import SUBJECTS, render_many
from forensic_benchmark.spectra import radial_spectrum

BANDS = ((1, 3), (3, 6), (6, 11), (11, 17))
"""Radii of the four bands of the spectrum, first and end, in cycles per image."""
POWER_BAND = (0.25, 4.0)
"""Allowed range of the power of samples over that of scenes in each band."""
DIVERSITY = 0.6
"""Least mean distance of two samples of a subject, over that of two scenes."""
RECOGNISED = 0.6
"""Least share of samples to which a classifier of scenes assigns the wanted subject, over its share on scenes."""
CODEBOOK_USE = 0.5
"""Least share of a codebook's entries that are used, for generators with a codebook."""
_COLUMNS = 8


@dataclass(frozen=True)
class Quality:
    """How samples of a checkpoint compare with scenes."""

    power: tuple[float, ...]
    """Power of samples over power of scenes in each of BANDS."""
    diversity: float
    """Mean distance of two samples of one subject over that of two scenes of it; averaged over subjects."""
    recognised: float
    """Share of recognized samples over that of scenes, see RECOGNISED."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Figures that only this family has."""

    def failed(self) -> list[str]:
        """Return the names of the gates that this checkpoint does not pass."""
        low, high = POWER_BAND
        gates = {
            **{f"power {a}-{b - 1}": low <= power <= high for (a, b), power in zip(BANDS, self.power, strict=True)},
            "diversity": self.diversity >= DIVERSITY,
            "recognised": self.recognised >= RECOGNISED,
            "codebook": self.diagnostics.get("codebook_use", 1.0) >= CODEBOOK_USE,
        }
        return [name for name, passed in gates.items() if not passed]


def measure_quality(
    samples: Images, subjects: npt.NDArray[np.int64], diagnostics: Mapping[str, float] | None = None
) -> Quality:
    """Compare samples N x S x S x 3 of the subjects N with as many scenes."""
    scenes = render_many(subjects.tolist(), "quality")
    power = np.array(_band_power(samples)) / np.array(_band_power(scenes))
    return Quality(
        power=tuple(float(share) for share in power),
        diversity=_spread(samples, subjects) / _spread(scenes, subjects),
        recognised=_recognised(samples, subjects) / _recognised(scenes, subjects),
        diagnostics=dict(diagnostics or {}),
    )


def sample_sheet(samples: Images, subjects: int, path: Path) -> None:
    """Write the first samples as one PNG with a line for each subject (subjects alternate among the samples)."""
    lines = [np.concatenate(list(samples[k::subjects][:_COLUMNS]), axis=1) for k in range(subjects)]
    write_png(path, np.concatenate(lines))


def _band_power(images: Images) -> list[float]:
    spectrum = radial_spectrum(images)
    return [float(spectrum[a:b].mean()) for a, b in BANDS]


def _spread(images: Images, subjects: npt.NDArray[np.int64]) -> float:
    """Return the mean over subjects of the mean squared distance of two images of it (twice the variance), rooted."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    return float(np.mean([np.sqrt(flat[subjects == k].var(axis=0).mean()) for k in np.unique(subjects)]))


def _recognised(images: Images, subjects: npt.NDArray[np.int64]) -> float:
    """Return the share of images that a classifier trained on other scenes gives their subject."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    wanted = np.arange(100 * len(SUBJECTS)) % len(SUBJECTS)
    known = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    known.fit(_thumbnails(render_many(wanted.tolist(), "recognise")), wanted)
    return float(known.score(_thumbnails(images), subjects))


def _thumbnails(images: Images) -> npt.NDArray[np.float64]:
    return (
        np.stack([cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA) for image in images]).reshape(len(images), -1)
        / 255.0
    )
