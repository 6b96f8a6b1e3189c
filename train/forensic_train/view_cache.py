"""Decoded images on disk, packed in a few large files that are mapped into memory; any training may share them.

An image is found by the sha256 of its file, so another split, order or technique uses what an earlier one decoded. The
files, called shards, are never appended to: each is written completely and then moved into place. Every image has a
checksum, which each process checks when it reads the image for the first time. Checking whole shards on opening would
read everything once more before the first update, and would miss what a disk loses later. A damaged image is decoded
again from its file.

Layout of a shard: the pixels of all images, one after the other; the index, an _ENTRY each; one _TRAILER. The trailer
comes last, so a shard that was cut has none.
"""

import mmap
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4
from zlib import crc32

import numpy as np
import numpy.typing as npt

from forensic_cli.console import note, track
from forensic_cli.errors import TrainingError
from forensic_cli.images.header import Pixels
from forensic_cli.pipeline import default_workers, ordered_map

SHARD_BYTES = 256 << 20
"""A shard is closed when it has this many; a build that is interrupted loses at most the shard it was writing."""
_SUFFIX = ".pixels"
_ENTRY = np.dtype(
    [("sha256", "S32"), ("offset", "<u8"), ("height", "<u4"), ("width", "<u4"), ("checksum", "<u4")], align=False
)
"""One image: hash of its file, first byte of its H x W x 3 pixels in the shard, H, W, CRC-32 of the pixels."""
_TRAILER = struct.Struct("<8s32sQI")
"""_MAGIC, the stamp of the cache, number of entries, CRC-32 of the index."""
_MAGIC = b"gfpixels"
_MOST_MAPS = 256
"""Shards that are mapped at the same time; each takes a file descriptor, of which a process often has 1024."""
_SAMPLE = 32
"""Images that are decoded to estimate the disk space of all of them."""
_WORTH_A_NOTE = 1 << 30
"""Bytes; a smaller cache is built without a word."""

Load = Callable[[int], Pixels]
"""Decodes the image of a row from its file."""
Index = npt.NDArray[Any]
"""Entries of type _ENTRY."""


class ViewCache:
    """The decoded images of some rows, by the number of the row."""

    def __init__(self, shards: Mapping[Path, Index], keys: npt.NDArray[np.bytes_], load: Load) -> None:
        """Find the rows' images in the shards; `keys` are the binary sha256 of their files, all of them present."""
        index, shard_of = _joined(shards)
        place, present = _find(index, keys)
        assert present.all()
        self._paths = list(shards)
        self._shard = shard_of[place]
        self._offset = index["offset"][place].astype(np.int64)
        self._sides = np.stack([index["height"][place], index["width"][place]], axis=1).astype(np.int64)
        self._checksum = index["checksum"][place]
        self._load = load
        self._checked = np.zeros(len(keys), bool)
        self._reported: set[int] = set()
        self._maps: dict[int, Pixels] = {}

    def __len__(self) -> int:
        return len(self._checked)

    def __getitem__(self, row: int) -> Pixels:
        """Return the pixels H x W x 3 of a row's image, as a read-only view of the file.

        Raises TrainingError if the shard is lost, or if the image is damaged and its file gives other pixels by now.
        """
        shard, start = int(self._shard[row]), int(self._offset[row])
        height, width = self._sides[row].tolist()
        flat = self._map(shard)[start : start + height * width * 3]
        if not self._checked[row]:
            if crc32(flat.data) != self._checksum[row]:
                return self._repair(row)
            self._checked[row] = True
        return flat.reshape(height, width, 3)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}  # a pickled map would be a copy of the whole file

    def _map(self, shard: int) -> Pixels:
        mapped = self._maps.get(shard)
        if mapped is None:
            path = self._paths[shard]
            try:
                with path.open("rb") as stream:
                    mapped = np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
            except (OSError, ValueError) as error:  # ValueError: the file is empty
                raise TrainingError(f"{path}: was removed or emptied while in use ({error}); run again") from error
            if len(self._maps) >= _MOST_MAPS:
                self._maps.pop(list(self._maps)[0], None)  # noqa: RUF015  other threads may change it meanwhile
            self._maps[shard] = mapped
        return mapped

    def _repair(self, row: int) -> Pixels:
        """Decode a damaged image again, and put it back in its place if the file can be written."""
        path, pixels = self._paths[self._shard[row]], np.ascontiguousarray(self._load(row))
        if crc32(pixels.data) != self._checksum[row]:
            raise TrainingError(f"{path}: was made by another decoder; remove the folder {path.parent}, and run again")
        if self._shard[row] not in self._reported:
            self._reported.add(self._shard[row])
            note(f"{path}: is damaged; the images in question are decoded again.", "yellow")
        with suppress(OSError), path.open("r+b") as stream:
            stream.seek(int(self._offset[row]))
            stream.write(pixels.data)
        return pixels


