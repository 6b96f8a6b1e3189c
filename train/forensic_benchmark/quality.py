"""Quality gates of a miniature generator: else one would measure blur or collapse, not fingerprints."""

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
"""Radii of the four bands of the spectrum, from and below, in cycles an image."""
POWER_BAND = (0.25, 4.0)
"""Power of samples over power of scenes, allowed in each band."""
DIVERSITY = 0.6
"""Mean distance of two samples of a subject over that of two scenes of it, at least."""
RECOGNISED = 0.6
"""Share of samples that a classifier of scenes gives the wanted subject, over its share on scenes, at least."""
CODEBOOK_USE = 0.5
"""Share of a codebook's entries in use, at least, where there is one."""
_COLUMNS = 8


@dataclass(frozen=True)
class Quality:
    """What samples of one checkpoint look like beside scenes."""

    power: tuple[float, ...]
    """Power of samples over power of scenes in each of BANDS."""
    diversity: float
    """Mean distance of two samples of one subject over that of two scenes of it; averaged over subjects."""
    recognised: float
    """As RECOGNISED says."""
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    """Figures of the family itself."""

    def failed(self) -> list[str]:
        """Return the names of the gates that this checkpoint does not pass."""
        low, high = POWER_BAND
        gates = {
            **{f"power {a}-{b - 1}": low <= one <= high for (a, b), one in zip(BANDS, self.power, strict=True)},
            "diversity": self.diversity >= DIVERSITY,
            "recognised": self.recognised >= RECOGNISED,
            "codebook": self.diagnostics.get("codebook_use", 1.0) >= CODEBOOK_USE,
        }
        return [name for name, passed in gates.items() if not passed]


def measure_quality(
    samples: Images, subjects: npt.NDArray[np.int64], diagnostics: Mapping[str, float] | None = None
) -> Quality:
    """Measure samples N x S x S x 3 of the subjects N against as many scenes."""
    scenes = render_many(subjects.tolist(), "quality")
    power = np.array(_band_power(samples)) / np.array(_band_power(scenes))
    return Quality(
        power=tuple(float(one) for one in power),
        diversity=_spread(samples, subjects) / _spread(scenes, subjects),
        recognised=_recognised(samples, subjects) / _recognised(scenes, subjects),
        diagnostics=dict(diagnostics or {}),
    )


def sample_sheet(samples: Images, subjects: int, path: Path) -> None:
    """Write the first samples as one PNG: a line a subject (samples come subject after subject in turn)."""
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
        np.stack([cv2.resize(one, (8, 8), interpolation=cv2.INTER_AREA) for one in images]).reshape(len(images), -1)
        / 255.0
    )
