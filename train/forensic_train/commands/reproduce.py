"""`genforensic reproduce`: the paper's experiment on one's own data, with its tables beside those published."""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.console import note, stdout_console
from forensic_train.commands import Device, Processes, Workers, parse_settings, training_extra


def reproduce(
    data: Annotated[Path, typer.Option(metavar="DIR|CSV", help="`ROOT/<generator>/<subject>/...` or a manifest.")],
    holdout: Annotated[
        str, typer.Option(metavar="subject=NAME", help="The subject that training never sees, and that is tested on.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for runs and report.")] = Path(
        "runs/reproduce"
    ),
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of each technique.")] = 3,
    recipe: Annotated[
        str, typer.Option(metavar="NAME", help="As in `genforensic train`; paper: ResNet-50 at 224 pixels.")
    ] = "paper",
    val: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            min=0,
            max=0.9,
            help="Share of the images of seen subjects to measure on instead of training on; 0: train on all, as the "
            "paper does.",
        ),
    ] = 0.1,
    adapt: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of unseen images that finetune adapts to, drawn again for every seed. Default: four fifths.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images; default: the paper's.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As in `genforensic train`; can be repeated."),
    ] = None,
    device: Annotated[Device, typer.Option(help="auto: the GPU where one works.")] = "auto",
    processes: Processes = 1,
    workers: Workers = 0,
) -> None:
    """Run the paper's experiment on your own images, and compare the results with those published.

    Audits the data, trains baseline, weighted, finetune and adversarial once for each seed without ever showing them
    the held-out subject, measures them on it and on the other subjects, and writes one report: precision, recall and F1
    of each generator beside the published ones, accuracies, the ranking, confusion matrices, the bias of the data,
    settings and versions. The images that finetune adapts to are drawn again for every seed.

    Everything that is missing is reported before the first epoch. Ctrl-C loses nothing before the last checkpoint:
    the same command goes on. More --seeds can be added later.

    Examples:

        genforensic reproduce --data ./labelled --holdout subject=face

        genforensic reproduce --data m.csv --holdout subject=face --recipe native --output runs/native

    Each seed is a run in seed-0/, seed-1/ and so on, for `genforensic evaluate`. Its exports are not calibrated:
    `genforensic export` does that before a scan.
    """
    overrides = parse_settings(settings)
    if epochs is not None:
        overrides["epochs"] = str(epochs)
    with training_extra("reproduce"):
        from forensic_train.processes import is_launched, launch
        from forensic_train.protocol import Protocol
        from forensic_train.reproduce import reproduce as run_protocol
        from forensic_train.reproduce_report import report_tables, write_report

        if processes > 1 and not is_launched():
            launch(processes, output / "processes")
            return
        protocol = Protocol(data, holdout, output, recipe, seeds, val, adapt, overrides, device, workers)
        outcome, failure = run_protocol(protocol)
        if not outcome.is_first:  # one of several processes that train together
            return
        report = write_report(outcome)
    stdout_console().print(report_tables(outcome))
    note(f"Report: {report}")
    if failure is not None:
        raise failure
