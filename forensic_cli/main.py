"""The `genforensic` command: gathers the commands, and turns a GenforensicError into one line and an exit code."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forensic_cli import __version__
from forensic_cli.commands import (
    COMMAND_LINE,
    audit,
    benchmark,
    corpus,
    diff,
    doctor,
    evaluate,
    export,
    merge,
    models,
    report,
    scan,
    train,
    triage,
    verify,
)
from forensic_cli.config import FILE, bind_environment, config_files, load_defaults, set_by
from forensic_cli.console import note
from forensic_cli.errors import ExitCode, GenforensicError

_DEBUG = "GENFORENSIC_TRACEBACK"
_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a fault of the tool, not of its user


class _Group(TyperGroup):
    """Ends every command with the tool's own message and exit code, in a shell as in a test runner."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_LINE] = [ctx.info_name, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            bind_environment(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GenforensicError as error:
            note(f"genforensic: {error}", style="red")
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            # The reader of the pipe has gone; Python would complain once more when it flushes stdout at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.DONE) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            note(
                f"genforensic: {where}{error.strerror or error}; check the path and the space on the disk", style="red"
            )
            raise typer.Exit(ExitCode.USAGE) from error
        except KeyboardInterrupt as error:
            note("genforensic: interrupted; what was written so far is whole", style="yellow")
            raise typer.Exit(ExitCode.INTERRUPTED) from error


app = typer.Typer(
    name="genforensic",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genforensic {__version__}")
        raise typer.Exit


def _configure(ctx: typer.Context) -> None:
    """Take defaults from the configuration files, and say so where the file is that of the working folder."""
    group: Any = ctx.command
    ctx.default_map = load_defaults(group.commands, ctx)
    here = Path(FILE)
    if here in config_files() and ctx.invoked_subcommand and (names := set_by(here, ctx.invoked_subcommand)):
        note(f"{FILE} in this folder sets {', '.join(names)}")


@app.callback()
def _about(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Name the image generator behind a synthetic image, and train the models that do.

    Options can also be set by environment variables such as GENFORENSIC_SCAN_THRESHOLD=0.8, and in genforensic.toml
    or ~/.config/genforensic/config.toml, in sections named after the commands. An option on the command line comes
    first, then the environment, the file in the working folder, the user's own file.

    Examples:

        genforensic scan ./images

        genforensic scan ./images --format jsonl --output case.jsonl

        genforensic doctor
    """
    del version  # its callback has answered already
    if not {"-h", "--help"} & set(ctx.meta[COMMAND_LINE]):  # help is to be had whatever a file says
        _configure(ctx)


app.command()(scan.scan)
app.command()(report.report)
app.command()(verify.verify)
app.command()(diff.diff)
app.command()(triage.triage)
app.command()(models.models)
app.command()(doctor.doctor)
app.command()(corpus.corpus)
app.command()(audit.audit)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(export.export)
app.command()(merge.merge)
app.command()(benchmark.benchmark)


def main() -> None:
    """Run the command line; a fault of the tool itself becomes one line too, unless GENFORENSIC_TRACEBACK is set."""
    try:
        app()
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        note(
            f"genforensic: internal error ({type(error).__name__}: {error}); "
            f"please report it with the output under {_DEBUG}=1",
            style="red",
        )
        sys.exit(_INTERNAL_ERROR)
