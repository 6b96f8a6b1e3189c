"""Finds exports, reads their model cards without loading their weights, and selects those that a scan uses."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from forensic_cli.card import CARD_KEY, ModelCard, card_key
from forensic_cli.console import note
from forensic_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from forensic_cli.model import Model

MAX_EXPORT_BYTES = 1 << 30
"""Larger files are not read."""
ENVIRONMENT_VARIABLE = "GENFORENSIC_EXPORTS"
DEFAULT_TECHNIQUES = ("baseline", "discriminant")
"""The first of these that is available is the default technique of a scan."""
DEFAULT_RECIPE = "native"
ALL = "all"
"""Stands for every technique."""

_MAX_FIELDS = 100_000
"""A file with more fields at its top level is not an export."""
_METADATA = 14  # field number in onnx.ModelProto: repeated StringStringEntryProto metadata_props
_KEY, _VALUE = 1, 2  # field numbers in StringStringEntryProto
_MAX_METADATA = 1 << 26
"""Larger metadata entries, in bytes, are not cards."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of Protocol Buffers


def export_folders(option: Path | None) -> list[Path]:
    """Return the folders to search: that of --exports, else that of GENFORENSIC_EXPORTS, else those that ship.

    What ships is in `exports` inside the installed package (from a wheel) or beside it (in a checkout).
    """
    if option is not None:
        return [option]
    if variable := os.environ.get(ENVIRONMENT_VARIABLE):
        return [Path(variable)]
    package = Path(__file__).resolve().parent
    return [package / "exports", package.parent / "exports"]


def export_files(option: Path | None) -> list[Path]:
    """Return the .onnx files of the first folder that has any. Raises ModelError if none has."""
    folders = export_folders(option)
    for folder in folders:
        if folder.is_file():
            raise UsageError(f"{folder}: --exports and {ENVIRONMENT_VARIABLE} take a folder of .onnx files, not a file")
        if files := sorted(folder.glob("*.onnx")):
            return files
    raise ModelError(
        f"no exports found in {' or '.join(str(folder) for folder in folders)}; "
        "train some with `genforensic train`, or name a folder of .onnx files with --exports"
    )


@dataclass(frozen=True)
class Export:
    """A technique in an ONNX file; no session has been started for it."""

    card: ModelCard
    """What the file says about the technique."""
    path: Path
    """The file."""

    @classmethod
    def peek(cls, path: Path) -> list["Export"]:
        """Return a file's techniques. Raises ModelError if it is not a genforensic export."""
        with open_export(path) as stream:
            return [cls(card, path) for card in read_cards(stream, path)]


