"""The `genforensic` command: gathers the commands, and turns a GenforensicError into one line and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forensic_cli import __version__
from forensic_cli.commands import COMMAND_LINE, diff, doctor, report, scan, triage, verify
from forensic_cli.config import (
    FILE,
    TRACEBACK,
    bind_environment,
    check_environment,
    config_files,
    load_defaults,
    set_by,
)
from forensic_cli.console import note
from forensic_cli.errors import ExitCode, GenforensicError
from forensic_train.commands import audit, benchmark, corpus, evaluate, export, merge, train

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

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _ended_in_one_line():  # a help page and the version are printed in here
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _ended_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _ended_in_one_line() -> Iterator[None]:
    """Turn what ends a command early into one line and an exit code."""
    try:
        yield
    except GenforensicError as error:
        note(f"genforensic: {error}", style="red")
        raise typer.Exit(error.exit_code) from error
    except BrokenPipeError as error:  # the reader of the pipe has gone
        _drop_output()
        raise typer.Exit(ExitCode.DONE) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        note(f"genforensic: {where}{error.strerror or error}; check the path and the space on the disk", style="red")
        _drop_output()
        raise typer.Exit(ExitCode.USAGE) from error
    except (KeyboardInterrupt, ImportError) as error:
        # An extension module that is interrupted while it loads says that it cannot be loaded
        if isinstance(error, ImportError) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        note(f"genforensic: interrupted; {_worth(error)}", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


def _worth(error: BaseException) -> str:
    """Return what an interrupted command says of its output."""
    stated = str(error) if isinstance(error, KeyboardInterrupt) else ""
    return stated or "what was written so far is whole"


def _drop_output() -> None:
    """Keep Python from writing once more, when it ends, what could not be written: it would complain once more."""
    with suppress(AttributeError, OSError, ValueError):  # standard output is closed, or a test's
        descriptor = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


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
    """Check the environment, and take defaults from files; says so where the file is that of the working folder."""
    group: Any = ctx.command
    check_environment(group.commands)
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

        genforensic scan ./images --output case.jsonl

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
app.command()(doctor.models)
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
        if os.environ.get(TRACEBACK):
            raise
        note(
            f"genforensic: internal error ({type(error).__name__}: {error}); "
            f"please report it with the output under {TRACEBACK}=1",
            style="red",
        )
        sys.exit(_INTERNAL_ERROR)
