"""Write the parts of the documents that the code and the exports know: tables of commands, names and accuracy.

usage: python train/docs/make_reference.py    (with forensic_cli and train/ on the path)

Only what stands between `<!-- made: NAME -->` and `<!-- end -->` is replaced; the rest is written by hand.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from forensic_cli import record
from forensic_cli.card import ModelCard
from forensic_cli.commands.triage import AnalystDecision
from forensic_cli.exports import Export
from forensic_cli.images.header import STATUSES, WARNINGS
from forensic_cli.main import app
from forensic_cli.provenance import CLAIMS
from forensic_cli.results_file import Part

ROOT = Path(__file__).parents[2]
REFERENCE = Path(__file__).with_name("reference.md")
DOCUMENTS = (REFERENCE, ROOT / "README.md", ROOT / "exports" / "README.md")
"""Documents with made parts."""
DEFAULT_TECHNIQUE = "baseline"
_PLACE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

AS_PUBLISHED, CROPPED = "as found", "cut"
"""Names of the model card: whole images as they were published; parts of 256 pixels."""
BRIEF_CONDITIONS = (
    ("lossless, as published", "lossless", AS_PUBLISHED),
    ("recompressed, JPEG 93 to 98", "jpeg-93", "jpeg-93"),
    ("recompressed, JPEG 80 to 92", "jpeg-80", "jpeg-80"),
    ("recompressed, JPEG 60 to 79", "jpeg-60", "jpeg-60"),
    ("recompressed, WebP 65 to 92", "webp", "webp"),
    ("256-pixel crop, lossless", "lossless", CROPPED),
)
"""(what a reader sees, state and form in the model card) of each row of the README's table."""
ALL_CONDITIONS = (
    ("lossless, as published", "lossless", AS_PUBLISHED),
    ("WebP, as published", "webp", AS_PUBLISHED),
    ("JPEG 93 and above, as published", "jpeg-93", AS_PUBLISHED),
    ("JPEG 80 to 92, as published", "jpeg-80", AS_PUBLISHED),
    ("JPEG 60 to 79, as published", "jpeg-60", AS_PUBLISHED),
    *BRIEF_CONDITIONS[1:5],
    ("resized by 0.5 to 1.5", "lossless", "resized"),
    ("JPEG, cropped, saved losslessly", "lossless", "saved again"),
    ("resized, then JPEG 80 to 92", "jpeg-80", "resized, jpeg"),
    BRIEF_CONDITIONS[5],
    ("256-pixel crop, JPEG 80 to 92", "jpeg-80", CROPPED),
)
"""The same of the table in exports/README.md."""
TECHNIQUES = ("baseline", "adversarial", "weighted", "discriminant", "finetune")
"""In the order of the tables that compare them."""


def commands() -> Mapping[str, Any]:
    """Return every command by its name, in the order of the help page."""
    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def updated(text: str) -> str:
    """Return a document with its made parts as the code and the exports have them now."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{_PARTS[place[2]]().strip()}\n\n{place[3]}", text)


# Accuracy, from the model cards of what ships


def shipped_cards() -> dict[str, ModelCard]:
    """Return the card of each technique that ships."""
    exports = (export for path in sorted((ROOT / "exports").glob("*.onnx")) for export in Export.peek(path))
    return {export.card.technique: export.card for export in exports}


def _brief_accuracy() -> str:
    head = ("images", "AUROC", *_ANSWER_COLUMNS)
    card = shipped_cards()[DEFAULT_TECHNIQUE]
    rows = []
    for title, state, form in BRIEF_CONDITIONS:
        measured = card.decisions[state].measured[form]
        rows.append((title, _decimal(measured["auroc"]), *_answers(measured)))
    return _table(head, rows)


def _all_conditions() -> str:
    head = ("images", "number", "sources", "AUROC", "top label correct", *_ANSWER_COLUMNS)
    card = shipped_cards()[DEFAULT_TECHNIQUE]
    rows = []
    for title, state, form in ALL_CONDITIONS:
        measured = card.decisions[state].measured[form]
        labels = f"{_decimal(measured['macro_recall'])} of {measured['labels']}"
        number, sources = f"{measured['images']:,}", str(measured["sources"])
        rows.append((title, number, sources, _decimal(measured["auroc"]), labels, *_answers(measured)))
    return _table(head, rows)


def _techniques() -> str:
    head = ("technique", "images", "AUROC", "top label correct", *_ANSWER_COLUMNS)
    cards, rows = shipped_cards(), []
    for title, state, form in (
        ("lossless, as published", "lossless", AS_PUBLISHED),
        ("JPEG 80 to 92, all forms", "jpeg-80", "all forms"),
    ):
        for name in TECHNIQUES:
            measured = cards[name].decisions[state].measured[form]
            figures = (_decimal(measured["auroc"]), _decimal(measured["macro_recall"]), *_answers(measured))
            rows.append((f"`{name}`", f"{title} ({measured['images']:,})", *figures))
    return _table(head, rows)


_ANSWER_COLUMNS = (
    *("generated images detected", "real images called generated", "answers correct"),
    *("generated images named", "names correct"),
)
"""Shares of a card's `measured`, in the order of `_answers`."""


