"""What the cards of the models say of how good they are: tables for the page, with the models side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forensic_cli.card import LikelihoodRatio, ModelCard
from forensic_cli.ensemble import known_labels
from forensic_cli.reencode import ORIGINAL, REENCODINGS

_SETS = ("left-out", "unseen", "test")
"""Image sets in a card's metrics, the hardest first."""
_UNKNOWN_FIGURE = "–"


@dataclass(frozen=True)
class Table:
    """A table of the page; its first column are the names of the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def card_tables(cards: Sequence[ModelCard], coverage: float | None) -> list[Table]:
    """Return the validation figures of the cards; a table that would be empty is left out."""
    tables = [_accuracy(cards), _recall(cards), _sets(cards, coverage), _ratios(cards), _robustness(cards)]
    return [table for table in tables if table.rows]


def limits(cards: Sequence[ModelCard]) -> list[str]:
    """Return the limits that the cards name, each one once."""
    return list(dict.fromkeys(str(limit) for card in cards for limit in card.limits))


def _accuracy(cards: Sequence[ModelCard]) -> Table:
    rows = []
    for card, measured in _measured(cards):
        low, high = measured.get("interval") or (None, None)
        interval = f" ({_share(low)} to {_share(high)})" if _is_number(low) and _is_number(high) else ""
        rows.append(
            [
                card.name,
                str(measured.get("images", _UNKNOWN_FIGURE)),
                _share(measured.get("accuracy")) + interval,
                _share(measured.get("recall")),
                _share(measured.get("ece")),
                _share(measured.get("named")),
                _share(measured.get("named_accuracy")),
            ]
        )
    header = ("model", "images", "right (95 % interval)", "mean over generators", "confidence is off by")
    return Table("How often the models are right", (*header, "named by default", "of these right"), rows)


def _recall(cards: Sequence[ModelCard]) -> Table:
    measured = [
        (card, {str(c.get("generator")): c for c in found.get("classes", ())}) for card, found in _measured(cards)
    ]
    labels = dict.fromkeys(label for card, _ in measured for label in known_labels(card.labels))
    rows = [[label, *(_share(classes.get(label, {}).get("recall")) for _, classes in measured)] for label in labels]
    caption = "Of the images that truly are of a label, the share that the model gives that label"
    return Table(caption, ("label", *(card.name for card, _ in measured)), rows if measured else [])


def _sets(cards: Sequence[ModelCard], coverage: float | None) -> Table:
    rows = []
    for card in cards:
        for level, one in sorted((card.sets.measured if card.sets else {}).items()):
            if coverage is not None and float(level) == coverage:
                rows.append([card.name, level, _share(one.coverage), _share(one.worst_coverage), f"{one.size:.2f}"])
    header = ("model", "asked for", "reached", "in the worst group of images", "candidates an image")
    return Table("How often the true label is among the candidates", header, rows)


def _ratios(cards: Sequence[ModelCard]) -> Table:
    having = [card for card in cards if card.likelihood_ratios]
    labels = dict.fromkeys(label for card in having for label in card.likelihood_ratios)
    rows = [[label, *(_ratio(card.likelihood_ratios.get(label)) for card in having)] for label in labels]
    caption = "Least and greatest log10 LR that the validation supports, and its cost in bits (0 perfect, 1 worthless)"
    return Table(caption, ("log10 LR of", *(card.name for card in having)), rows)


def _ratio(one: LikelihoodRatio | None) -> str:
    return _UNKNOWN_FIGURE if one is None else f"{one.lower:+.1f} to {one.upper:+.1f}, {_cost(one.cllr)}"


def _robustness(cards: Sequence[ModelCard]) -> Table:
    having = [card for card in cards if card.robustness]
    names = [name for name in (ORIGINAL, *REENCODINGS) if any(name in card.robustness for card in having)]
    rows = [[name, *(_share(_figure(card.robustness.get(name), "macro_recall")) for card in having)] for name in names]
    caption = "Mean share of right answers over the generators, when the images were changed first"
    return Table(caption, ("change", *(card.name for card in having)), rows)


def _measured(cards: Sequence[ModelCard]) -> Iterable[tuple[ModelCard, Mapping[str, Any]]]:
    for card in cards:
        name = next((name for name in _SETS if isinstance(card.metrics.get(name), Mapping)), None)
        if name is not None:
            yield card, card.metrics[name]


def _figure(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _share(value: Any) -> str:
    return f"{value * 100:.1f} %" if _is_number(value) else _UNKNOWN_FIGURE


def _cost(value: Any) -> str:
    return f"{value:.2f}" if _is_number(value) else _UNKNOWN_FIGURE


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
