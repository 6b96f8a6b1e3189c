"""Reads the cards of an export without starting a session, and without reading its weights."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

from forensic_cli.card import CARD_KEY, ModelCard, card_key
from forensic_cli.console import note
from forensic_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from forensic_cli.model import Model

MAX_EXPORT_BYTES = 1 << 30
"""Larger files are not read as exports."""
_MOST_FIELDS = 100_000
"""At the top of a message; a file with more is no export."""
_METADATA = 14  # field of onnx.ModelProto: repeated StringStringEntryProto
_KEY, _VALUE = 1, 2  # its fields
_MOST_METADATA = 1 << 26
"""Bytes of one entry; larger ones are no card."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


@dataclass(frozen=True)
class Export:
    """A technique in a file and what the file says of it; nothing of it has run."""

    card: ModelCard
    path: Path

    @classmethod
    def peek(cls, path: Path) -> list["Export"]:
        """Read the cards of a file, one a technique. Raises ModelError for a file that is not a genforensic export."""
        try:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode) or state.st_size > MAX_EXPORT_BYTES:
                raise ModelError(f"{path}: not a file of at most {MAX_EXPORT_BYTES} bytes, as an export is")
            with path.open("rb") as stream:
                return [cls(card, path) for card in read_cards(stream, path)]
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from error


def read_cards(stream: BinaryIO, path: Path) -> list[ModelCard]:
    """Return the cards in an ONNX file, one a technique. Raises ModelError, which names the path."""
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
        raise ModelError(f"{path}: its cards are not those of its techniques; export it again")
    return cards


def _metadata(stream: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield the entries of metadata_props. Raises ValueError for what is not a message of Protocol Buffers."""
    for _, content in _fields(stream, {_METADATA}):
        entry = dict(_fields(BytesIO(content), {_KEY, _VALUE}))
        yield entry.get(_KEY, b"").decode(), entry.get(_VALUE, b"").decode()


def _fields(stream: BinaryIO, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield the wanted byte fields of a message; the others are passed over.

    Source: Protocol Buffers documentation, "Encoding". Raises ValueError where the bytes are no whole message.
    """
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    for _ in range(_MOST_FIELDS):
        if stream.tell() >= end:
            return
        number, kind = divmod(_varint(stream), 8)
        if kind == _VARINT:
            _varint(stream)
            continue
        if kind not in (_FIXED64, _BYTES, _FIXED32) or number == 0:
            raise ValueError("no message of Protocol Buffers")
        length = _varint(stream) if kind == _BYTES else 8 if kind == _FIXED64 else 4
        if length > end - stream.tell():
            raise ValueError("the file ends too early")
        if kind == _BYTES and number in wanted and length <= _MOST_METADATA:
            yield number, stream.read(length)
        else:
            stream.seek(length, os.SEEK_CUR)
    raise ValueError("too many fields")


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends too early")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("no message of Protocol Buffers")


ENVIRONMENT_VARIABLE = "GENFORENSIC_EXPORTS"
DEFAULT_TECHNIQUES = ("baseline", "discriminant")
"""What a scan uses unless told otherwise: the first of them that is there, by its answers on left-out sources."""
DEFAULT_RECIPE = "native"
ALL = "all"


def export_folders(option: Path | None) -> list[Path]:
    """Return the folders to look in, in order: --exports alone, GENFORENSIC_EXPORTS alone, else what ships.

    What ships: `exports` inside the installed package (a wheel), then `exports` beside it (a checkout).
    """
    if option is not None:
        return [option]
    if variable := os.environ.get(ENVIRONMENT_VARIABLE):
        return [Path(variable)]
    package = Path(__file__).resolve().parent
    return [package / "exports", package.parent / "exports"]


def export_files(option: Path | None) -> list[Path]:
    """Return the .onnx files of the first folder that has any. Raises ModelError when none has."""
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


class Carded(Protocol):
    """What can be selected: an export, or a model that was made of one."""

    @property
    def card(self) -> ModelCard:
        """What the file says of itself."""

    @property
    def path(self) -> Path:
        """The file."""


T = TypeVar("T", bound=Carded)


def peek_exports(files: Sequence[Path]) -> list[Export]:
    """Read the cards of all files, without starting a session. A file that is no export is left out with a note.

    Raises ModelError where none is left.
    """
    found, errors = [], []
    for path in files:
        try:
            found += Export.peek(path)
        except ModelError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    for problem in errors:
        note(f"left out: {problem}", style="yellow")
    return found


def load_models(exports: Sequence[Export], device: str, threads: int = 1) -> list["Model"]:
    """Start a session for each file, and return the exports' models in their order.

    What does not run on the CPU is compared with it first. Raises ModelError where the two differ.
    """
    from forensic_cli.model import CPU, Model, check_against_cpu

    loaded = {path: Model.load_all(path, device, threads) for path in dict.fromkeys(one.path for one in exports)}
    for path, models in loaded.items():
        if models[0].provider != CPU:
            for model, reference in zip(models, Model.load_all(path, "cpu"), strict=True):
                check_against_cpu(model, reference)
    return [next(model for model in loaded[one.path] if model.card.technique == one.card.technique) for one in exports]


def select(models: Sequence[T], techniques: Sequence[str], recipe: str | None) -> list[T]:
    """Return the exports of the wanted techniques, in the order asked for, all of one recipe.

    No technique given: the default one, or the only one there is; `all` leaves out what was adapted. Raises UsageError
    for a name that no export has and for two exports that answer to one name.
    """
    recipes = sorted({model.card.recipe for model in models})
    if recipe is None:
        recipe = DEFAULT_RECIPE if DEFAULT_RECIPE in recipes else recipes[0]
    here = [model for model in models if model.card.recipe == recipe]
    if not here:
        raise UsageError(f"no export has recipe {recipe!r}; found: {', '.join(recipes)}")
    names = sorted({model.card.technique for model in here})
    if not techniques:
        techniques = [next((name for name in DEFAULT_TECHNIQUES if name in names), names[0])]
    elif ALL in techniques:
        # One that was adapted to a few sources is no equal judge of images from anywhere: it is asked for by its name
        adapted = {model.card.technique for model in here if "adapt" in model.card.training.get("splits", ())}
        techniques = [name for name in names if name not in adapted] or names
    return [_only(here, technique, names) for technique in dict.fromkeys(techniques)]


def _only(models: Sequence[T], technique: str, names: Sequence[str]) -> T:
    fitting = [model for model in models if model.card.technique == technique]
    if not fitting:
        raise UsageError(f"no export has technique {technique!r}; allowed: {', '.join(names)}, {ALL}")
    if len(fitting) > 1:
        files = ", ".join(model.path.name for model in fitting)
        raise UsageError(f"technique {technique!r} is in several exports ({files}); keep them in folders of their own")
    return fitting[0]


def check_labels(models: Sequence[Carded]) -> tuple[str, ...]:
    """Return the labels that all models share, in the first one's order. Raises ModelError with the difference."""
    first = models[0]
    for other in models[1:]:
        if set(other.card.labels) != set(first.card.labels):
            only_first = sorted(set(first.card.labels) - set(other.card.labels))
            only_other = sorted(set(other.card.labels) - set(first.card.labels))
            raise ModelError(
                f"{first.card.name} and {other.card.name} cannot be fused, their labels differ: "
                f"only the first has {', '.join(only_first) or 'none'}, "
                f"only the second has {', '.join(only_other) or 'none'}; scan with one technique at a time"
            )
    return first.card.labels