def open_cache(folder: Path, stamp: str, keys: npt.NDArray[np.bytes_], load: Load) -> ViewCache:
    """Return the decoded images of rows with these sha256 (S32); what `folder` lacks is decoded into it.

    `stamp`: a sha256 of everything besides the files that determines the pixels; other shards are not used. Several
    processes may call this at once: one decodes, and the others wait for it. Raises TrainingError if the disk is full
    or cannot be written, and whatever `load` raises.
    """
    owner = bytes.fromhex(stamp)
    try:
        shards, _ = _read_shards(folder, owner)
        if len(_missing(shards, keys)):
            folder.mkdir(parents=True, exist_ok=True)
            with _only_builder(folder) as alone:
                shards, broken = _read_shards(folder, owner)  # another process may have decoded them meanwhile
                _clean(folder, broken, alone)
                if len(missing := _missing(shards, keys)):
                    _build(folder, owner, keys, missing, load)
            shards, _ = _read_shards(folder, owner)
    except OSError as error:
        raise TrainingError(
            f"{folder}: decoded images cannot be kept there ({error.strerror}); free some disk space, or name another "
            "folder with --signals; a second run continues with the images that were decoded"
        ) from error
    return ViewCache(shards, keys, load)


def _build(
    folder: Path, stamp: bytes, keys: npt.NDArray[np.bytes_], missing: npt.NDArray[np.int64], load: Load
) -> None:
    needed = _check_space(folder, missing, load)
    rows = missing.tolist()
    # Threads, because decoders release Python's lock: processes were no faster, and pixels would be copied between them
    decoded = ordered_map(load, rows, default_workers(), 32)
    images = zip(rows, track(decoded, "decoding", len(rows)), strict=True)
    while _write_shard(folder, stamp, ((keys[row : row + 1].tobytes(), pixels) for row, pixels in images)):
        pass
    if needed > _WORTH_A_NOTE:
        note(f"{folder}: keeps decoded images, {_size(needed)}; it can be removed after the training.")


def _write_shard(folder: Path, stamp: bytes, images: Iterator[tuple[bytes, Pixels]]) -> bool:
    """Write one shard of the next images; returns whether it is full, so that more may follow."""
    entries: list[tuple[bytes, int, int, int, int]] = []
    offset = 0
    temporary = folder / f".{uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as stream:
            for key, image in images:
                pixels = np.ascontiguousarray(image)
                stream.write(pixels.data)
                entries.append((key, offset, *pixels.shape[:2], crc32(pixels.data)))
                offset += pixels.nbytes
                if offset >= SHARD_BYTES:
                    break
            index = np.array(entries, _ENTRY).tobytes()
            stream.write(index + _TRAILER.pack(_MAGIC, stamp, len(entries), crc32(index)))
        if entries:
            temporary.replace(folder / f"{sha256(index).hexdigest()[:16]}{_SUFFIX}")
    finally:
        temporary.unlink(missing_ok=True)
    return offset >= SHARD_BYTES


def _read_shards(folder: Path, stamp: bytes) -> tuple[dict[Path, Index], list[Path]]:
    """Return the index of every shard, and the files that are damaged or belong to another cache."""
    read = {path: _read_index(path, stamp) for path in sorted(folder.glob(f"*{_SUFFIX}"))}
    shards = {path: index for path, index in read.items() if index is not None}
    return shards, [path for path, index in read.items() if index is None]


