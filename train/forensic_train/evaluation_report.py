"""The evaluation as people read it: rich tables, Markdown, JSON, and confusion matrices as pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Group
from rich.table import Table

from forensic_train.card_markdown import markdown_table, metrics_markdown, ratios_markdown
from forensic_train.evaluate import Evaluation
from forensic_train.likelihood import held_ratios
from forensic_train.pictures import reliability, tippett
from forensic_train.robustness import RobustnessPoint, by_model
from forensic_train.robustness_report import robustness_tables

_SUMMARY = ("rank", "model", "images", "accuracy (95 % Wilson)", "precision", "recall", "F1", "worst cell")
_DRAWS = "Accuracy over the draws of what finetune adapts to, on the test images of each draw"
_DRAWN = ("model", "draws", "images each", "mean", "standard deviation", "lowest", "highest")


def ranked(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations set by set, best accuracy first."""
    return sorted(evaluations, key=lambda one: (one.images, -one.metrics.accuracy, one.model))


def as_json(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> str:
    """Return every figure as JSON; `robustness` is null where it was not measured."""
    measured = by_model(points)
    found = []
    for one in ranked([*evaluations, *draws]):
        mine = [point for point in measured.get(one.model, {}).values() if point.set == one.images]
        record = asdict(replace(one, scored=None))
        record.pop("scored")
        found.append({**record, "robustness": [asdict(point) for point in mine] or None})
    return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def as_markdown(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> str:
    """Return the summary, each technique's table, and what re-encodings and draws change, as Markdown."""
    parts = ["# Evaluation", markdown_table(_SUMMARY, _summary_rows(evaluations))]
    for one in ranked(evaluations):
        parts += [f"## {one.model}", metrics_markdown(one.images, asdict(one.metrics))]
        if one.ratios:
            parts.append(ratios_markdown({label: asdict(costs) for label, costs in one.ratios.items()}))
    if points:
        parts.append("## Robustness")
        for title, header, rows in robustness_tables(points):
            parts += [f"### {title}", markdown_table(header, rows)]
    if draws:
        parts += [f"## {_DRAWS}", markdown_table(_DRAWN, _draw_rows(evaluations, draws))]
    return "\n\n".join(parts) + "\n"


def as_tables(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> Group:
    """Return rich tables for the terminal."""
    summary = Table(*_SUMMARY, title="Ranking by accuracy")
    summary.columns[1].no_wrap = True
    for row in _summary_rows(evaluations):
        summary.add_row(*map(str, row))
    more = [plain_table(*one) for one in robustness_tables(points)] if points else []
    if draws:
        more.append(plain_table(_DRAWS, _DRAWN, _draw_rows(evaluations, draws)))
    return Group(*(_class_table(one) for one in ranked(evaluations)), *more, summary)


def draw_confusions(evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Draw each confusion matrix to FOLDER/<model>-<set>.png; returns the files."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in evaluations:
        count = len(one.labels)
        figure = Figure(figsize=(2.6 + 0.75 * count, 2.2 + 0.65 * count), layout="constrained")
        axes = figure.add_subplot()
        totals = [max(1, sum(row)) for row in one.metrics.confusion]
        shares = [[n / total for n in row] for row, total in zip(one.metrics.confusion, totals, strict=True)]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, row in enumerate(one.metrics.confusion):
            for j, n in enumerate(row):
                axes.text(j, i, str(n), ha="center", va="center", color="white" if shares[i][j] > 0.5 else "black")
        axes.set_xticks(range(count), one.labels, rotation=40, ha="right")
        axes.set_yticks(range(count), one.labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_title(
            f"{one.model} on {one.images} ({one.metrics.images} images, accuracy {one.metrics.accuracy:.3f})"
        )
        paths.append(folder / f"{one.model}-{one.images}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def draw_calibration(evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Draw FOLDER/<model>-<set>-reliability.png, and -tippett.png where the card has ratios; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in evaluations:
        if one.scored is None:
            continue
        card, probabilities, targets = one.scored.card, one.scored.probabilities, one.scored.targets
        title = f"{one.model} on {one.images}"
        pictures = {
            "reliability": reliability(probabilities, targets, f"{title}, calibration error {one.metrics.ece:.3f}")
        }
        if one.ratios:
            ratios = {label: held_ratios(card, label, probabilities, targets)[:2] for label in one.ratios}
            pictures["tippett"] = tippett(ratios, title)
        for name, figure in pictures.items():
            paths.append(folder / f"{one.model}-{one.images}-{name}.png")
            figure.savefig(paths[-1], dpi=120)
    return paths


def _summary_rows(evaluations: Sequence[Evaluation]) -> list[list[object]]:
    rows: list[list[object]] = []
    places: dict[str, int] = {}
    for one in ranked(evaluations):
        places[one.images] = places.get(one.images, 0) + 1
        m = one.metrics
        rows.append(
            [
                places[one.images],
                one.model,
                f"{one.images} {m.images}",
                f"{m.accuracy:.3f} ({m.interval[0]:.2f}–{m.interval[1]:.2f})",
                f"{m.precision:.2f}",
                f"{m.recall:.2f}",
                f"{m.f1:.2f}",
                f"{m.worst_cell} {m.worst_cell_accuracy:.2f} (n {m.worst_cell_images})",
            ]
        )
    return rows


def _draw_rows(evaluations: Sequence[Evaluation], draws: Sequence[Evaluation]) -> list[list[str]]:
    """Return each model's accuracy over all draws, the run's own `test` being the first of them."""
    rows = []
    for name in dict.fromkeys(one.model for one in draws):
        mine = [one.metrics for one in evaluations if one.model == name and one.images == "test"]
        mine += [one.metrics for one in draws if one.model == name]
        values = [metrics.accuracy for metrics in mine]
        spread = f"{stdev(values):.3f}" if len(values) > 1 else "–"
        figures = [f"{fmean(values):.3f}", spread, f"{min(values):.3f}", f"{max(values):.3f}"]
        rows.append([name, str(len(mine)), str(mine[0].images), *figures])
    return rows


def plain_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a rich table whose first column alone is aligned left."""
    table = Table(*header, title=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _class_table(one: Evaluation) -> Table:
    m = one.metrics
    table = Table("generator", "precision", "recall", "F1", "support", title=f"{one.model} on {one.images}")
    for column in table.columns[1:]:
        column.justify = "right"
    for c in m.classes:
        table.add_row(c.generator, f"{c.precision:.2f}", f"{c.recall:.2f}", f"{c.f1:.2f}", str(c.support))
    table.add_row("macro average", f"{m.precision:.2f}", f"{m.recall:.2f}", f"{m.f1:.2f}", str(m.images), style="bold")
    return table
