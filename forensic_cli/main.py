"""The `genforensic` command: collects all commands, and turns errors into one line and an exit code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forensic_cli import __version__
from forensic_cli.commands import COMMAND_LINE, diff, doctor, report, scan, triage, verify
from forensic_cli.config import FILE, TRACEBACK, bind_environment, check_environment, load_defaults, local_settings
from forensic_cli.console import note
from forensic_cli.errors import ExitCode, GenforensicError
from forensic_train.commands import audit, benchmark, corpus, evaluate, export, merge, reproduce, train

_INTERNAL_ERROR = 70  # EX_SOFTWARE of sysexits.h: a fault of the tool, not of its user


class _Group(TyperGroup):
    """Ends every command with the tool's own message and exit code, both in a shell and in a test runner."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[COMMAND_LINE] = [ctx.info_name, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            bind_environment(command)
        return command

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _errors_as_exit_codes():  # --help and --version print in here
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: Any) -> Any:
        with _errors_as_exit_codes():
            return super().invoke(ctx)


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Turn an exception into one line on standard error and an exit code."""
    try:
        yield
    except GenforensicError as error:
        note(f"genforensic: {error}", style="red")
        raise typer.Exit(error.exit_code) from error
    except BrokenPipeError as error:  # the program that reads our output has ended
        _discard_output()
        raise typer.Exit(ExitCode.DONE) from error
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        note(f"genforensic: {path}{error.strerror or error}; check the path and the free disk space", style="red")
        _discard_output()
        raise typer.Exit(ExitCode.USAGE) from error
    except (KeyboardInterrupt, ImportError) as error:
        # An extension module that is interrupted while it loads raises ImportError
        if isinstance(error, ImportError) and not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        state = str(error) if isinstance(error, KeyboardInterrupt) else ""
        note(f"genforensic: interrupted; {state or 'everything written so far is complete'}", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from error


def _discard_output() -> None:
    """Keep Python from flushing standard output when it exits: that would fail, and complain, a second time."""
    with suppress(AttributeError, OSError, ValueError):  # standard output is closed, or belongs to a test runner
        descriptor = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


app = typer.Typer(
    name="genforensic",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # the other modes keep the line breaks of docstrings
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"genforensic {__version__}")
        raise typer.Exit


@app.callback()
def _callback(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Detect AI-generated images and name the generator that made them; train the models that do this.

    Options can also be set in configuration files, ./genforensic.toml and ~/.config/genforensic/config.toml, with one
    section per command, and by environment variables such as GENFORENSIC_SCAN_THRESHOLD=0.8. The command line takes
    precedence over the environment, then comes the file in the working folder, then your own.

    Examples:

        genforensic scan ./images
        genforensic scan ./images --output case.jsonl
        genforensic doctor
    """
    del version  # handled by its callback
    if {"-h", "--help"} & set(ctx.meta[COMMAND_LINE]):
        return  # help is shown even if a configuration file is wrong
    group: Any = ctx.command
    check_environment(group.commands)
    ctx.default_map = load_defaults(group.commands, ctx)
    if ctx.invoked_subcommand and (names := local_settings(ctx.invoked_subcommand)):
        # A file that arrived with a case's images must not change a scan unnoticed
        note(f"{FILE} in this folder sets {', '.join(names)}")


for command in (
    *(scan.scan, report.report, verify.verify, diff.diff, triage.triage, doctor.models, doctor.doctor),
    *(corpus.corpus, audit.audit, train.train, evaluate.evaluate, reproduce.reproduce),
    *(export.export, merge.merge, benchmark.benchmark),
):
    app.command()(command)


def main() -> None:
    """Run the command line. An internal error is one line, too, unless GENFORENSIC_TRACEBACK is set."""
    try:
        app()
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        note(
            f"genforensic: internal error ({type(error).__name__}: {error}); "
            f"please report it together with the output of the same command with {TRACEBACK}=1",
            style="red",
        )
        sys.exit(_INTERNAL_ERROR)
