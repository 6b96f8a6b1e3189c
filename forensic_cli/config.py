"""Options from the environment and from configuration files, below what the command line says.

The order of precedence: option > environment > ./genforensic.toml > the user's file > default.
"""

import contextlib
import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from forensic_cli.errors import UsageError

FILE = "genforensic.toml"
"""Name of the file in the working folder."""
COMMAND_LINE_ONLY = ("force", "output", "resume", "json")
"""Options that neither a file nor the environment sets: what a run overwrites is said where it is started."""
TRACEBACK = "GENFORENSIC_TRACEBACK"
"""Set: a fault of the tool itself shows its traceback."""
_PREFIX = "GENFORENSIC"
_EXPORTS = "exports"


def options_of(command: Any) -> dict[str, Any]:
    """Return a command's options by their long names without dashes, such as `batch-size`."""
    found = {}
    for parameter in command.params:
        long = next((name for name in parameter.opts if name.startswith("--")), None)
        if long is not None:
            found[long.removeprefix("--")] = parameter
    return found


def bind_environment(command: Any) -> None:
    """Let GENFORENSIC_COMMAND_OPTION set each option of a command; its help page does not list them."""
    for name, option in options_of(command).items():
        if option.envvar is None and name not in COMMAND_LINE_ONLY:
            option.envvar = variable(command.name, name)
            option.show_envvar = False


def variable(command: str, option: str) -> str:
    """Return the name of the environment variable of an option."""
    return f"{_PREFIX}_{command}_{option}".upper().replace("-", "_")


def check_environment(commands: Mapping[str, Any]) -> None:
    """Raise UsageError for a variable that looks as if it were of this tool and sets nothing."""
    options = {variable(name, option): option for name, one in commands.items() for option in options_of(one)}
    allowed = [name for name, option in options.items() if option not in COMMAND_LINE_ONLY]
    allowed += [f"{_PREFIX}_EXPORTS", TRACEBACK]
    for name in sorted(os.environ):
        if not name.startswith(f"{_PREFIX}_") or name in allowed:
            continue
        if name in options:
            raise UsageError(f"{name}: --{options[name]} is for the command line alone; unset the variable")
        nearest = difflib.get_close_matches(name, allowed, 1, 0)[0]
        raise UsageError(f"{name} is no variable of genforensic; the nearest is {nearest}")


def config_files() -> list[Path]:
    """Return the files that exist, the strongest first; one in a folder that may not be entered does not."""
    # os.path.isfile: Path.is_file() raises where a folder may not be entered
    return [path for path in (Path(FILE), *_own_file()) if os.path.isfile(path)]  # noqa: PTH113


def _own_file() -> Iterator[Path]:
    base = os.environ.get("XDG_CONFIG_HOME")
    with contextlib.suppress(RuntimeError):  # an account without a home
        yield (Path(base) if base else Path.home() / ".config") / "genforensic" / "config.toml"


def load_defaults(commands: Mapping[str, Any], context: typer.Context) -> dict[str, dict[str, Any]]:
    """Return {command: {parameter: value}} of all files. Raises UsageError for what no command understands."""
    defaults: dict[str, dict[str, Any]] = {}
    for path in reversed(config_files()):
        for command, name, value in _settings(path, commands, context):
            defaults.setdefault(command, {})[name] = value
    return defaults


def set_by(path: Path, command: str) -> list[str]:
    """Return the names of the options that a file sets for a command."""
    table = _read(path).get(command, {})
    return list(table) if isinstance(table, dict) else []


def _settings(path: Path, commands: Mapping[str, Any], context: typer.Context) -> Iterator[tuple[str, str, Any]]:
    for section, table in _read(path).items():
        if section not in commands or not isinstance(table, dict):
            raise UsageError(f"{path}: {section!r} is no section; allowed: {', '.join(f'[{one}]' for one in commands)}")
        options = options_of(commands[section])
        allowed = [name for name in options if name not in COMMAND_LINE_ONLY]
        for key, value in table.items():
            name = key.replace("_", "-")
            if name in COMMAND_LINE_ONLY and name in options:
                raise UsageError(f"{path}: --{name} is for the command line alone; take it out of [{section}]")
            if name not in options:
                raise UsageError(f"{path}: unknown key {key!r} in [{section}]; allowed: {', '.join(allowed)}")
            # GENFORENSIC_EXPORTS is of all commands, and still the environment
            if name == _EXPORTS and os.environ.get(f"{_PREFIX}_EXPORTS"):
                continue
            found = _value(f"{path}: {key} in [{section}]", value, options[name])
            try:
                options[name].process_value(context, found)
            except typer.BadParameter as error:
                raise UsageError(f"{path}: {key} in [{section}]: {error.message}") from error
            yield section, options[name].name, found


def _value(where: str, value: Any, option: Any) -> Any:
    if option.is_flag and not isinstance(value, bool):
        raise UsageError(f"{where} must be true or false, not {value!r}")
    if option.multiple:
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) for one in values):
            raise UsageError(f'{where} must be a list of texts, such as ["a", "b"], not {value!r}')
        return values
    if not isinstance(value, str | int | float) or isinstance(value, bool) != option.is_flag:
        raise UsageError(f"{where} must be one value, not {value!r}")
    return value


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise UsageError(f"{path}: is not TOML ({what}); see the README for an example") from error
