"""Reads the cards of an export without starting a session, and without reading its weights."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from forensic_cli.card import CARD_KEY, ModelCard, card_key
from forensic_cli.errors import ModelError

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
