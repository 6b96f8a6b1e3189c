"""The model card as Markdown, generated from the card inside the export."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forensic_cli.card import Counts, ModelCard
from forensic_cli.reencode import ORIGINAL, REENCODINGS


def card_markdown(card: ModelCard, file_name: str) -> str:
    """Return the text of the model card that lies beside an export."""
    parts = [
        f"# {card.name}",
        f"Technique `{card.technique}`, recipe `{card.recipe}`, file `{file_name}`. "
        f"Exported {card.created} by genforensic {card.genforensic}.",
        f"Names one of: {', '.join(card.labels)}.",
        "## How to read it",
        "\n".join(f"- {limit}" for limit in card.limits),
        "## Views and calibration",
        _views(card),
        _calibration(card),
        "## Fitted on",
        counts_table(card.data, "generator"),
    ]
    if card.sources:
        parts += ["### Sources", counts_table(card.sources, "source")]
    parts.append("## Measured")
    parts += [metrics_markdown(name, metrics) for name, metrics in card.metrics.items()] or ["Not evaluated."]
    if card.robustness:
        parts += ["### Under re-encoding", *_robustness(card.robustness)]
    parts += ["## Training", _settings(card.training)]
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; all but the first column are aligned right. Raises ValueError for ragged rows."""
    if any(len(row) != len(header) for row in rows):
        raise ValueError(f"a row has another number of cells than the header {list(header)}")
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def counts_table(counts: Counts, corner: str) -> str:
    """Return a table of counts with totals."""
    columns = sorted({name for row in counts.values() for name in row})
    rows = [
        [name, *(row.get(column, 0) or "·" for column in columns), sum(row.values())] for name, row in counts.items()
    ]
    return markdown_table([corner, *(column or "–" for column in columns), "total"], rows)


def metrics_markdown(name: str, metrics: Mapping[str, Any]) -> str:
    """Return one image set's figures as a paragraph and the paper's table."""
    low, high = metrics["interval"]
    conclusive = metrics["conclusive_accuracy"]
    described = {
        "test": "held out of every technique's training",
        "unseen": "all unseen images, the part that `finetune` adapts to included",
    }
    text = (
        f"**{name}** ({described.get(name, 'labelled images')}): {metrics['images']} images, "
        f"accuracy {metrics['accuracy']:.3f} (95 % Wilson interval {low:.3f} to {high:.3f}), expected calibration "
        f"error {metrics['ece']:.3f}. Worst cell: {metrics['worst_cell']}, {metrics['worst_cell_accuracy']:.3f} of "
        f"{metrics['worst_cell_images']}. At the default threshold {metrics['inconclusive']:.1%} are `inconclusive`"
        + (f", and {conclusive:.1%} of the others are right." if conclusive is not None else ".")
    )
    rows: list[list[object]] = [
        [c["generator"], *(f"{c[key]:.2f}" for key in ("precision", "recall", "f1")), c["support"]]
        for c in metrics["classes"]
    ]
    macro = [f"{metrics[key]:.2f}" for key in ("precision", "recall", "f1")]
    rows.append(["macro average", *macro, metrics["images"]])
    return f"{text}\n\n{markdown_table(['generator', 'precision', 'recall', 'F1', 'support'], rows)}"


def _robustness(measured: Mapping[str, Any]) -> list[str]:
    """Return a sentence and a table of what the test images' re-encodings change."""
    start = measured.get(ORIGINAL, {}).get("accuracy")
    order = {name: place for place, name in enumerate((ORIGINAL, *REENCODINGS))}  # JSON keeps the card's keys sorted
    rows: list[list[object]] = [
        [
            name,
            one["images"],
            f"{one['accuracy']:.3f}",
            "–" if start is None else f"{one['accuracy'] - start:+.3f}",
            f"{one['macro_recall']:.3f}",
        ]
        for name, one in sorted(measured.items(), key=lambda item: order.get(item[0], len(order)))
    ]
    return [
        "The images of **test**, changed as platforms and editors change them, and judged again.",
        markdown_table(["re-encoding", "images", "accuracy", "change", "macro recall"], rows),
    ]


def _views(card: ModelCard) -> str:
    size, grid = card.preprocessing.size, card.preprocessing.grid
    if card.preprocessing.mode == "whole":
        return f"The whole image is resized to {size} x {size} pixels."
    return (
        f"Patches of {size} x {size} pixels at native resolution on an even grid of at most {grid} x {grid}; "
        "an image's logits are the mean over its patches."
    )


def _calibration(card: ModelCard) -> str:
    one = card.calibration
    if not one.images:
        return "Scores are not calibrated."
    return (
        f"Scores are softmax(logits / {one.temperature:.3f}), fitted on {one.images} images of the training sources: "
        f"expected calibration error {one.ece_before:.3f} before, {one.ece_after:.3f} after. "
        f"Below a confidence of {card.threshold:.3f} the verdict is `inconclusive`."
    )


def _settings(training: Mapping[str, Any]) -> str:
    lines = [f"- seed {training.get('seed')}, fitted on the split {', '.join(training.get('splits', ()))}"]
    if training.get("starts_from"):
        lines.append(f"- starts from {training['starts_from']}")
    if training.get("holdout"):
        lines.append(f"- held out: {', '.join(training['holdout'])}")
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in training.get("settings", {}).items()))
    lines.append("- " + ", ".join(_flat(training.get("environment", {}))))
    lines.append(f"- sha256 over the split: `{training.get('split_sha256')}`")
    return "\n".join(lines)


def _flat(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield f"{name} {value}"
