"""The techniques, one file each. Another one is one new file with a Technique in it, and one line here."""

from collections.abc import Mapping

from forensic_cli.errors import UsageError
from forensic_train.techniques.adversarial import Adversarial
from forensic_train.techniques.base import Technique
from forensic_train.techniques.baseline import Baseline
from forensic_train.techniques.discriminant import Discriminant
from forensic_train.techniques.finetune import Finetune
from forensic_train.techniques.weighted import Weighted

TECHNIQUES: Mapping[str, type[Technique]] = {
    one.name: one for one in (Baseline, Weighted, Finetune, Adversarial, Discriminant)
}
"""Every technique by its name, those that others start from first."""
ALL = "all"


def splits_behind(kind: type[Technique]) -> tuple[str, ...]:
    """Return every split that a technique's weights come from, those of what it starts from included."""
    before = splits_behind(TECHNIQUES[kind.starts_from]) if kind.starts_from else ()
    return (*before, *kind.splits)


def find_techniques(name: str) -> list[type[Technique]]:
    """Return one technique, or all in dependency order. Raises UsageError with the allowed names."""
    if name == ALL:
        return list(TECHNIQUES.values())
    if name not in TECHNIQUES:
        raise UsageError(f"technique {name!r} is not known; allowed: {', '.join(TECHNIQUES)}, {ALL}")
    return [TECHNIQUES[name]]
