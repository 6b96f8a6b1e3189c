"""`genforensic evaluate`: the paper's tables, measured on exported models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.exports import ALL, DEFAULT_RECIPE, export_files, peek_exports
from forensic_train.commands import Device, parse_settings, training_extra

if TYPE_CHECKING:
    from rich.console import Group

    from forensic_cli.exports import Export
    from forensic_train.rows import Rows
    from forensic_train.training_plan import TrainOptions


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Output folder of `genforensic train`.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR|CSV", help="Other labelled images instead of the run's own split."),
    ] = None,
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Exports to evaluate; default: the run's, or without a run those that ship."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write pictures and tables to."),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Also measure the test images after JPEG, WebP, resizing, blur, cropping and a screenshot.",
        ),
    ] = False,
    leave_out: Annotated[
        Literal["source", "subject", "generator"] | None,
        typer.Option(
            help="Train in folds that leave out whole sources, subjects or generators of --data, and measure on those.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=50, help="Number of folds of --leave-out.")] = 3,
    fold: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="Train and measure only this fold of --leave-out, counted from 0, if all would take too long.",
            show_default=False,
        ),
    ] = None,
    technique: Annotated[
        str,
        typer.Option(
            "--technique",
            "-t",
            metavar="NAME|all",
            help="Measure only this one; with --leave-out, train only this one.",
        ),
    ] = "all",
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Recipe of the exports to measure; with --leave-out of what is trained, default native.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For --leave-out; can be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for --leave-out.")] = 0,
    device: Annotated[
        Device,
        typer.Option(help="auto: the GPU where one works."),
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="For --leave-out: processes that load images; 0: load them in this process.")
    ] = 0,
    signals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For --leave-out: folder that keeps measurements of the images for other runs; default: --output.",
            show_default=False,
        ),
    ] = None,
    report_format: Annotated[
        Literal["table", "json", "markdown"],
        typer.Option("--format", "-f", help="Format on the screen."),
    ] = "table",
) -> None:
    """Measure exports on images that they were not trained on.

    Reports precision, recall, F1 and support of every generator for each technique, macro averages, accuracy with
    its Wilson interval, the worst cell, a confusion matrix as a picture, and a ranking of all techniques. With
    --robustness, accuracy and macro recall under each re-encoding are added. If --data has no split column, every
    image is a test image.

    --leave-out evaluates the training instead of exports (cross-fitting): each image is judged by a model that never
    saw its source (or subject, or generator). A random split gives figures that are too good; base choices on this. The
    folds are training runs below --output and are resumed if they were interrupted. `genforensic train --calibrate`
    uses their scores.

    Examples:

        genforensic evaluate runs/first

        genforensic evaluate runs/first --robustness

        genforensic evaluate --data ./other-images --format markdown

        genforensic evaluate --leave-out source --data ./labelled --technique all --output runs/left-out
    """
    if run is None and data is None:
        raise UsageError("name a RUN, or labelled images with --data")
    if leave_out:
        if data is None or output is None:
            raise UsageError(
                "--leave-out trains models; name labelled images with --data, and a folder for the runs with --output"
            )
        if robustness:
            raise UsageError(
                "--robustness measures exports; the recipe native is measured in every form by --leave-out"
            )
        with training_extra("evaluate"):
            from forensic_train.fit import FitOptions
            from forensic_train.training_plan import TrainOptions

            options = TrainOptions(
                technique,
                data,
                output,
                recipe or DEFAULT_RECIPE,
                seed,
                device,
                overrides=parse_settings(settings),
                fit=FitOptions(workers=workers),
                signals=signals,
            )
            _cross_fit(options, leave_out, folds, fold, report_format)
        return
    if settings or fold is not None:
        raise UsageError("--set and --fold are for --leave-out; add --leave-out, or remove them")
    with training_extra("evaluate"):
        from forensic_cli.model import load_models
        from forensic_train.evaluate import evaluate_all, evaluate_draws
        from forensic_train.evaluation_report import as_json, as_markdown, as_tables, draw_confusions
        from forensic_train.robustness import measure_test
        from forensic_train.robustness_report import draw_robustness

        rows = _rows(run, data)
        folder = exports or (run / "exports" if run is not None else None)
        models = load_models(_wanted(peek_exports(export_files(folder)), technique, recipe), device)
        own = run if data is None and exports is None else None
        draws = evaluate_draws(own, models, device) if own is not None else []
        evaluations = evaluate_all(models, rows)
        points = measure_test(models, rows) if robustness else []
        target = output or (run / "evaluation" if run is not None else None)
        if target is not None:
            draw_confusions(evaluations, target)
            if points:
                draw_robustness(points, target)
            (target / "evaluation.json").write_text(as_json(evaluations, points, draws), encoding="utf-8")
            (target / "evaluation.md").write_text(as_markdown(evaluations, points, draws), encoding="utf-8")
    _show(
        report_format,
        lambda: as_tables(evaluations, points, draws),
        lambda: as_json(evaluations, points, draws),
        lambda: as_markdown(evaluations, points, draws),
    )
    if target is not None:
        note(f"Pictures and tables: {target}")


def _cross_fit(options: "TrainOptions", unit: str, folds: int, fold: int | None, report_format: str) -> None:
    """Train and judge the folds of --leave-out, and report on them."""
    from forensic_train.crossfit.fit import crossfit
    from forensic_train.crossfit.report import left_out_report
    from forensic_train.recipes import find_recipe

    scores = crossfit(options, unit, folds, fold)
    report = left_out_report(scores, find_recipe(options.recipe), unit)
    report.write(options.output)
    _show(report_format, report.tables, report.json, report.markdown)
    note(f"Scores, pictures and tables: {options.output}")


def _wanted(exports: "Sequence[Export]", technique: str, recipe: str | None) -> "list[Export]":
    """Return the exports of a technique and a recipe, or of all. Raises UsageError if there are none."""
    cards = [export.card for export in exports]
    for name, wanted, available in (
        ("recipe", recipe, sorted({card.recipe for card in cards})),
        ("technique", technique, sorted({card.technique for card in cards})),
    ):
        if wanted not in (None, ALL, *available):
            raise UsageError(f"no export has {name} {wanted!r}; allowed: {', '.join(available)}, {ALL}")
    chosen = [
        export
        for export, card in zip(exports, cards, strict=True)
        if recipe in (None, ALL, card.recipe) and technique in (ALL, card.technique)
    ]
    if not chosen:
        raise UsageError(f"no export has both technique {technique!r} and recipe {recipe!r}")
    return chosen


def _show(
    report_format: str, table: "Callable[[], Group]", json: Callable[[], str], markdown: Callable[[], str]
) -> None:
    if report_format == "table":
        from forensic_cli.console import stdout_console

        stdout_console().print(table())
    else:
        typer.echo((json if report_format == "json" else markdown)(), nl=False)


def _rows(run: Path | None, data: Path | None) -> "Rows":
    """Return the run's own split or other labelled images, which are all test images unless they have a split."""
    from itertools import repeat

    from forensic_train.manifest import read_manifest
    from forensic_train.run import read_split

    if data is None:
        assert run is not None
        return read_split(run)
    rows = read_manifest(data)
    return rows if any(rows.column("split")) else rows.with_splits(repeat("test", len(rows)))
