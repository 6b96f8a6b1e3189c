"""The model card as Markdown, generated from the card inside the export."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forensic_cli.card import NEVER, Counts, Decision, LikelihoodRatio, ModelCard
from forensic_cli.images.history import ORIGINAL, REENCODINGS
from forensic_cli.verdict import known_labels

_COSTS = (
    "Cllr is the cost of the ratios in bits: 0 is perfect, 1 is what a ratio that never says anything would cost. "
    "Cllr_min is the part that better separation would save, Cllr_cal the part that better calibration would."
)


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
        *_decisions(card),
        "## Fitted on",
        counts_table(card.data, "generator"),
    ]
    if card.sources:
        parts += ["### Sources", counts_table(card.sources, "source")]
    parts.append("## Measured")
    parts += [metrics_markdown(name, metrics) for name, metrics in card.metrics.items()] or ["Not evaluated."]
    if card.robustness:
        parts += ["### Under re-encoding", *_robustness(card.robustness)]
    if card.precision:
        parts += ["### Reduced precision", _precision(card.precision)]
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
    described = {
        "test": "held out of every technique's training",
        "unseen": "all unseen images, the part that `finetune` adapts to included",
        "left-out": "each judged by a model of the same kind from whose training it was left out; an export that was "
        "fitted on all images is not that model",
    }
    text = (
        f"**{name}** ({described.get(name, 'labelled images')}): {metrics['images']} images, "
        f"accuracy {metrics['accuracy']:.3f} (95 % Wilson interval {low:.3f} to {high:.3f}), expected calibration "
        f"error {metrics['ece']:.3f}. Worst cell: {metrics['worst_cell']}, {metrics['worst_cell_accuracy']:.3f} of "
        f"{metrics['worst_cell_images']}." + _named(metrics)
    )
    rows: list[list[object]] = [
        [c["generator"], *(f"{c[key]:.2f}" for key in ("precision", "recall", "f1")), c["support"]]
        for c in metrics["classes"]
    ]
    macro = [f"{metrics[key]:.2f}" for key in ("precision", "recall", "f1")]
    rows.append(["macro average", *macro, metrics["images"]])
    return f"{text}\n\n{markdown_table(['generator', 'precision', 'recall', 'F1', 'support'], rows)}"


def _precision(found: Mapping[str, Any]) -> str:
    ranges = f", calibrated on {found['calibration_images']} training images" if found["calibration_images"] else ""
    if found.get("range_method"):
        ranges += f" (ranges by {found['range_method']})"
    text = (
        f"The weights are {found['precision']}{ranges}. On {found['images']} images ({found['set']}) "
        f"{found['same_label']:.1%} get the label that float32 gives them; accuracy {found['accuracy']:.3f} (float32 "
        f"{found['accuracy_fp32']:.3f}), expected calibration error {found['ece']:.3f} (float32 "
        f"{found['ece_fp32']:.3f}) of uncalibrated scores."
    )
    if "p_value" not in found:  # an export of an earlier version
        return text
    differing = found["only_fp32_right"] + found["only_reduced_right"]
    return (
        f"{text} Of the {differing} images that only one of the two gets right, float32 has "
        f"{found['only_fp32_right']} (exact one-sided McNemar test, p {found['p_value']:.3f})."
    )


def _named(metrics: Mapping[str, Any]) -> str:
    """Return what a scan's answers on these images were worth; nothing where that was not worked out."""
    if metrics.get("decided") is None:
        return ""
    return (
        f" A scan's headline is not `undecided` for {metrics['decided']:.1%}, of these "
        f"{_percent(metrics['decided_accuracy'])} are right; it names a generator for {metrics['named']:.1%}, of these "
        f"{_percent(metrics['named_accuracy'])} rightly."
    )


STATE_COLUMNS = (
    *("state", "images", "sources", "macro recall", "AUROC generated/real", "decided", "of these right"),
    *("real called generated", "generated named", "of the names right", "ECE"),
)
"""Of a table of answers by state."""
_ANSWERS = ("label right", "headline right", "headline wrong", "named rightly", "named wrongly")
LABEL_COLUMNS = ("state", "label", "images", "sources", *_ANSWERS)
SOURCE_COLUMNS = ("label", "source", "images", *_ANSWERS)


