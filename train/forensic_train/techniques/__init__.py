"""The techniques, one file each. To add one, write a file with a Technique and add a line here."""

from collections.abc import Mapping

from forensic_cli.errors import UsageError
from forensic_train.techniques.adversarial import Adversarial
from forensic_train.techniques.base import Technique
from forensic_train.techniques.baseline import Baseline
from forensic_train.techniques.discriminant import Discriminant
from forensic_train.techniques.finetune import Finetune
from forensic_train.techniques.weighted import Weighted

TECHNIQUES: Mapping[str, type[Technique]] = {
    kind.name: kind for kind in (Baseline, Weighted, Finetune, Adversarial, Discriminant)
}
"""Every technique by its name; those that others start from come first."""
ALL = "all"


def splits_behind(kind: type[Technique]) -> tuple[str, ...]:
    """Return every split that a technique is fitted on, including those of the technique it starts from."""
    before = splits_behind(TECHNIQUES[kind.starts_from]) if kind.starts_from else ()
    return (*before, *kind.splits)


def find_techniques(name: str) -> list[type[Technique]]:
    """Return one technique, or all in dependency order. Raises UsageError with the allowed names."""
    if name == ALL:
        return list(TECHNIQUES.values())
    if name not in TECHNIQUES:
        raise UsageError(f"technique {name!r} is not known; allowed: {', '.join(TECHNIQUES)}, {ALL}")
    return [TECHNIQUES[name]]
