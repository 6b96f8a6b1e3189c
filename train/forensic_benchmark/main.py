"""The two tasks of `genforensic benchmark`: make generators, or run the experiment and write its report."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from forensic_benchmark.checkpoints import ALL_CHECKPOINTS, CHECKPOINTS, find_checkpoint, make_checkpoint
from forensic_benchmark.experiment import (
    QUICK_EXPERIMENT,
    Experiment,
    peak_memory,
    run_experiment,
    wanted_attributors,
)
from forensic_benchmark.report import Entry, collect, write_report
from forensic_benchmark.samples import plan_cells, tier_rows
from forensic_cli import __version__
from forensic_train.run import describe_environment


def make_checkpoints(stems: Sequence[str], folder: Path | None) -> None:
    """Train the miniature generators called NAME-SEED, or with `all` those that the folder does not have."""
    if "all" in stems:
        every = [replace(checkpoint, folder=folder or CHECKPOINTS) for checkpoint in ALL_CHECKPOINTS]
        wanted = [checkpoint for checkpoint in every if not checkpoint.about.exists()]
    else:
        wanted = [replace(find_checkpoint(stem), folder=folder or CHECKPOINTS) for stem in stems]
    for checkpoint in wanted:
        make_checkpoint(checkpoint)


def run_benchmark(
    output: Path, quick: bool, seeds: int, workers: int, checkpoints: Path | None
) -> tuple[Path, list[Entry]]:
    """Run or continue the experiment and write its report; returns the path of the report and its entries."""
    experiment = QUICK_EXPERIMENT if quick else Experiment(seeds=seeds)
    experiment = replace(
        experiment, workers=workers or os.cpu_count() or 1, checkpoints=checkpoints or experiment.checkpoints
    )
    seconds = run_experiment(experiment, output)
    entries = collect(wanted_attributors(experiment), output)
    tiers = tier_rows(plan_cells(experiment.plan, experiment.checkpoints), output / "images")
    report = write_report(entries, tiers, experiment, _about(experiment, seconds, quick), output / "report")
    return report, entries


def _about(experiment: Experiment, seconds: float, quick: bool) -> dict[str, str]:
    import torch

    environment = describe_environment(torch.device("cpu"))
    note = "`--quick`: shows that everything works together; the figures mean nothing" if quick else ""
    return {
        **({"note": note} if note else {}),
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"`{' '.join(['genforensic', *sys.argv[1:]])}`",
        "genforensic": f"{__version__}, commit {_commit()}",
        "machine": f"{environment['platform']}, {environment['cpus']} cores",
        "processes": f"{experiment.workers}, of one thread each",
        "wall time of all starts": f"{seconds / 60:.1f} min",
        "peak memory of the last start": peak_memory(),
        "attributor seeds": str(experiment.seeds),
        "generators": f"{len(ALL_CHECKPOINTS)} checkpoints, 32 x 32 pixels",
    }


def _commit() -> str:
    """Return the commit of the checkout with this file, or `unknown`."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        # A copy of this package may be inside another repository
        subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=True)
        described = subprocess.run(
            [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()