def state_rows(states: Mapping[str, Mapping[str, Any]], silent: Sequence[str] = ()) -> Iterator[list[object]]:
    """Yield a line for each state, and for what its images are: as they were found, or in all forms.

    Of a `silent` state the line says what its answers would have been worth.
    """
    for state, measured in states.items():
        for forms, figures in measured.items():
            yield [
                f"{state}, {forms}" + (" (gives no answer)" if state in silent else ""),
                figures["images"],
                figures["sources"],
                f"{_interval(figures, 'macro_recall')} of {figures['labels']} labels",
                _interval(figures, "auroc"),
                _interval(figures, "decided"),
                _interval(figures, "decided_right"),
                _interval(figures, "real_called_generated"),
                _interval(figures, "named"),
                _interval(figures, "named_right"),
                "–" if figures["ece"] is None else f"{figures['ece']:.2f}",
            ]


def _interval(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    if value is None:
        return "–"
    low, high = figures["intervals"].get(name, (value, value))
    return f"{value:.2f} ({low:.2f}–{high:.2f})"


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _decisions(card: ModelCard) -> list[str]:
    if not card.decisions:
        return ["## Answers", "No image was kept to decide by: every picture is `undecided`."]
    text = (
        "A picture's state is read from its file: lossless, WebP, or a JPEG's quality. Each state has weights and "
        "thresholds of its own; pictures in other states stay `undecided`. Figures are of sources that neither the "
        "judging model nor the thresholds had seen, with 95 % intervals over sources; `as found` are images as they "
        "were published, `all forms` also their compressed, resized and re-saved forms. The same folds were looked at "
        "when the recipe was chosen, so expect a little less on sources of another kind. Shares are at even odds: "
        "sources weigh the same within their label, labels within generated, and generated as much as real. A kind of "
        f"headline of which fewer than nine in ten were right is not given. Validation: {card.validation}"
    )
    parts = ["## Answers", text]
    if any(decision.measured for decision in card.decisions.values()):
        measured = {state: decision.measured for state, decision in card.decisions.items()}
        silent = [state for state, one in card.decisions.items() if one.is_silent]
        parts.append(markdown_table(STATE_COLUMNS, list(state_rows(measured, silent))))
    parts += ["### Thresholds", markdown_table(_THRESHOLDS, [_thresholds(*item) for item in card.decisions.items()])]
    return [*parts, *_likelihood_ratios(card)]


_THRESHOLDS = ("state", "generated from p", "real up to p", "name from", "short list holds", "farthest")


def _thresholds(state: str, one: Decision) -> list[object]:
    cells = ["never" if abs(value) >= NEVER else f"{value:.4f}" for value in (one.generated_from, one.real_to)]
    return [
        state,
        *cells,
        one.names_in_words,
        f"{one.shortlist:.2f}",
        "–" if one.farthest is None else f"{one.farthest:.2f}",
    ]


def _likelihood_ratios(card: ModelCard) -> list[str]:
    rows = [
        [state, label, *_ratio_row(ratio)]
        for state, decision in card.decisions.items()
        for label, ratio in (("generated / real", decision.generated), *decision.ratios.items())
        if ratio is not None
    ]
    if not rows:
        return ["### Likelihood ratios", "None is clearly better than silence on left-out sources, so none is given."]
    text = (
        "A ratio compares two statements: a generator made the picture, or it is real; or, for a generator, it made "
        "the picture or another known one did, each equally likely beforehand. log10 LR +2 says that the scores are "
        "100 times more probable under the first. It is the probability of neither. Values stop at the bounds that the "
        "validation images support (ELUB). A statement whose cost on left-out sources is not clearly below 1 (97.5 % "
        "quantile over resampled sources) has no ratio."
    )
    header = [
        "state",
        "statement",
        "least",
        "greatest",
        "Cllr",
        "Cllr_min",
        "Cllr_cal",
        "images for",
        "against",
        "sources",
    ]
    return ["### Likelihood ratios", text, markdown_table(header, rows), _COSTS]


def _ratio_row(one: LikelihoodRatio) -> list[object]:
    costs = ["–" if cost is None else f"{cost:.3f}" for cost in (one.cllr, one.cllr_min, one.cllr_cal)]
    return [f"{one.lower:+.2f}", f"{one.upper:+.2f}", *costs, one.images_for, one.images_against, one.groups]


def _robustness(measured: Mapping[str, Any]) -> list[str]:
    """Return a sentence and a table of what re-encodings change."""
    images = next(iter(measured.values())).get("set", "test")
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
        f"The images of **{images}**, changed as platforms and editors change them, and judged again.",
        markdown_table(["re-encoding", "images", "accuracy", "change", "macro recall"], rows),
    ]


def _views(card: ModelCard) -> str:
    size, grid = card.preprocessing.size, card.preprocessing.grid
    if card.preprocessing.mode == "whole":
        return f"The whole image is resized to {size} x {size} pixels."
    return (
        f"Patches of {size} x {size} pixels at native resolution on an even grid of at most {grid} x {grid}; "
        "their evidence is averaged before an image is judged."
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
