"""The report on left-out sources, subjects or generators: tables for the terminal, Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Group
from rich.table import Table

from forensic_train.card_markdown import LABEL_COLUMNS, SOURCE_COLUMNS, STATE_COLUMNS, markdown_table, state_rows
from forensic_train.crossfit.measure import OpenSet, UnitRecall, evaluate_scores, left_out_card, open_set, unit_recalls
from forensic_train.crossfit.scores import Scores
from forensic_train.evaluate import Evaluation
from forensic_train.evaluation_report import as_json, as_markdown, as_tables, draw_confusions
from forensic_train.recipes import Recipe

Titled: TypeAlias = tuple[str, Sequence[str], list[list[object]]]
"""Title, header, rows."""
_FILE = "left-out.json"


@dataclass(frozen=True)
class LeftOutReport:
    """Everything that one `evaluate --leave-out` found."""

    unit: str
    """source, subject or generator."""
    evaluations: Sequence[Evaluation]
    """One a technique, on images of known labels."""
    recalls: Sequence[UnitRecall]
    """Every generator in every unit; empty for generators."""
    open_set: Sequence[OpenSet]
    """Empty but for generators."""

    def markdown(self) -> str:
        """Return the whole report as Markdown."""
        parts = [as_markdown(self.evaluations).rstrip("\n")]
        parts += [f"## {title}\n\n{markdown_table(header, rows)}" for title, header, rows in self._tables()]
        return "\n\n".join(parts) + "\n"

    def json(self) -> str:
        """Return every figure as JSON."""
        found: dict[str, Any] = {
            "unit": self.unit,
            "evaluations": json.loads(as_json(self.evaluations)),
            "recalls": [asdict(one) for one in self.recalls],
            "open_set": [asdict(one) for one in self.open_set],
        }
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"

    def tables(self) -> Group:
        """Return rich tables for the terminal."""
        tables = []
        for title, header, rows in self._tables():
            table = Table(*header, title=title)
            for row in rows:
                table.add_row(*map(str, row))
            tables.append(table)
        return Group(as_tables(self.evaluations), *tables)

    def write(self, folder: Path) -> None:
        """Write left-out.json, left-out.md and the pictures."""
        folder.mkdir(parents=True, exist_ok=True)
        draw_confusions(self.evaluations, folder)
        (folder / _FILE).write_text(self.json(), encoding="utf-8")
        (folder / "left-out.md").write_text(self.markdown(), encoding="utf-8")

    def _tables(self) -> list[Titled]:
        tables: list[Titled] = []
        tables += [
            (f"{one.technique}: answers by state", STATE_COLUMNS, list(state_rows(one.states)))
            for one in self.evaluations
        ]
        tables += [
            (
                f"{one.technique}: answers by label, images as they are",
                LABEL_COLUMNS,
                [list(row) for row in one.by_generator],
            )
            for one in self.evaluations
        ]
        tables += [
            (
                f"{one.technique}: answers by source, images as they are",
                SOURCE_COLUMNS,
                [list(row) for row in one.by_source],
            )
            for one in self.evaluations
        ]
        if self.recalls:
            columns = ("technique", "generator", self.unit, "images", "recall (95 % Wilson)", "mostly mistaken for")
            tables.append((f"Recall by left-out {self.unit}", columns, [_recall(one) for one in self.recalls]))
        if self.open_set:
            header = ("technique", "left-out generator", "images", "score", "AUROC", "OSCR", "rejected at .1")
            tables.append(("Left-out generators", header, [_open(one) for one in self.open_set]))
        return tables


def left_out_report(scores: Sequence[Scores], recipe: Recipe, unit: str) -> LeftOutReport:
    """Work out the report from cross-fitted scores of some techniques."""
    judged_by = "source" if unit == "generator" else unit
    evaluations = [evaluate_scores(left_out_card(one, recipe, judged_by), one) for one in scores]
    if unit == "generator":
        return LeftOutReport(unit, evaluations, [], [found for one in scores for found in open_set(one)])
    return LeftOutReport(unit, evaluations, [found for one in scores for found in unit_recalls(one, unit)], [])


def _recall(one: UnitRecall) -> list[object]:
    low, high = one.interval
    recall = f"{one.recall:.2f} ({low:.2f}–{high:.2f})"
    return [one.technique, one.generator, one.unit, one.images, recall, one.mistaken or "–"]


def _open(one: OpenSet) -> list[object]:
    figures = [f"{value:.2f}" for value in (one.auroc, one.oscr, one.rejected)]
    return [one.technique, one.generator, one.images, one.score, *figures]
