"""`genforensic evaluate`: the paper's tables, measured on exported models."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from forensic_cli.commands import parse_settings, training_extra
from forensic_cli.console import note
from forensic_cli.errors import UsageError
from forensic_cli.exports import ALL, DEFAULT_RECIPE, export_files, load_models, peek_exports
from forensic_train.commands import Device

if TYPE_CHECKING:
    from rich.console import Group

    from forensic_cli.exports import Export
    from forensic_train.manifest import Row


def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Output folder of `genforensic train`.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR|CSV", help="Other labelled images, instead of the run's own split."),
    ] = None,
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Exports to evaluate; else the run's, else those that ship."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where pictures and tables are written, too."),
    ] = None,
    robustness: Annotated[
        bool,
        typer.Option(
            "--robustness",
            help="Measure the test images under JPEG, WebP, resizing, blur, cropping and a screenshot, too.",
        ),
    ] = False,
    leave_out: Annotated[
        Literal["source", "subject", "generator"] | None,
        typer.Option(
            help="Train in folds that leave out whole sources, subjects or generators of --data, and measure on these.",
            show_default=False,
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, max=50, help="Folds of --leave-out.")] = 3,
    fold: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=0,
            help="Train and measure this fold of --leave-out alone, counted from 0, where all would take too long.",
            show_default=False,
        ),
    ] = None,
    technique: Annotated[
        str,
        typer.Option(
            "--technique", "-t", metavar="NAME|all", help="Measure this one alone; with --leave-out, train it."
        ),
    ] = "all",
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the exports that are measured; with --leave-out of what is trained, else native."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For --leave-out; repeat it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="For --leave-out.")] = 0,
    device: Annotated[
        Device,
        typer.Option(help="auto: the GPU where one works."),
    ] = "auto",
    workers: Annotated[
        int, typer.Option(min=0, help="For --leave-out: processes that load images; 0: none but this one.")
    ] = 0,
    signals: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="For --leave-out: folder where what is measured of the images is kept for other runs; else --output.",
            show_default=False,
        ),
    ] = None,
    report_format: Annotated[
        Literal["table", "json", "markdown"],
        typer.Option("--format", "-f", help="On the screen."),
    ] = "table",
) -> None:
    """Measure exports on images that they were not trained on.

    For each technique precision, recall, F1 and support for every generator, macro averages, accuracy with its
    Wilson interval, the worst cell, a confusion matrix as a picture, and one ranking; with --robustness the accuracy
    and macro recall under each re-encoding, and a picture of them. With --data and no split column every image is
    taken as a test image.

    --leave-out judges ways to train instead of exports: each image is judged by a model that never saw its source (or
    subject, or generator). A random split flatters; choose by this. Its folds are training runs below --output and are
    taken up again where they stopped; `genforensic train --calibrate` uses what they found.

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
            from forensic_train.crossfit.fit import crossfit
            from forensic_train.crossfit.report import left_out_report
            from forensic_train.recipes import find_recipe
            from forensic_train.training import TrainOptions

            overrides, trained = parse_settings(settings), recipe or DEFAULT_RECIPE
            options = TrainOptions(
                technique, data, output, trained, seed, device, overrides=overrides, workers=workers, signals=signals
            )
            scores = crossfit(options, leave_out, folds, fold)
            report = left_out_report(scores, find_recipe(trained), leave_out)
            report.write(output)
        _show(report_format, report.tables, report.json, report.markdown)
        note(f"Scores, pictures and tables: {output}")
        return
    if settings or fold is not None:
        raise UsageError("--set and --fold say how --leave-out trains; name what to leave out, or leave them out")
    with training_extra("evaluate"):
        from forensic_train.evaluate import evaluate_all, evaluate_draws
        from forensic_train.evaluation_report import as_json, as_markdown, as_tables, draw_confusions
        from forensic_train.robustness import measure_test
        from forensic_train.robustness_report import draw_robustness

        rows = _rows(run, data)
        folder = exports or (run / "exports" if run is not None else None)
        models = load_models(_wanted(peek_exports(export_files(folder)), technique, recipe), device)
        own = run if data is None and exports is None else None
        draws = evaluate_draws(own, models, device) if own is not None else []
        found = evaluate_all(models, rows)
        points = measure_test(models, rows) if robustness else []
        target = output or (run / "evaluation" if run is not None else None)
        if target is not None:
            draw_confusions(found, target)
            if points:
                draw_robustness(points, target)
            (target / "evaluation.json").write_text(as_json(found, points, draws), encoding="utf-8")
            (target / "evaluation.md").write_text(as_markdown(found, points, draws), encoding="utf-8")
    _show(
        report_format,
        lambda: as_tables(found, points, draws),
        lambda: as_json(found, points, draws),
        lambda: as_markdown(found, points, draws),
    )
    if target is not None:
        note(f"Pictures and tables: {target}")


def _wanted(exports: "Sequence[Export]", technique: str, recipe: str | None) -> "list[Export]":
    """Return the exports of a technique and a recipe, or of all. Raises UsageError where there are none."""
    for name, wanted, here in (
        ("recipe", recipe, sorted({one.card.recipe for one in exports})),
        ("technique", technique, sorted({one.card.technique for one in exports})),
    ):
        if wanted not in (None, ALL, *here):
            raise UsageError(f"no export has {name} {wanted!r}; allowed: {', '.join(here)}, {ALL}")
    chosen = [
        one for one in exports if recipe in (None, ALL, one.card.recipe) and technique in (ALL, one.card.technique)
    ]
    if not chosen:
        raise UsageError(f"no export has both technique {technique!r} and recipe {recipe!r}")
    return chosen


def _show(wanted: str, table: "Callable[[], Group]", json: Callable[[], str], markdown: Callable[[], str]) -> None:
    if wanted == "table":
        from forensic_cli.console import stdout_console

        stdout_console().print(table())
    else:
        typer.echo((json if wanted == "json" else markdown)(), nl=False)


def _rows(run: Path | None, data: Path | None) -> "list[Row]":
    from dataclasses import replace

    from forensic_train.manifest import read_manifest
    from forensic_train.run import read_split

    if data is None:
        assert run is not None
        return read_split(run)
    rows = read_manifest(data)
    return rows if any(row.split for row in rows) else [replace(row, split="test") for row in rows]
