"""The model card as Markdown, generated from the card inside the export."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forensic_cli.card import ConformalSets, Counts, LikelihoodRatio, ModelCard
from forensic_cli.ensemble import UNKNOWN, known_labels
from forensic_cli.reencode import ORIGINAL, REENCODINGS

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
        "## Views and calibration",
        _views(card),
        _calibration(card),
        *_sets(card),
        *_likelihood_ratios(card),
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
    conclusive = metrics["conclusive_accuracy"]
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
        f"{metrics['worst_cell_images']}. At the default threshold {metrics['inconclusive']:.1%} are `inconclusive`"
        + (f", and {conclusive:.1%} of the others are right." if conclusive is not None else ".")
        + _named(metrics)
    )
    rows: list[list[object]] = [
        [c["generator"], *(f"{c[key]:.2f}" for key in ("precision", "recall", "f1")), c["support"]]
        for c in metrics["classes"]
    ]
    macro = [f"{metrics[key]:.2f}" for key in ("precision", "recall", "f1")]
    rows.append(["macro average", *macro, metrics["images"]])
    return f"{text}\n\n{markdown_table(['generator', 'precision', 'recall', 'F1', 'support'], rows)}"


def ratios_markdown(ratios: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what likelihood ratios cost on one image set, by label."""
    rows: list[list[object]] = [
        [
            label,
            *(f"{one[key]:.3f}" for key in ("cllr", "cllr_min", "cllr_cal")),
            one["images_for"],
            one["images_against"],
        ]
        for label, one in ratios.items()
    ]
    header = ["log10 LR of", "Cllr", "Cllr_min", "Cllr_cal", "images of it", "of others"]
    return f"{markdown_table(header, rows)}\n\n{_COSTS}"


def _precision(found: Mapping[str, Any]) -> str:
    ranges = f", calibrated on {found['calibration_images']} training images" if found["calibration_images"] else ""
    if found.get("range_method"):
        ranges += f" (ranges by {found['range_method']})"
    text = (
        f"The weights are {found['precision']}{ranges}. On {found['images']} images ({found['set']}) "
        f"{found['same_label']:.1%} get the label that float32 gives them; accuracy {found['accuracy']:.3f} (float32 "
        f"{found['accuracy_fp32']:.3f}), expected calibration error {found['ece']:.3f} (float32 "
        f"{found['ece_fp32']:.3f}) at the temperature that suits float32."
    )
    if "p_value" not in found:  # an export of an earlier version
        return text
    differing = found["only_fp32_right"] + found["only_reduced_right"]
    return (
        f"{text} Of the {differing} images that only one of the two gets right, float32 has "
        f"{found['only_fp32_right']} (exact one-sided McNemar test, p {found['p_value']:.3f})."
    )


def _named(metrics: Mapping[str, Any]) -> str:
    named, right = metrics.get("named"), metrics.get("named_accuracy")
    if named is None:
        return ""
    text = f" With the candidates at the default coverage, the verdict names a label for {named:.1%}"
    return text + (f"; {right:.1%} of these names are right." if right is not None else ".")


def _sets(card: ModelCard) -> list[str]:
    sets = card.sets
    if sets is None:
        return []
    return ["## Candidates", _sets_text(card, sets), *([_sets_table(sets)] if sets.measured else [])]


def _sets_text(card: ModelCard, sets: ConformalSets) -> str:
    verdicts = (
        "Beside its verdict every image gets a set of candidates, the labels that its scores do not rule out. One "
        "candidate with enough confidence is named, several are `inconclusive`, none is `unknown`."
    )
    if UNKNOWN in card.labels:
        verdicts += (
            " The model's own output `unknown` is never a candidate; where it is on top the verdict is `unknown`."
        )
    measured = (
        "The table was measured on groups that were left out when the limits were taken."
        if sets.measured
        else "All images belong to one group, so no figures for other groups can be given."
    )
    return (
        f"{verdicts}\n\nAt coverage {sets.default} (the default; `--coverage` chooses another) at least that share "
        "of a label's images have it among their candidates, in every group of validation images that is large "
        f"enough to tell. It holds for images like those, not for other sources. {_validation(sets.note)} {measured}"
    )


def _sets_table(sets: ConformalSets) -> str:
    rows: list[list[object]] = [
        [level, f"{one.coverage:.3f}", f"{one.worst_coverage:.3f}", f"{one.size:.2f}"]
        for level, one in sorted(sets.measured.items())
    ]
    return markdown_table(["coverage asked for", "reached", "in the worst group", "candidates an image"], rows)


def _likelihood_ratios(card: ModelCard) -> list[str]:
    if not card.likelihood_ratios:
        return []
    text = (
        "A likelihood ratio compares two statements: the image is of this label, or it is of another one of the known "
        "labels, each of them equally likely beforehand. log10 LR +2 says that the scores are 100 times more probable "
        "under the first, 0 says nothing, and below 0 speaks for another label. It is not the probability of either "
        "statement, and it says nothing of a generator that is not among the labels. Values stop at the bounds, the "
        f"most that the validation images support (ELUB). {_validation(card.validation)} A cost is measured on groups "
        "of images that were left out of the fit in turn; where the column of groups says `chance`, the label has too "
        "few groups and parts were drawn by chance, so that its cost is probably too low for other groups."
    )
    header = ["label", "least", "greatest", "Cllr", "Cllr_min", "Cllr_cal", "images of it", "of others", "groups"]
    rows = [_ratio_row(label, one) for label, one in card.likelihood_ratios.items()]
    return ["## Likelihood ratios", text, markdown_table(header, rows), _COSTS]


def _ratio_row(label: str, one: LikelihoodRatio) -> list[object]:
    costs = ["–" if cost is None else f"{cost:.3f}" for cost in (one.cllr, one.cllr_min, one.cllr_cal)]
    bounds = [f"{one.lower:+.2f}", f"{one.upper:+.2f}"]
    return [label, *bounds, *costs, one.images_for, one.images_against, one.groups or "chance"]


def _validation(described: str) -> str:
    return f"Validation: {described}" if described else ""


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
        "an image's logits are the mean over its patches."
    )


def _calibration(card: ModelCard) -> str:
    one = card.calibration
    if not one.images:
        return "Scores are not calibrated."
    return (
        f"Scores are softmax(logits / {one.temperature:.3f}), fitted on {one.images} images: "
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
