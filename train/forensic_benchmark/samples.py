"""The biased dataset and its tiers: images by the miniature generators as PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import forensic_train
from forensic_benchmark.checkpoints import CHECKPOINTS, THIRD_SEED, Checkpoint, draw_images, torch_generator_for
from forensic_benchmark.generators.families import OUTSIDER, PAPER_FAMILIES, SWAPPED
from forensic_benchmark.images import read_image, write_png
from forensic_benchmark.scenes import SUBJECTS, render_many
from forensic_cli.card import REAL
from forensic_cli.images.history import blur
from forensic_train.audit import read_counts
from forensic_train.rows import Row

PAPER_COUNTS = Path(forensic_train.__file__).with_name("paper_counts.csv")
"""Images per generator and subject in the paper."""
UNSEEN_SUBJECT = SUBJECTS[-1]
"""The subject that no training image shows."""


@dataclass(frozen=True)
class Plan:
    """Number of images in each tier."""

    training: int = 3500
    """Training images in total; divided as in the paper."""
    seen: int = 60
    """Test images per generator, of cells that the training images have."""
    unseen: int = 60
    """Test images of the unseen subject per checkpoint."""
    adapt: int = 30
    """Images of the unseen subject per generator that `finetune` adapts to."""


FULL = Plan()
"""About the paper's proportions at a thirty-fifth of its size."""
QUICK = Plan(training=180, seen=6, unseen=6, adapt=6)
"""Enough to see that everything works together."""


@dataclass(frozen=True)
class Cell:
    """Images by one generator of one subject in one tier."""

    tier: str
    """Name of the tier."""
    checkpoint: Checkpoint | None
    """Generator that draws them; None: untouched scenes."""
    subject: str
    """What the images show."""
    count: int
    """Number of images."""

    @property
    def source(self) -> str:
        """The checkpoint's name, or `real`."""
        return self.checkpoint.stem if self.checkpoint else REAL

    def rows(self, folder: Path) -> list[Row]:
        """Return the rows of its images below a folder."""
        generator = self.checkpoint.name if self.checkpoint else REAL
        place = folder / self.tier / self.source / self.subject
        return [
            Row(place / f"{i:04}.png", generator, self.subject, source=self.source, split="test")
            for i in range(self.count)
        ]

    def drawn(self, folder: Path) -> bool:
        """Tell whether all its images exist."""
        return all(row.path.exists() for row in self.rows(folder))


def plan_cells(plan: Plan, folder: Path = CHECKPOINTS) -> list[Cell]:
    """Return every cell of every tier.

    `train`, `seen`, `adapt`, `unseen`: checkpoints of seed 0. `second`: half as many training images, of seed 1.
    `separate`: the unseen subject from checkpoints of seed 1 and THIRD_SEED. `outsider`, `real`, `swapped`: the unseen
    subject by a generator that is never trained on, as scenes, and by generators with the up-sampling of another one.
    """
    cells = []
    for name, counts in scaled_counts(plan.training).items():
        checkpoint, shown = Checkpoint(name, 0, folder), len(counts)
        cells += [Cell("train", checkpoint, subject, n) for subject, n in counts.items()]
        cells += [Cell("seen", checkpoint, subject, plan.seen // shown) for subject in counts]
    for name, counts in scaled_counts(plan.training // 2).items():
        cells += [Cell("second", Checkpoint(name, 1, folder), subject, n) for subject, n in counts.items()]
    for tier, seed, count in (
        ("adapt", 0, plan.adapt),
        ("unseen", 0, plan.unseen),
        ("separate", 1, plan.unseen),
        ("separate", THIRD_SEED, plan.unseen),
    ):
        cells += [Cell(tier, Checkpoint(name, seed, folder), UNSEEN_SUBJECT, count) for name in PAPER_FAMILIES]
    cells.append(Cell("outsider", Checkpoint(OUTSIDER, 0, folder), UNSEEN_SUBJECT, plan.unseen))
    for name in SWAPPED.values():
        cells.append(Cell("swapped", Checkpoint(name, 0, folder), UNSEEN_SUBJECT, plan.unseen))
    cells.append(Cell("real", None, UNSEEN_SUBJECT, plan.unseen))
    return cells


def scaled_counts(total: int) -> dict[str, dict[str, int]]:
    """Return the paper's non-empty cells {generator: {subject: images}}, scaled to about `total`; at least one each."""
    counts = read_counts(PAPER_COUNTS)
    factor = total / sum(sum(row.values()) for row in counts.values())
    return {
        generator: {subject: max(1, round(n * factor)) for subject, n in counts[generator].items() if n}
        for generator in PAPER_FAMILIES
    }


def draw_cells(cells: Sequence[Cell], folder: Path) -> None:
    """Write the images of cells of one checkpoint; complete cells are kept."""
    wanted = [cell for cell in cells if not cell.drawn(folder)]
    if not wanted:
        return
    generator = wanted[0].checkpoint.load() if wanted[0].checkpoint else None
    for cell in wanted:
        subjects = np.full(cell.count, SUBJECTS.index(cell.subject))
        purpose = f"{cell.tier}/{cell.source}/{cell.subject}"
        if generator is None:
            images = render_many(subjects.tolist(), purpose)
        else:
            images = draw_images(generator, subjects, torch_generator_for(purpose, 0))
        for row, pixels in zip(cell.rows(folder), images, strict=True):
            write_png(row.path, pixels)


def tier_rows(cells: Sequence[Cell], folder: Path) -> dict[str, list[Row]]:
    """Return the rows of each tier."""
    tiers: dict[str, list[Row]] = {}
    for cell in cells:
        tiers.setdefault(cell.tier, []).extend(cell.rows(folder))
    return tiers


def copies(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Return the rows of copies of images below another folder."""
    return [replace(row, path=folder / row.source / row.subject / row.path.name) for row in rows]


def write_softened(row: Row, copy: Row, width: float) -> None:
    """Write the copy of an image, low-passed with a Gaussian of this width in pixels; 0 leaves it as it is."""
    pixels = read_image(row.path)
    write_png(copy.path, blur(pixels, width) if width else pixels)