def _read_index(path: Path, stamp: bytes) -> Index | None:
    """Return the index of a shard; None unless it is complete and belongs to this cache."""
    with suppress(FileNotFoundError), path.open("rb") as stream:  # another process may have removed it
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _TRAILER.size))
        trailer = stream.read()
        if len(trailer) < _TRAILER.size:
            return None
        magic, owner, count, checksum = _TRAILER.unpack(trailer)
        end = size - _TRAILER.size - count * _ENTRY.itemsize
        if (magic, owner) != (_MAGIC, stamp) or count == 0 or end < 0:
            return None
        stream.seek(end)
        data = stream.read(count * _ENTRY.itemsize)
        index: Index = np.frombuffer(data, _ENTRY)
        if crc32(data) == checksum and _end(index[-1]) == end:
            return index
    return None


def _end(entry: Any) -> int:
    return int(entry["offset"]) + int(entry["height"]) * int(entry["width"]) * 3


def _joined(shards: Mapping[Path, Index]) -> tuple[Index, npt.NDArray[np.int64]]:
    """Return the entries of all shards in one array, and the number of each one's shard."""
    if not shards:
        return np.empty(0, _ENTRY), np.empty(0, np.int64)
    return np.concatenate(list(shards.values())), np.repeat(np.arange(len(shards)), [len(i) for i in shards.values()])


def _find(index: Index, keys: npt.NDArray[np.bytes_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the entry of every key, and whether there is one."""
    if not len(index):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    prefixes = _prefixes(index["sha256"])
    order = np.argsort(prefixes)
    near = np.searchsorted(prefixes, _prefixes(keys), sorter=order)
    place = order[np.minimum(near, len(order) - 1)]
    return place, index["sha256"][place] == keys


def _prefixes(keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.uint64]:
    """Return the first 8 bytes of hashes, which sort twenty times as fast; no two of ten million images share them."""
    return np.ascontiguousarray(keys).view("<u8")[::4]


def _missing(shards: Mapping[Path, Index], keys: npt.NDArray[np.bytes_]) -> npt.NDArray[np.int64]:
    """Return the first row of every image that no shard has."""
    _, first = np.unique(_prefixes(keys), return_index=True)
    first = np.sort(first)
    _, present = _find(_joined(shards)[0], keys[first])
    return first[~present]


def _check_space(folder: Path, missing: npt.NDArray[np.int64], load: Load) -> int:
    """Return about how many bytes the images need. Raises TrainingError if the disk has fewer."""
    sample = missing[:: -(-len(missing) // _SAMPLE)].tolist()
    sizes = [pixels.nbytes for pixels in ordered_map(load, sample, default_workers(), _SAMPLE)]
    needed = sum(sizes) * len(missing) // len(sizes)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"{folder}: {len(missing)} decoded images need about {_size(needed)}, and {_size(free)} are free; "
            "free some disk space, or name a folder on another disk with --signals"
        )
    return needed


def _clean(folder: Path, broken: Sequence[Path], alone: bool) -> None:
    """Remove damaged shards and, unless another process may be writing them, incomplete ones."""
    for path in broken:
        note(f"{path}: is damaged or of another cache and is removed; its images are decoded again.", "yellow")
        path.unlink(missing_ok=True)
    if alone:
        for path in folder.glob(".*.tmp"):
            path.unlink(missing_ok=True)


@contextmanager
def _only_builder(folder: Path) -> Iterator[bool]:
    """Wait until no other process decodes into the folder; yields False where there are no locks.

    Without locks two processes may decode the same images, which takes longer and does no harm.
    """
    with (folder / ".lock").open("w") as stream:
        try:
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note(f"{folder}: waiting for another process that decodes images into it.")
                fcntl.flock(stream, fcntl.LOCK_EX)
            alone = True
        except (ImportError, OSError):  # Windows, and some network file systems
            alone = False
        yield alone


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.1f} kB"
