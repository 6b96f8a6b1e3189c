"""The exceptions of genforensic, and the exit code that each one ends a command with.

    GenforensicError
    ├── UsageError          2   an option, a path or a combination of them
    │   └── OutputError     2   a report that cannot be written, or not any further
    ├── ModelError          3   an export that is missing, damaged or does not fit the others
    └── DataError           4   a manifest or a labelled folder
        └── TrainingError   4   a run that cannot start, go on or be read back

A bad image is none of these: it is a row with a status and a reason (`preprocess.Unreadable`).
"""

from collections.abc import Sequence
from enum import IntEnum
from importlib import import_module


class ExitCode(IntEnum):
    """What a finished command tells the shell."""

    DONE = 0
    SOME_UNREADABLE = 1
    USAGE = 2
    MODEL = 3
    DATA = 4
    VERDICT_FOUND = 10
    """`scan --fail-on`: a row has such a verdict."""
    NOT_HELD = 11
    """`verify`: a results file, an image or a model is not what it was."""
    DIFFERENT = 12
    """`diff`: the two scans differ."""
    INTERRUPTED = 130


class GenforensicError(Exception):
    """A failure that a user can act upon; its text is one line: what is wrong, what is allowed, what to do."""

    exit_code = ExitCode.USAGE


class UsageError(GenforensicError):
    """A wrong option, path or combination."""


class OutputError(UsageError):
    """A report that cannot be written."""


class ModelError(GenforensicError):
    """An export that cannot be found, read or used."""

    exit_code = ExitCode.MODEL


class DataError(GenforensicError):
    """Training data that cannot be used."""

    exit_code = ExitCode.DATA


class TrainingError(DataError):
    """A training run that cannot start or go on."""


def pip_line(extra: str) -> str:
    """Return what installs an extra, from a package index and from a checkout."""
    return f"pip install 'genforensic[{extra}]' (in a checkout: pip install '.[{extra}]')"


def require(packages: Sequence[str], extra: str, option: str) -> None:
    """Import what an option needs. Raises UsageError with the pip line where it is not installed."""
    try:
        for package in packages:
            import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(f"{option} needs {packages[0]}, which is not installed; run: {pip_line(extra)}") from error