def _answers(measured: Mapping[str, Any]) -> Iterator[str]:
    for name in ("generated_found", "real_called_generated", "decided_right", "named", "named_right"):
        value = measured[name]
        yield "–" if value is None else f"{value:.0%}"


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


# Commands, from their help texts


def _commands() -> str:
    return "\n".join(_command_parts())


def _command_parts() -> Iterator[str]:
    for name, command in commands().items():
        yield f"### genforensic {name}\n"
        yield from _described(command.help)
        rows = [_parameter(parameter) for parameter in command.params]
        yield _table(("argument or option", "meaning", "default or range"), rows)


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
    """Return a help text wrapped like the other documents, with its options and placeholders as code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()))
    pieces[::2] = (re.sub(r"(?<![\w-])--[a-z][a-z-]*|\S*<\S+", r"`\g<0>`", piece) for piece in pieces[::2])
    return "\n".join(textwrap.wrap("".join(pieces), 125, break_long_words=False, break_on_hyphens=False))


def _parameter(parameter: Any) -> tuple[str, str, str]:
    return f"`{_names(parameter)}`", _prose(parameter.help or "").replace("\n", " "), _limits(parameter)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()) + ("..." if parameter.nargs != 1 else "")
    names = ", ".join(sorted(parameter.opts, key=len, reverse=True))
    if parameter.secondary_opts:
        return f"{names} / {', '.join(parameter.secondary_opts)}"
    choices = "|".join(_choices(parameter.type_descriptor.annotation))
    return names if parameter.is_flag else f"{names} {parameter.metavar or choices or 'N'}"


def _choices(annotation: Any) -> list[str]:
    """Return the names that an option takes if its type is a Literal of them, or that and None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [name for part in get_args(annotation) for name in _choices(part)]


def _limits(parameter: Any) -> str:
    """Return the default of a parameter that has one, and the range of a number."""
    limits = ["required"] if parameter.required else []
    if parameter.param_type_name == "option" and parameter.secondary_opts:
        limits.append(f"`{parameter.opts[0] if parameter.default else parameter.secondary_opts[0]}`")
    elif parameter.default not in (None, False, ""):
        limits.append(f"`{parameter.default}`")
    elif parameter.default == 0 and not isinstance(parameter.default, bool):
        limits.append("`0`")
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if most is not None:
        limits.append(f"{least} to {most}")
    elif least is not None:
        limits.append(f"{least} or more")
    return ", ".join(limits)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped) + "\n"


def _name_table(column: str, meanings: Mapping[str, str]) -> str:
    return _table((column, "meaning"), [(f"`{name}`", meaning) for name, meaning in meanings.items()])


def _row() -> str:
    """Return the table of a row's record, which has the fields of its verdict beside its own."""
    tables = {record.FileResult: _field_rows(record.FileResult), record.Verdict: _field_rows(record.Verdict)}
    rows = {}
    for name in record.row_fields():
        cells = tables[record.Verdict].get(name) or tables[record.FileResult][name]
        or_null = name in tables[record.Verdict] and "or null" not in cells[1]
        rows[name] = (cells[0], f"{cells[1]} or null" if or_null else cells[1], cells[2])
    return _table(_FIELD_COLUMNS, list(rows.values()))


def _fields(kind: type) -> str:
    return _table(_FIELD_COLUMNS, list(_field_rows(kind).values()))


def _field_rows(kind: type) -> dict[str, tuple[str, str, str]]:
    """Return {name: (name, type, meaning)} of a dataclass whose fields each have a docstring below."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(declared, ast.ClassDef)
    hints, rows = get_type_hints(kind), {}
    for field, below in pairwise(declared.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and field.target.id != "exports":
            assert isinstance(below, ast.Expr)
            assert isinstance(below.value, ast.Constant)
            name = field.target.id
            rows[name] = (f"`{name}`", _type_in_words(hints[name]), " ".join(str(below.value.value).split()))
    return rows


def _type_in_words(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return f"{' or '.join(_type_in_words(part) for part in get_args(hint) if part is not NoneType)} or null"
    if hint is str:
        return "text"
    if hint in (int, float):
        return "number"
    return {tuple: "list", Mapping: "object"}.get(get_origin(hint), "object")


_FIELD_COLUMNS = ("field", "type", "meaning")

_PARTS = {
    "accuracy": _brief_accuracy,
    "conditions": _all_conditions,
    "techniques": _techniques,
    "commands": _commands,
    "run": lambda: _fields(record.RunHeader),
    "model": lambda: _fields(record.UsedModel),
    "row": _row,
    "prediction": lambda: _fields(record.Prediction),
    "stability": lambda: _fields(record.Stability),
    "claim": lambda: _fields(record.Claim),
    "part": lambda: _fields(Part),
    "decision": lambda: _fields(AnalystDecision),
    "statuses": lambda: _name_table("status", {"ok": "the image was judged", **STATUSES}),
    "warnings": lambda: _name_table("warning", WARNINGS),
    "claims": lambda: _name_table("claim", CLAIMS),
}
"""What makes each part."""

if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(updated(document.read_text(encoding="utf-8")), encoding="utf-8")