@contextmanager
def open_export(path: Path) -> Iterator[BinaryIO]:
    """Open a file that may be an export. Raises ModelError if it is special, too large, or cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_EXPORT_BYTES:
            raise ModelError(f"{path}: an export is a regular file of at most {MAX_EXPORT_BYTES} bytes")
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def peek_exports(files: Sequence[Path]) -> list[Export]:
    """Return the techniques in all files. Files that are not exports are skipped with a note.

    Raises ModelError if no file is an export.
    """
    exports, errors = [], []
    for path in files:
        try:
            exports += Export.peek(path)
        except ModelError as error:
            errors.append(error)
    if not exports:
        raise errors[0]
    for problem in errors:
        note(f"skipped: {problem}", style="yellow")
    return exports


def select(exports: Sequence[Export], techniques: Sequence[str], recipe: str | None) -> list[Export]:
    """Return the exports of the given techniques, in their order, all of one recipe.

    Without techniques: the default one, or the first by name. `all`: every technique that was not adapted to a few
    sources. Raises UsageError for a name that no export has, and for a technique that several exports have.
    """
    recipes = sorted({export.card.recipe for export in exports})
    if recipe is None:
        recipe = DEFAULT_RECIPE if DEFAULT_RECIPE in recipes else recipes[0]
    if recipe not in recipes:
        raise UsageError(f"no export has recipe {recipe!r}; found: {', '.join(recipes)}")
    by_technique: dict[str, list[Export]] = {}
    for export in sorted(exports, key=lambda export: export.card.technique):
        if export.card.recipe == recipe:
            by_technique.setdefault(export.card.technique, []).append(export)
    if not techniques:
        techniques = [next((name for name in DEFAULT_TECHNIQUES if name in by_technique), next(iter(by_technique)))]
    elif ALL in techniques:
        # A technique that was adapted to a few sources would not be an equal judge of images from anywhere
        equal = [
            name
            for name, same in by_technique.items()
            if not any("adapt" in export.card.training.get("splits", ()) for export in same)
        ]
        techniques = equal or list(by_technique)
    for name in techniques:
        if name not in by_technique:
            raise UsageError(f"no export has technique {name!r}; allowed: {', '.join(by_technique)}, {ALL}")
        if len(by_technique[name]) > 1:
            files = ", ".join(export.path.name for export in by_technique[name])
            raise UsageError(f"technique {name!r} is in several exports ({files}); put them in separate folders")
    return [by_technique[name][0] for name in dict.fromkeys(techniques)]


def check_labels(models: "Sequence[Export] | Sequence[Model]") -> tuple[str, ...]:
    """Return the labels that all models share, in the first one's order. Raises ModelError if they differ."""
    first = models[0].card
    for other in (model.card for model in models[1:]):
        only_first, only_second = set(first.labels) - set(other.labels), set(other.labels) - set(first.labels)
        if only_first or only_second:
            raise ModelError(
                f"{first.name} and {other.name} cannot be fused because their labels differ: "
                f"only the first has {', '.join(sorted(only_first)) or 'none'}, "
                f"only the second has {', '.join(sorted(only_second)) or 'none'}; scan with one technique at a time"
            )
    return first.labels


def read_cards(stream: BinaryIO, path: Path) -> list[ModelCard]:
    """Return the cards in an ONNX file, one per technique. Raises ModelError, which names the path."""
    try:
        texts = {key: text for key, text in _metadata(stream) if key.split(".")[0] == CARD_KEY}
    except ValueError as error:
        raise ModelError(f"{path}: not a usable ONNX file ({error}); copy it again or export it again") from error
    if not texts:
        raise ModelError(f"{path}: an ONNX file without a genforensic model card; export it with `genforensic export`")
    try:
        cards = [ModelCard.from_json(text) for text in texts.values()]
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    if {card_key(card.technique, len(cards)) for card in cards} != set(texts):
        raise ModelError(f"{path}: its model cards do not match its techniques; export it again")
    return cards


def _metadata(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield the entries of metadata_props. Raises ValueError for anything but a Protocol Buffers message."""
    for _, content in _fields(stream, {_METADATA}):
        entry = dict(_fields(BytesIO(content), {_KEY, _VALUE}))
        yield entry.get(_KEY, b"").decode(), entry.get(_VALUE, b"").decode()


def _fields(stream: BinaryIO, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and contents of the wanted byte fields of a message, and seek past all others.

    Source: Protocol Buffers documentation, "Encoding". Raises ValueError for anything but a complete message.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    for _ in range(_MAX_FIELDS):
        if stream.tell() >= end:
            return
        number, wire_type = divmod(_varint(stream), 8)  # the lowest three bits of a tag are the wire type
        if wire_type == _VARINT:
            _varint(stream)
            continue
        if wire_type not in (_FIXED64, _BYTES, _FIXED32) or number == 0:
            raise ValueError("not a Protocol Buffers message")
        length = _varint(stream) if wire_type == _BYTES else 8 if wire_type == _FIXED64 else 4
        if length > end - stream.tell():
            raise ValueError("the file ends too early")
        if wire_type == _BYTES and number in wanted and length <= _MAX_METADATA:
            yield number, stream.read(length)
        else:
            stream.seek(length, os.SEEK_CUR)
    raise ValueError("too many fields")


def _varint(stream: BinaryIO) -> int:
    """Read an integer of 7 bits per byte, lowest first; the highest bit is set in all bytes but the last."""
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("not a Protocol Buffers message")
