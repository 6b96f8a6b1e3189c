"""The evaluation for people: tables for the terminal, Markdown, JSON, and confusion matrices as pictures."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from rich.console import Group

from forensic_cli.tables import MISSING, Table, metrics_table
from forensic_train.evaluate import Evaluation
from forensic_train.robustness import RobustnessPoint, by_model
from forensic_train.robustness_report import robustness_tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def ranked(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Return the evaluations set by set, highest accuracy first."""
    return sorted(evaluations, key=lambda each: (each.images, -each.metrics.accuracy, each.model))


def as_json(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> str:
    """Return every figure as JSON; `robustness` is null if it was not measured."""
    measured = by_model(points)
    records = []
    for evaluation in ranked([*evaluations, *draws]):
        mine = [point for point in measured.get(evaluation.model, {}).values() if point.set == evaluation.images]
        records.append({**asdict(evaluation), "robustness": [asdict(point) for point in mine] or None})
    return json.dumps(records, ensure_ascii=False, indent=2) + "\n"


def as_markdown(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> str:
    """Return the ranking, the table of each model, and what re-encodings and draws change, as Markdown."""
    tables = [_ranking(evaluations), *_other_tables(evaluations, points, draws)]
    return "\n\n".join(["# Evaluation", *(table.markdown(2) for table in tables)]) + "\n"


def as_tables(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint] = (), draws: Sequence[Evaluation] = ()
) -> Group:
    """Return the same for a terminal, where the ranking comes last."""
    tables = [*_other_tables(evaluations, points, draws), _ranking(evaluations)]
    return Group(*(table.rich() for table in tables))


def _other_tables(
    evaluations: Sequence[Evaluation], points: Sequence[RobustnessPoint], draws: Sequence[Evaluation]
) -> list[Table]:
    tables = [
        metrics_table(f"{measured.model} on {measured.images}", measured.images, asdict(measured.metrics))
        for measured in ranked(evaluations)
    ]
    tables += robustness_tables(points) if points else []
    return tables + ([_draws(evaluations, draws)] if draws else [])


def _ranking(evaluations: Sequence[Evaluation]) -> Table:
    columns = ("model", "rank", "images", "accuracy (95 % Wilson)", "precision", "recall", "F1", "worst cell")
    rows: list[list[object]] = []
    ranks: dict[str, int] = {}
    for evaluation in ranked(evaluations):
        ranks[evaluation.images] = ranks.get(evaluation.images, 0) + 1
        m = evaluation.metrics
        rows.append(
            [
                evaluation.model,
                ranks[evaluation.images],
                f"{evaluation.images} {m.images}",
                f"{m.accuracy:.3f} ({m.interval[0]:.2f}–{m.interval[1]:.2f})",
                *(f"{value:.2f}" for value in (m.precision, m.recall, m.f1)),
                f"{m.worst_cell} {m.worst_cell_accuracy:.2f} (n {m.worst_cell_images})",
            ]
        )
    return Table("Ranking by accuracy", columns, rows)


def _draws(evaluations: Sequence[Evaluation], draws: Sequence[Evaluation]) -> Table:
    """Return each model's accuracy over all draws; the first of them is the run's own `test`."""
    rows: list[list[object]] = []
    for name in dict.fromkeys(draw.model for draw in draws):
        mine = [test.metrics for test in evaluations if test.model == name and test.images == "test"]
        mine += [draw.metrics for draw in draws if draw.model == name]
        values = [metrics.accuracy for metrics in mine]
        spread = f"{stdev(values):.3f}" if len(values) > 1 else MISSING
        figures = [f"{fmean(values):.3f}", spread, f"{min(values):.3f}", f"{max(values):.3f}"]
        rows.append([name, len(mine), mine[0].images, *figures])
    columns = ("model", "draws", "images each", "mean", "standard deviation", "lowest", "highest")
    return Table("Accuracy over the draws that finetune adapts to, on the test images of each draw", columns, rows)


def draw_confusions(evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Draw each confusion matrix to FOLDER/<model>-<set>.png; returns the files."""
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for evaluation in evaluations:
        labels, metrics = evaluation.labels, evaluation.metrics
        count = len(labels)
        figure = Figure(figsize=(2.6 + 0.75 * count, 2.2 + 0.65 * count), layout="constrained")
        axes = figure.add_subplot()
        paint_confusion(axes, labels, metrics.confusion)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        size = f"{metrics.images} images, accuracy {metrics.accuracy:.3f}"
        axes.set_title(f"{evaluation.model} on {evaluation.images} ({size})")
        paths.append(folder / f"{evaluation.model}-{evaluation.images}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def paint_confusion(
    axes: "Axes", labels: Sequence[str], confusion: Sequence[Sequence[int]], as_shares: bool = False
) -> None:
    """Paint images by true label (down) and predicted label; cells show counts, or shares of the true label."""
    for i, row in enumerate(confusion):
        for j, n in enumerate(row):
            share = n / max(1, sum(row))
            text = f"{share:.2f}" if as_shares else str(n)
            axes.text(j, i, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.imshow([[n / max(1, sum(row)) for n in row] for row in confusion], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axes.set_yticks(range(len(labels)), labels)
