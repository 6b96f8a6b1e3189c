"""Packages that only some options need: a missing one is a line that says how to install it."""

from collections.abc import Sequence
from importlib import import_module

from forensic_cli.errors import UsageError


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
