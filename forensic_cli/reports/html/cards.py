"""What the cards of the models say of how good they are: tables for the page, with the models side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forensic_cli.card import NEVER, Decision, ModelCard
from forensic_cli.images.history import ORIGINAL, REENCODINGS
from forensic_cli.verdict import known_labels

_SETS = ("left-out", "unseen", "test")
"""Image sets in a card's metrics, the hardest first."""
_UNKNOWN_FIGURE = "–"


@dataclass(frozen=True)
class Table:
    """A table of the page; its first column are the names of the rows."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def card_tables(cards: Sequence[ModelCard]) -> list[Table]:
    """Return the validation figures of the cards; a table that would be empty is left out."""
    tables = [_accuracy(cards), _recall(cards), _thresholds(cards), _measured_figures(cards), _ratios(cards)]
    tables.append(_robustness(cards))
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


def _thresholds(cards: Sequence[ModelCard]) -> Table:
    rows = [
        [f"{card.name}, {state}", *map(_threshold, (one.generated_from, one.real_to)), one.names_in_words]
        for card, state, one in _decisions(cards)
    ]
    header = ("model and state", "generated from p", "real up to p", "named from (probability among the generators)")
    return Table("What an answer hangs on, by how the image is compressed", header, rows)


def _measured_figures(cards: Sequence[ModelCard]) -> Table:
    names = dict.fromkeys(
        name for _, _, one in _decisions(cards) for name, value in one.measured.items() if _is_number(value)
    )
    rows = [
        [f"{card.name}, {state}", *(_plain(one.measured.get(name)) for name in names)]
        for card, state, one in _decisions(cards)
        if names
    ]
    header = ("model and state", *(name.replace("_", " ") for name in names))
    return Table("What was measured on sources that chose none of these numbers", header, rows)


def _ratios(cards: Sequence[ModelCard]) -> Table:
    rows = []
    for card, state, decision in _decisions(cards):
        ratios = {"generated": decision.generated, **decision.ratios}
        rows += [
            [f"{card.name}, {state}, {label}", f"{one.lower:+.1f}", f"{one.upper:+.1f}", _cost(one.cllr)]
            for label, one in ratios.items()
            if one is not None
        ]
    caption = "Least and greatest log10 LR that the validation supports, and its cost in bits (0 perfect, 1 worthless)"
    return Table(caption, ("model, state and statement", "least", "greatest", "cost"), rows)


def _decisions(cards: Sequence[ModelCard]) -> Iterable[tuple[ModelCard, str, Decision]]:
    return ((card, state, decision) for card in cards for state, decision in card.decisions.items())


def _threshold(value: float) -> str:
    return "never" if abs(value) >= NEVER else f"{value:.3f}"


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value) if _is_number(value) else _UNKNOWN_FIGURE


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
