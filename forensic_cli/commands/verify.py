"""`genforensic verify`: are a results file, its images and its models still what they were?"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forensic_cli.commands import Exports, Json, Root
from forensic_cli.console import print_json, print_text, track
from forensic_cli.errors import ExitCode

if TYPE_CHECKING:
    from forensic_cli.seal import Checked, Fault

_SHOWN = 50
"""Faults that are printed; --json has them all."""


def verify(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="JSON Lines, JSON or folder of parts of a scan.")],
    root: Root = Path(),
    exports: Exports = None,
    seal: Annotated[
        str | None, typer.Option(metavar="HASH", help="The seal as you noted it after the scan.", show_default=False)
    ] = None,
    files: Annotated[bool, typer.Option(help="Compare the images with their hashes.")] = True,
    models: Annotated[bool, typer.Option(help="Compare the models with their hashes.")] = True,
    as_json: Json = False,
) -> None:
    """Check that a results file is as it was sealed, and that images and models still have their hashes.

    Names what changed: the run header, the first row that is not what was sealed, an image that changed or is gone,
    another model. The seal is the SHA-256 of every byte before it and keeps no secret: anyone who edits the file can
    reseal it. Note the hash elsewhere when the scan is done, and pass it with --seal.

    Examples:

        genforensic verify case-17.jsonl
        genforensic verify case-17.jsonl --seal 139b7db804cc55dff7b176284f5738fa05e24c1c768de8f127d44319ac8d218f
        genforensic verify case-17.jsonl --no-files

    Exit code: 0 everything holds, 11 something does not, 2 wrong use.
    """
    from forensic_cli.seal import check_files, check_models, check_results

    checked = check_results(results, seal)
    faults, counts = list(checked.faults), {"rows": checked.rows, "images": 0, "models": 0}
    images = track(check_files(results, root), "comparing images", checked.rows) if files else ()
    used = check_models(checked.header, exports) if models else ()
    for kind, compared in (("images", images), ("models", used)):
        for fault in compared:
            counts[kind] += 1
            faults += [] if fault is None else [fault]
    if as_json:
        record = {"holds": not faults, "seal": checked.seal, "compared": counts}
        print_json(record | {"faults": [asdict(fault) for fault in faults]})
    else:
        print_text("\n".join(_lines(results, checked, faults, counts["images"], counts["models"])))
    raise typer.Exit(ExitCode.NOT_HELD if faults else ExitCode.DONE)


def _lines(results: Path, checked: "Checked", faults: "Sequence[Fault]", images: int, models: int) -> Iterator[str]:
    from forensic_cli.record import printable
    from forensic_cli.reports.text import counted, visible

    compared = f"{counted(checked.rows, 'row')}, {counted(images, 'image')} and {counted(models, 'model')} compared"
    if not faults:
        yield f"{printable(results)}: holds; {compared}"
        yield f"seal {checked.seal}"
        return
    for fault in faults[:_SHOWN]:
        yield f"{fault.kind}: {visible(fault.message)}"
    if len(faults) > _SHOWN:
        yield f"and {len(faults) - _SHOWN} more; --json lists them all"
    yield f"{printable(results)}: does not hold; {compared}"
