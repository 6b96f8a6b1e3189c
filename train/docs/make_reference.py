"""Write the parts of reference.md that the code knows: commands, statuses, warnings and claims.

usage: python train/docs/make_reference.py    (with forensic_cli and train/ on the path) writes the parts again

What stands between `<!-- made: NAME -->` and `<!-- end -->` is replaced; everything else is written by hand.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from forensic_cli.images.header import STATUSES, WARNINGS
from forensic_cli.main import app
from forensic_cli.provenance import CLAIMS

REFERENCE = Path(__file__).with_name("reference.md")
_PLACE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def commands() -> Mapping[str, Any]:
    """Return every command by its name, in the order of the help page."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def updated(text: str) -> str:
    """Return the reference with its made parts as the code has them now."""
    parts = {
        "commands": "\n".join(_commands()),
        "statuses": _table(("status", "meaning"), [(f"`{name}`", what) for name, what in _all_statuses()]),
        "claims": _table(("claim", "meaning"), [(f"`{name}`", what) for name, what in CLAIMS.items()]),
        "warnings": _table(("warning", "meaning"), [(f"`{name}`", what) for name, what in WARNINGS.items()]),
    }
    return _PLACE.sub(lambda found: f"{found[1]}\n{parts[found[2]].strip()}\n\n{found[3]}", text)


def _all_statuses() -> Iterator[tuple[str, str]]:
    yield "ok", "the image was judged"
    yield from STATUSES.items()


def _commands() -> Iterator[str]:
    for name, command in commands().items():
        yield f"### genforensic {name}\n"
        yield from _described(command.help)
        yield _table(("argument or option", "meaning", "default or range"), [_option(one) for one in command.params])


def _described(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text as Markdown, and its examples as one block."""
    examples = []
    for paragraph in textwrap.dedent(text).split("\n\n"):
        if paragraph.startswith("    "):
            examples.append(textwrap.dedent(paragraph).strip())
        elif paragraph not in ("Examples:", "Example:"):
            yield f"{_prose(paragraph)}\n"
    yield "\n".join(["```sh", *examples, "```\n"])


def _prose(text: str) -> str:
    """Return a help text wrapped as the other documents are, with its options and placeholders as code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    pieces[::2] = (re.sub(r"(?<![\w-])--[a-z][a-z-]*|\S*<\S+", r"`\g<0>`", piece) for piece in pieces[::2])
    return "\n".join(textwrap.wrap("".join(pieces), 125, break_long_words=False, break_on_hyphens=False))


def _option(one: Any) -> tuple[str, str, str]:
    return f"`{_names(one)}`", _prose(one.help or "").replace("\n", " "), _limits(one)


def _names(one: Any) -> str:
    if one.param_type_name == "argument":
        return str(one.metavar or one.name.upper()) + ("..." if one.nargs != 1 else "")
    names = ", ".join(sorted(one.opts, key=len, reverse=True))
    if one.secondary_opts:
        return f"{names} / {', '.join(one.secondary_opts)}"
    return (
        names if one.is_flag else f"{names} {one.metavar or '|'.join(_choices(one.type_descriptor.annotation)) or 'N'}"
    )


def _choices(annotation: Any) -> list[str]:
    """Return the names that an option takes, where its type is a Literal of them, or that and None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for part in get_args(annotation) for name in _choices(part)]


def _limits(one: Any) -> str:
    """Return the default of a parameter that has one, and the range of a number."""
    said = ["required"] if one.required else []
    if one.param_type_name == "option" and one.secondary_opts:
        said.append(f"`{one.opts[0] if one.default else one.secondary_opts[0]}`")
    elif one.default not in (None, False, ""):
        said.append(f"`{one.default}`")
    elif one.default == 0 and not isinstance(one.default, bool):
        said.append("`0`")
    least, most = getattr(one, "min", None), getattr(one, "max", None)
    if most is not None:
        said.append(f"{least} to {most}")
    elif least is not None:
        said.append(f"{least} or more")
    return ", ".join(said)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


if __name__ == "__main__":
    REFERENCE.write_text(updated(REFERENCE.read_text(encoding="utf-8")), encoding="utf-8")
