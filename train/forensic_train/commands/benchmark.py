"""`genforensic benchmark`: the paper's experiment with generators of its own, in under an hour."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.commands import training_extra
from forensic_cli.console import note, stdout_console
from forensic_cli.errors import UsageError


def benchmark(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Images, trainings and the report.")
    ] = Path("runs/benchmark"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A few images, one epoch, one seed: shows that it runs; its figures are void."),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Attributors of each kind.")] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Processes of one thread each; 0: one a core.")] = 0,
    make: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME-SEED|all",
            help="Train this miniature generator instead, or all that --checkpoints lacks; repeat it.",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the miniature generators; else those that come with the tool."),
    ] = None,
) -> None:
    """Run the paper's experiment on images that anybody can make again.

    Six miniature generators, one per family of the paper, draw a biased dataset: each shows only some subjects, in the
    paper's proportions. The four techniques are trained on it and tested on a subject that no training image shows:
    from the same checkpoints, from checkpoints trained separately, after re-encoding, and beside a seventh generator
    and untouched scenes. Prints the paper's tables: precision, recall and F1 of every generator, and the ranking by
    accuracy (T0: seen subjects, T1: the unseen one, T2: that from checkpoints trained separately). The report has
    controls and pictures, too. What is finished is kept: run it again to go on.

    Examples:

        genforensic benchmark --quick --output /tmp/quick

        genforensic benchmark --output runs/benchmark

        genforensic benchmark --make stylegan2-0 --checkpoints ./my-generators
    """
    try:
        import forensic_benchmark  # noqa: F401
    except ModuleNotFoundError as error:
        raise UsageError(
            "the benchmark and its checkpoints are not part of the installed package; run `genforensic benchmark` from "
            "a checkout of the repository (pip install --editable '.[train]')"
        ) from error
    with training_extra("benchmark"):
        from forensic_benchmark.main import make_checkpoints, run_benchmark
        from forensic_benchmark.report import report_tables

        if make:
            make_checkpoints(make, checkpoints)
            return
        report, entries = run_benchmark(output, quick, seeds, workers, checkpoints)
    stdout_console().print(report_tables(entries))
    if quick:
        note("One epoch on a few images: these figures mean nothing.", "yellow")
    note(f"Report: {report}")
