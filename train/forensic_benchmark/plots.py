"""Plots of the benchmark: confusion matrices, and the spectrum of each generator's images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forensic_benchmark.generators.families import PAPER_FAMILIES
from forensic_benchmark.images import read_images
from forensic_benchmark.spectra import radial_spectrum, residual_spectrum
from forensic_train.evaluation_report import paint_confusion
from forensic_train.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forensic_benchmark.report import Entry

_SETS = (("unseen", "T1: same checkpoints"), ("separate", "T2: separate checkpoints"))
_TIERS = ("unseen", "separate", "outsider", "swapped", "real")


def draw_confusion(entry: "Entry", path: Path) -> None:
    """Draw the confusion matrices of T1 and T2 side by side, as shares of each true generator."""
    from matplotlib.figure import Figure

    labels = entry.results[0]["labels"]
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    figure.suptitle(f"{entry.technique}, {entry.recipe}")
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), _SETS, strict=True):
        paint_confusion(axes, labels, entry.on(name).confusion().tolist(), as_shares=True)
        axes.set_title(title)
        axes.set_xlabel("attributed to")
    figure.axes[0].set_ylabel("made by")
    figure.savefig(path, dpi=80)


def draw_residual_spectra(tiers: "Mapping[str, Sequence[Row]]", path: Path) -> None:
    """Draw the mean residual spectrum of every checkpoint's images of the unseen subject, on one scale."""
    from matplotlib.figure import Figure

    spectra = [(name, residual_spectrum(read_images(rows))) for name, rows in _sources(tiers)]
    low, high = (float(np.percentile([spectrum for _, spectrum in spectra], q)) for q in (1, 99))
    columns = len(PAPER_FAMILIES)
    lines = -(-len(spectra) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * lines), layout="constrained")
    for place, (name, spectrum) in enumerate(spectra):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.imshow(spectrum, cmap="magma", vmin=low, vmax=high)
        axes.set_title(name, fontsize="small")
        axes.set_axis_off()
    figure.savefig(path, dpi=80)


def draw_radial_spectra(tiers: "Mapping[str, Sequence[Row]]", path: Path) -> None:
    """Draw power over spatial frequency for every checkpoint's images of the unseen subject."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for place, (name, rows) in enumerate(_sources(tiers)):
        style = ("-", "--", ":", "-.")[place // len(PAPER_FAMILIES)]
        axes.semilogy(radial_spectrum(read_images(rows)), style, label=name, color=f"C{place % len(PAPER_FAMILIES)}")
    axes.set_xlabel("spatial frequency, cycles per image")
    axes.set_ylabel("power of luma")
    axes.legend(fontsize="small", ncols=2)
    figure.savefig(path, dpi=80)


def _sources(tiers: "Mapping[str, Sequence[Row]]") -> list[tuple[str, list[Row]]]:
    """Return the images of the unseen subject by source."""
    sources: dict[str, list[Row]] = {}
    for tier in _TIERS:
        for row in tiers[tier]:
            sources.setdefault(row.source, []).append(row)
    return list(sources.items())
