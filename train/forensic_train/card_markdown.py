"""The model card in Markdown, generated from the card inside the export."""

from collections.abc import Iterator, Mapping
from typing import Any

from forensic_cli.card import ModelCard
from forensic_cli.tables import card_tables, counts_table
from forensic_cli.verdict import known_labels


def card_markdown(card: ModelCard, file_name: str) -> str:
    """Return the text of the model card that lies beside an export."""
    parts = [
        f"# {card.name}",
        f"Technique `{card.technique}`, recipe `{card.recipe}`, file `{file_name}`. "
        f"Exported {card.created} by genforensic {card.genforensic}.",
        f"Names one of: {', '.join(known_labels(card.labels))}.",
        "## How to read it",
        "\n".join(f"- {limit}" for limit in card.limits),
        "## Views",
        _views(card),
        "## Validation",
        _validation(card),
        *(table.markdown(2) for table in card_tables(card)),
        counts_table("Training images", card.data, "generator").markdown(2),
    ]
    if card.sources:
        parts.append(counts_table("Sources of the training images", card.sources, "source").markdown(2))
    if card.precision:
        parts += ["## Reduced precision", _precision(card.precision)]
    parts += ["## Training", _settings(card.training)]
    return "\n\n".join(parts) + "\n"


def _views(card: ModelCard) -> str:
    size, grid = card.preprocessing.size, card.preprocessing.grid
    if card.preprocessing.mode == "whole":
        return f"The whole image is resized to {size} x {size} pixels."
    return (
        f"Patches of {size} x {size} pixels at native resolution on an even grid of at most {grid} x {grid}; "
        "their evidence is averaged before an image is judged."
    )


def _validation(card: ModelCard) -> str:
    """Return what the answers were validated on, and what could not be validated."""
    sentences = [card.validation] if card.validation else []
    if not card.decisions:
        sentences.append("No images were set aside to choose thresholds: the answer to every image is `undecided`.")
    elif not any(decision.generated or decision.ratios for decision in card.decisions.values()):
        sentences.append("No likelihood ratio is clearly better than none on left-out sources, so none is given.")
    if not card.metrics:
        sentences.append("Not evaluated.")
    return " ".join(sentences)


def _precision(compared: Mapping[str, Any]) -> str:
    """Return how an export of reduced precision compares with float32, from a quantization.Agreement as a dict."""
    calibrated = f", calibrated on {compared['calibration_images']} training images"
    ranges = f" (ranges by {compared['range_method']})" if compared.get("range_method") else ""
    differing = compared["only_fp32_right"] + compared["only_reduced_right"]
    return (
        f"The weights are {compared['precision']}{calibrated if compared['calibration_images'] else ''}{ranges}. On "
        f"{compared['images']} images ({compared['set']}), {compared['same_label']:.1%} get the same label as with "
        f"float32; accuracy {compared['accuracy']:.3f} (float32 {compared['accuracy_fp32']:.3f}), expected calibration "
        f"error {compared['ece']:.3f} (float32 {compared['ece_fp32']:.3f}) of uncalibrated scores. Of the {differing} "
        f"images that only one of the two gets right, float32 has {compared['only_fp32_right']} (exact one-sided "
        f"McNemar test, p {compared['p_value']:.3f})."
    )


def _settings(training: Mapping[str, Any]) -> str:
    lines = [f"- seed {training.get('seed')}, trained on the split {', '.join(training.get('splits', ()))}"]
    if training.get("starts_from"):
        lines.append(f"- starts from {training['starts_from']}")
    if training.get("holdout"):
        lines.append(f"- held out: {', '.join(training['holdout'])}")
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in training.get("settings", {}).items()))
    lines.append("- " + ", ".join(_flat(training.get("environment", {}))))
    lines.append(f"- SHA-256 of the split: `{training.get('split_sha256')}`")
    return "\n".join(lines)


def _flat(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        else:
            yield f"{name} {value}"
