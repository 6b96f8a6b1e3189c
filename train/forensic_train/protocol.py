"""The paper's protocol for one's own data: what a user asks for, the split that follows, and whether it can be run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from forensic_cli.errors import DataError, UsageError
from forensic_train.fit import FitOptions
from forensic_train.manifest import read_manifest, with_hashes
from forensic_train.paper import TECHNIQUES
from forensic_train.recipes import find_recipe
from forensic_train.rows import Row, Rows
from forensic_train.settings import make_settings
from forensic_train.splits import SplitShares, components, redraw_adapt, split_rows
from forensic_train.techniques import find_techniques
from forensic_train.training_plan import TrainOptions, check_needs

_ADAPT = 0.8
"""Share of the unseen images that finetune adapts to (143 of 180 in PAPER)."""


@dataclass(frozen=True)
class Protocol:
    """What a user asks of `genforensic reproduce`."""

    data: Path
    """A labelled folder or a manifest without a split."""
    holdout: str
    """`subject=NAME`: the subject that training never sees."""
    output: Path
    """Folder for runs and report."""
    recipe: str = "paper"
    """Name in RECIPES."""
    seeds: int = 3
    """Number of seeds; the first is 0."""
    val: float = 0.1
    """Share of the images of seen subjects that is measured instead of trained on; 0 as in PAPER."""
    adapt: int | None = None
    """Unseen images that finetune adapts to, drawn regardless of generator; None: four fifths."""
    overrides: Mapping[str, str] = field(default_factory=dict)
    """{setting: its value as text}."""
    device: str = "auto"
    """auto, cpu or cuda."""
    workers: int = 0
    """Processes that load images."""

    @property
    def subject(self) -> str:
        """The unseen subject. Raises UsageError if `holdout` is not `subject=NAME`."""
        name, _, value = self.holdout.partition("=")
        if name != "subject" or not value:
            raise UsageError(f"--holdout {self.holdout!r} is not understood; write subject=NAME")
        return value


def split_images(protocol: Protocol) -> Rows:
    """Read the data and split it for seed 0; other seeds only draw `adapt` again.

    All unseen images show the held-out subject, or share a group or their bytes with one that does.
    """
    subject = protocol.subject
    rows = read_manifest(protocol.data)
    if any(row.split for row in rows):
        raise UsageError(f"{protocol.data}: has a split column; remove it, because --holdout decides the split")
    known = sorted({row.subject for row in rows})
    if subject not in known:
        raise UsageError(f"--holdout {protocol.holdout!r} matches no row; subjects are: {', '.join(known[:40])}")
    rows = with_hashes(rows)
    parts = components(rows)
    held = {part for row, part in zip(rows, parts, strict=True) if row.subject == subject}
    declared = rows.with_splits("test" if part in held else "train" for part in parts)
    return split_rows(declared, 0, shares=_shares(protocol, declared))


def shown_images(protocol: Protocol, rows: Rows) -> Rows:
    """Leave out images of other subjects that are unseen only because they go with the subject."""
    return rows.take([row.split in ("train", "val") or row.subject == protocol.subject for row in rows])


def draw_adapt(protocol: Protocol, rows: Rows, seed: int) -> Rows:
    """Return the split of another seed, in which finetune adapts to other images."""
    return rows if seed == 0 else redraw_adapt(rows, seed, _shares(protocol, rows))


def _shares(protocol: Protocol, rows: Sequence[Row]) -> SplitShares:
    unseen = sum(row.split in ("adapt", "test") for row in rows)
    adapt = max(1, round(_ADAPT * unseen)) if protocol.adapt is None else protocol.adapt
    return SplitShares(val=protocol.val, adapt_images=adapt)


def seed_folder(protocol: Protocol, seed: int) -> Path:
    """Return the run folder of a seed; it can be given to `genforensic evaluate`."""
    return protocol.output / f"seed-{seed}"


def train_options(protocol: Protocol, technique: str, seed: int) -> TrainOptions:
    """Return what is asked of `train`, with only those settings that the technique has."""
    names = {setting.name for kind in find_techniques(technique) for setting in fields(kind.settings_type)}
    overrides = {name: text for name, text in protocol.overrides.items() if name.rpartition(".")[2] in names}
    return TrainOptions(
        technique,
        None,
        seed_folder(protocol, seed),
        protocol.recipe,
        seed,
        protocol.device,
        holdout=(protocol.holdout,),
        overrides=overrides,
        fit=FitOptions(resume=True, workers=protocol.workers),
        signals=protocol.output,
    )


def check_protocol(protocol: Protocol, rows: Sequence[Row]) -> None:
    """Raise for everything that can be known before hours of training."""
    recipe = find_recipe(protocol.recipe)
    kinds = [kind for name in TECHNIQUES for kind in find_techniques(name)]
    for kind in kinds:
        make_settings(kind, recipe, protocol.overrides, strict=False)
    unseen = {row.generator for row in rows if row.subject == protocol.subject}
    if len(unseen) < 2:
        raise DataError(
            f"only {', '.join(sorted(unseen))} has images of {protocol.subject}; hold out a subject that at least two "
            "generators have"
        )
    check_needs(train_options(protocol, TECHNIQUES[0], 0), kinds, recipe, rows)
