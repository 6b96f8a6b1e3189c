"""Option values from environment variables and configuration files.

Order of precedence: command line > environment > ./genforensic.toml > the user's own file > built-in default.
"""

import contextlib
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from forensic_cli.errors import UsageError

FILE = "genforensic.toml"
"""Name of the configuration file in the working folder."""
COMMAND_LINE_ONLY = ("force", "output", "resume", "json")
"""Options that only the command line can set, so that no forgotten setting decides which file is overwritten."""
TRACEBACK = "GENFORENSIC_TRACEBACK"
"""If this variable is set, an internal error shows its traceback."""
_EXPORTS = "GENFORENSIC_EXPORTS"
"""Applies to every command; see exports.py."""


def options_of(command: Any) -> dict[str, Any]:
    """Return a command's options by their long names without dashes, such as `batch-size`."""
    long_names = ((next((name for name in p.opts if name.startswith("--")), ""), p) for p in command.params)
    return {name.removeprefix("--"): parameter for name, parameter in long_names if name}


def bind_environment(command: Any) -> None:
    """Let GENFORENSIC_COMMAND_OPTION set each option of a command, without listing it on the help page."""
    for name, option in options_of(command).items():
        if option.envvar is None and name not in COMMAND_LINE_ONLY:
            option.envvar = _variable(command.name, name)
            option.show_envvar = False


def _variable(command: str, option: str) -> str:
    return f"GENFORENSIC_{command}_{option}".upper().replace("-", "_")


def check_environment(commands: Mapping[str, Any]) -> None:
    """Raise UsageError for a GENFORENSIC_ variable that does not set anything."""
    options = {_variable(name, option): option for name, command in commands.items() for option in options_of(command)}
    allowed = [name for name, option in options.items() if option not in COMMAND_LINE_ONLY]
    allowed += [_EXPORTS, TRACEBACK]
    for name in sorted(os.environ):
        if not name.startswith("GENFORENSIC_") or name in allowed:
            continue
        if name in options:
            raise UsageError(f"{name}: --{options[name]} works on the command line only; unset the variable")
        nearest = difflib.get_close_matches(name, allowed, 1, 0)[0]
        raise UsageError(f"{name} is not a variable of genforensic; did you mean {nearest}?")


def config_files() -> list[Path]:
    """Return the existing configuration files, the one with the highest precedence first."""
    paths = [Path(FILE)]
    with contextlib.suppress(RuntimeError):  # the account has no home folder
        base = os.environ.get("XDG_CONFIG_HOME")
        paths.append((Path(base) if base else Path.home() / ".config") / "genforensic" / "config.toml")
    # Path.is_file() raises if a folder on the way cannot be entered
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113


def load_defaults(commands: Mapping[str, Any], context: typer.Context) -> dict[str, dict[str, Any]]:
    """Return {command: {parameter: value}} from all files. Raises UsageError for an unknown section, key or value."""
    defaults: dict[str, dict[str, Any]] = {}
    for path in reversed(config_files()):
        for section, table in _read(path).items():
            if section not in commands or not isinstance(table, dict):
                sections = ", ".join(f"[{name}]" for name in commands)
                raise UsageError(f"{path}: {section!r} is not a section; allowed: {sections}")
            options = options_of(commands[section])
            for key, value in table.items():
                option = _option(f"{path}:", key, section, options)
                # GENFORENSIC_EXPORTS is part of the environment, which takes precedence over files
                if option.name != "exports" or not os.environ.get(_EXPORTS):
                    checked = _checked(f"{path}: {key} in [{section}]", value, option, context)
                    defaults.setdefault(section, {})[option.name] = checked
    return defaults


def local_settings(command: str) -> list[str]:
    """Return the names of the options that the file in the working folder sets for a command."""
    path = Path(FILE)
    table = _read(path).get(command) if path in config_files() else None
    return list(table) if isinstance(table, dict) else []


def _option(where: str, key: str, section: str, options: Mapping[str, Any]) -> Any:
    name = key.replace("_", "-")
    if name not in options:
        allowed = ", ".join(name for name in options if name not in COMMAND_LINE_ONLY)
        raise UsageError(f"{where} unknown key {key!r} in [{section}]; allowed: {allowed}")
    if name in COMMAND_LINE_ONLY:
        raise UsageError(f"{where} --{name} works on the command line only; remove it from [{section}]")
    return options[name]


def _checked(where: str, value: Any, option: Any, context: typer.Context) -> Any:
    """Return a value in the form that the option takes. Raises UsageError if the option does not accept it."""
    if option.is_flag and not isinstance(value, bool):
        raise UsageError(f"{where} must be true or false, not {value!r}")
    if option.multiple:
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise UsageError(f'{where} must be a list of strings, such as ["a", "b"], not {value!r}')
        value = texts
    elif not isinstance(value, str | int | float) or isinstance(value, bool) != option.is_flag:
        raise UsageError(f"{where} must be a single value, not {value!r}")
    try:
        option.process_value(context, value)
    except typer.BadParameter as error:
        raise UsageError(f"{where}: {error.message.removeprefix('Value error, ')}") from error
    return value


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path}: is not valid TOML ({reason}); write sections such as [scan], and lines such as threshold = 0.8"
        ) from error
