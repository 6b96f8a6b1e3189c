"""The report on left-out sources, subjects or generators: tables for the terminal, Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group

from forensic_cli.tables import MISSING, Table, state_table
from forensic_train.crossfit.measure import OpenSet, UnitRecall, evaluate_scores, left_out_card, open_set, unit_recalls
from forensic_train.crossfit.scores import Scores
from forensic_train.evaluate import Evaluation
from forensic_train.evaluation_report import as_json, as_markdown, as_tables, draw_confusions
from forensic_train.recipes import Recipe

_ANSWERS = ("label right", "headline right", "headline wrong", "named rightly", "named wrongly")
"""What decide.by_generator and decide.by_source count."""


@dataclass(frozen=True)
class LeftOutReport:
    """What one `evaluate --leave-out` measured."""

    unit: str
    """source, subject or generator."""
    evaluations: Sequence[Evaluation]
    """For each technique, on images of known labels."""
    recalls: Sequence[UnitRecall]
    """Of every generator in every unit; empty if the unit is the generator."""
    open_set: Sequence[OpenSet]
    """Empty unless the unit is the generator."""

    def markdown(self) -> str:
        """Return the whole report as Markdown."""
        parts = [as_markdown(self.evaluations).rstrip("\n"), *(table.markdown(2) for table in self._tables())]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Return every figure as JSON."""
        record: dict[str, Any] = {
            "unit": self.unit,
            "evaluations": json.loads(as_json(self.evaluations)),
            "recalls": [asdict(recall) for recall in self.recalls],
            "open_set": [asdict(measured) for measured in self.open_set],
        }
        return json.dumps(record, ensure_ascii=False, indent=2) + "\n"

    def tables(self) -> Group:
        """Return rich tables for the terminal."""
        return Group(as_tables(self.evaluations), *(table.rich() for table in self._tables()))

    def write(self, folder: Path) -> None:
        """Write left-out.json, left-out.md and the confusion matrices."""
        folder.mkdir(parents=True, exist_ok=True)
        draw_confusions(self.evaluations, folder)
        (folder / "left-out.json").write_text(self.json(), encoding="utf-8")
        (folder / "left-out.md").write_text(self.markdown(), encoding="utf-8")

    def _tables(self) -> list[Table]:
        tables = [state_table(f"{each.technique}: answers by state", each.states) for each in self.evaluations]
        tables += map(_by_label, self.evaluations)
        tables += map(_by_source, self.evaluations)
        if self.recalls:
            tables.append(_recall_table(self.recalls, self.unit))
        if self.open_set:
            tables.append(_open_set_table(self.open_set))
        return tables


def left_out_report(scores: Sequence[Scores], recipe: Recipe, unit: str) -> LeftOutReport:
    """Work out the report from cross-fitted scores of some techniques."""
    judged_by = "source" if unit == "generator" else unit
    evaluations = [evaluate_scores(left_out_card(part, recipe, judged_by), part) for part in scores]
    if unit == "generator":
        return LeftOutReport(unit, evaluations, [], [measured for part in scores for measured in open_set(part)])
    return LeftOutReport(unit, evaluations, [recall for part in scores for recall in unit_recalls(part, unit)], [])


def _by_label(measured: Evaluation) -> Table:
    title = f"{measured.technique}: answers by label, images as published"
    columns = ("state", "label", "images", "sources", *_ANSWERS)
    return Table(title, columns, measured.by_generator, left=(0, 1))


def _by_source(measured: Evaluation) -> Table:
    title = f"{measured.technique}: answers by source, images as published"
    return Table(title, ("label", "source", "images", *_ANSWERS), measured.by_source, left=(0, 1))


def _recall_table(recalls: Sequence[UnitRecall], unit: str) -> Table:
    columns = ("technique", "generator", unit, "images", "recall (95 % Wilson)", "mostly mistaken for")
    rows = [
        [
            *(recall.technique, recall.generator, recall.unit, recall.images),
            f"{recall.recall:.2f} ({recall.interval[0]:.2f}–{recall.interval[1]:.2f})",
            recall.mistaken or MISSING,
        ]
        for recall in recalls
    ]
    return Table(f"Recall by left-out {unit}", columns, rows, left=(0, 1, 2, 5))


def _open_set_table(measured: Sequence[OpenSet]) -> Table:
    columns = ("technique", "left-out generator", "images", "score", "AUROC", "OSCR", "rejected at .1")
    rows = [
        [
            *(tested.technique, tested.generator, tested.images, tested.score),
            *(f"{value:.2f}" for value in (tested.auroc, tested.oscr, tested.rejected)),
        ]
        for tested in measured
    ]
    return Table("Left-out generators", columns, rows, left=(0, 1, 3))
