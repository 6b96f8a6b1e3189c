"""`genforensic models`: list the exports and what their cards say."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forensic_cli.output import print_json

if TYPE_CHECKING:
    from rich.table import Table

    from forensic_cli.model import Model


def models(
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of .onnx exports; else $GENFORENSIC_EXPORTS, else what ships."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole cards as JSON.")] = False,
) -> None:
    """List the exports that a scan would find, with their model cards.

    Examples:

        genforensic models

        genforensic models --exports runs/mine/exports --json
    """
    from forensic_cli.exports import export_files, load_models, peek_exports

    found = load_models(peek_exports(export_files(exports)), "cpu")
    if as_json:
        cards = [{"file": str(m.path), "sha256": m.sha256, "card": asdict(m.card)} for m in found]
        print_json(cards)
        return
    from forensic_cli.console import stdout_console

    console = stdout_console()
    console.print(_table(found))
    console.print(f"Folder: {found[0].path.parent}", soft_wrap=True)


def _table(found: "list[Model]") -> "Table":
    from rich.table import Table

    table = Table("model", "views", "images", "accuracy", "answers for", "sha256", title="Exports")
    table.columns[0].no_wrap = table.columns[-1].no_wrap = True
    for model in found:
        card, pre = model.card, model.card.preprocessing
        views = f"{pre.size} px, whole" if pre.mode == "whole" else f"{pre.size} px, up to {pre.grid}x{pre.grid}"
        answered = ", ".join(state for state, decision in card.decisions.items() if not decision.is_silent)
        images = sum(sum(row.values()) for row in card.data.values())
        sets = [(name, card.metrics[name]) for name in ("left-out", "test") if name in card.metrics]
        measured = ", ".join(f"{name} {one['accuracy']:.3f} (n {one['images']})" for name, one in sets) or "–"
        table.add_row(card.name, views, str(images), measured, answered or "–", model.sha256[:12])
    table.caption = f"labels: {', '.join(found[0].card.labels)}"
    return table
