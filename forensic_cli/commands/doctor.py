"""`genforensic doctor`: does this installation work, and what is missing?"""

from pathlib import Path
from typing import Annotated

import typer

from forensic_cli.errors import ExitCode
from forensic_cli.output import print_json


def doctor(
    exports: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of .onnx exports; else $GENFORENSIC_EXPORTS, else what ships."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try out whether images can be judged here: versions, exports, execution providers and optional packages.

    Every export judges a sample twice on the CPU; where CUDA starts, its results are compared with the CPU's. What
    ONNX Runtime only claims to offer does not count.

    Examples:

        genforensic doctor

        genforensic doctor --exports runs/first/exports --json

    Exit code: 0 healthy, 3 a scan cannot work or gives wrong results.
    """
    from forensic_cli.doctor import examine, is_healthy
    from forensic_cli.reports.table import visible

    checks = list(examine(exports))
    healthy = is_healthy(checks)
    if as_json:
        record = {"healthy": healthy, "checks": [check.record() for check in checks]}
        print_json(record)
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            typer.echo(f"{check.state:<6}  {visible(check.name):<{width}}  {visible(check.detail)}")
        faults = sum(check.state == "fault" for check in checks)
        typer.echo("healthy" if healthy else f"not healthy: {faults} of {len(checks)} checks found a fault")
    raise typer.Exit(ExitCode.DONE if healthy else ExitCode.MODEL)
