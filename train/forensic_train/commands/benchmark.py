"""`genforensic benchmark`: the paper's experiment with small generators that anyone can run again."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.console import note, stdout_console
from forensic_cli.errors import UsageError
from forensic_train.commands import training_extra


def benchmark(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for images, training runs and the report.")
    ] = Path("runs/benchmark"),
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A few images, one epoch, one seed: shows that it runs; the figures mean nothing."
        ),
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Training runs of each kind.")] = 3,
    workers: Annotated[int, typer.Option(min=0, help="Processes of one thread each; 0: one per core.")] = 0,
    make: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME-SEED|all",
            help="Train this miniature generator instead, or all that --checkpoints is missing; can be repeated.",
            show_default=False,
        ),
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the miniature generators; default: those in the repository."),
    ] = None,
) -> None:
    """Run the paper's experiment on images that anyone can make again.

    Six miniature generators, one for each family of the paper, draw a biased dataset: each shows only some subjects, in
    the paper's proportions. The four techniques are trained on it and tested on a subject that no training image
    shows: from the same checkpoints, from separately trained checkpoints, after re-encoding, and next to a seventh
    generator and untouched scenes. Prints the paper's tables: precision, recall and F1 of every generator, and the
    ranking by accuracy (T0: seen subjects, T1: the unseen subject, T2: the unseen subject from separately trained
    checkpoints). The report also has controls and pictures. Finished parts are kept: run it again to continue.

    Needs a checkout of the repository: the installed package does not include the benchmark.

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
