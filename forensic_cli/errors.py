"""The exceptions of genforensic, and the exit code with which each one ends a command.

    GenforensicError
    ├── UsageError          2   a wrong option or path, or a wrong combination of them
    │   └── OutputError     2   a report that cannot be written
    ├── ModelError          3   an export that is missing, damaged or incompatible with the others
    └── DataError           4   training data that cannot be used
        └── TrainingError   4   a training run that cannot start, continue or be read back

A bad image is not an exception but a row with a status and a reason (`images.header.Unreadable`).
"""

from collections.abc import Sequence
from enum import IntEnum
from importlib import import_module


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    SOME_UNREADABLE = 1
    USAGE = 2
    MODEL = 3
    DATA = 4
    VERDICT_FOUND = 10
    """`scan --fail-on`: an image has one of the answers asked for."""
    NOT_HELD = 11
    """`verify`: a results file, an image or a model has changed."""
    DIFFERENT = 12
    """`diff`: the two scans differ."""
    INTERRUPTED = 130


class GenforensicError(Exception):
    """A failure that users can fix. Its text is one line: what is wrong, what is allowed, what to do next."""

    exit_code = ExitCode.USAGE


class UsageError(GenforensicError):
    """A wrong option or path, or a wrong combination of them."""


class OutputError(UsageError):
    """A report that cannot be written."""


class ModelError(GenforensicError):
    """An export that cannot be found, read or used."""

    exit_code = ExitCode.MODEL


class DataError(GenforensicError):
    """Training data that cannot be used."""

    exit_code = ExitCode.DATA


class TrainingError(DataError):
    """A training run that cannot start, continue or be read back."""


def pip_line(extra: str) -> str:
    """Return the commands that install an extra: from a package index, and in a checkout."""
    return f"pip install 'genforensic[{extra}]' (in a checkout: pip install '.[{extra}]')"


def require(packages: Sequence[str], extra: str, option: str) -> None:
    """Import the packages that an option needs. Raises UsageError with the pip command if one is missing."""
    try:
        for package in packages:
            import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(f"{option} needs {packages[0]}, which is not installed; run: {pip_line(extra)}") from error
