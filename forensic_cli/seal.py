"""The seal of a results file, and whether the file, its images and its models are still what they were.

The seal holds the SHA-256 of every byte before it. It keeps no secret: anyone who edits the file can reseal it, so note
its hash elsewhere when the scan is done. Without this tool, `head -n -1 case.jsonl | sha256sum` computes it again.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from forensic_cli.errors import UsageError
from forensic_cli.exports import export_folders
from forensic_cli.images.header import Unreadable
from forensic_cli.objects import Location, ObjectUrl, is_url
from forensic_cli.pipeline import read_file
from forensic_cli.record import path_bytes
from forensic_cli.results_file import (
    JSONL_RUN,
    LONGEST_LINE,
    MANIFEST,
    SEAL,
    Part,
    is_parquet,
    part_files,
    read_entries,
    read_manifest,
)

MOST_MARKS = 1024
"""Marks in one seal; in longer files a mark stands for 2, 4, 8, ... rows."""
_MARK_DIGITS = 8
_HASH = re.compile(r"[0-9a-f]{64}")
_JSONL_HEADER = f'{{"{JSONL_RUN}": '.encode()
_JSONL_SEAL = f'{{"{SEAL}": '.encode()
_JSON_SEAL = f'"{SEAL}": '.encode()
_JSON_ROWS_END = b"],\n"

KINDS = (
    *("header_edited", "rows_changed", "end_edited", "rows_appended", "seal_missing", "seal_edited", "resealed"),
    *("part_changed", "part_missing", "part_added"),
    *("row_unreadable", "file_changed", "file_missing", "model_changed", "model_missing"),
)
"""Every kind of fault."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it was."""

    kind: str
    """A name from KINDS."""
    subject: str
    """Path in the row, or the model; empty if the results file itself is meant."""
    message: str
    """One line."""


class Sealer:
    """Hashes a results file while it is written: its header, then row by row, then what stands before the seal.

    A mark is the beginning of the hash of everything up to a row, so that a changed row can be named later. Whenever
    there are too many marks every second one is dropped, so that memory does not grow with the file.
    """

    def __init__(self, header: bytes | str, every: int | None = None) -> None:
        """Begin with the text before the first row. `every`: rows between two marks, once and for all."""
        self._hash = hashlib.sha256(_encoded(header))
        self._is_fixed = every is not None
        self._every = every or 1
        self._rows = 0
        self._marks = [self._mark()]

    def add_row(self, line: bytes | str) -> None:
        """Take one row, with its newline."""
        self._hash.update(_encoded(line))
        self._rows += 1
        if self._rows % self._every == 0:
            self._marks.append(self._mark())
        if len(self._marks) > MOST_MARKS and not self._is_fixed:
            self._marks, self._every = self._marks[::2], 2 * self._every

    def add_end(self, text: bytes | str) -> None:
        """Take text between the last row and the seal."""
        self._hash.update(_encoded(text))

    def seal(self) -> dict[str, Any]:
        """Return the JSON-ready seal: the hash, the number of rows, the marks, and how many rows lie between two."""
        marks = "".join(self._marks)
        return {"sha256": self._hash.hexdigest(), "rows": self._rows, "every": self._every, "marks": marks}

    def _mark(self) -> str:
        return self._hash.hexdigest()[:_MARK_DIGITS]


def seal_line(seal: Mapping[str, Any]) -> str:
    """Return the last line of a JSON Lines file."""
    return json.dumps({SEAL: seal}) + "\n"


def _encoded(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")  # as console.Output does


@dataclass(frozen=True)
class Checked:
    """A results file compared with its seal."""

    header: Mapping[str, Any]
    """The run header as it stands there."""
    rows: int
    """Rows before the seal."""
    seal: str | None
    """The hash in the seal; None without a seal."""
    faults: tuple[Fault, ...]
    """What is not as it was sealed."""

    def __str__(self) -> str:
        """Say in one sentence whether the seal holds, is missing or is broken."""
        if not self.faults:
            return f"the seal holds: the file is as it was sealed ({self.seal})"
        if self.seal is None:
            return f"the seal is missing: {self.faults[0].message.removeprefix('no seal: ')}"
        more = f", and {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
        return f"the seal is broken: {self.faults[0].message}{more}"


def check_results(path: Path, noted: str | None = None) -> Checked:
    """Compare results with their seal, and the seal with a hash that was noted elsewhere.

    Of a folder of parts the manifest holds the seal, and the hash of each part. Raises UsageError for what does not
    hold results, and for a noted hash that cannot be one.
    """
    if not path.is_dir():
        return _check_sealed(path, noted)
    manifest = read_manifest(path)
    checked = _check_sealed(path / MANIFEST, noted)
    faults = [fault for part in manifest.parts if (fault := _check_part(path, part)) is not None]
    listed = {part.part for part in manifest.parts}
    faults += [
        Fault("part_added", file.name, f"{file.name}: is not in the manifest")
        for file in part_files(path)
        if file.name not in listed
    ]
    return replace(checked, rows=sum(part.rows for part in manifest.parts), faults=(*checked.faults, *faults))


def _check_part(folder: Path, part: Part) -> Fault | None:
    """Compare a part with its line in the manifest; its own seal, if it has one, tells which row was changed."""
    now = file_sha256(folder / part.part)
    if now is None:
        return Fault("part_missing", part.part, f"{part.part}: the part is gone or cannot be read")
    if now == part.sha256:
        return None
    try:
        faults = _check_sealed(folder / part.part, None).faults
    except UsageError:
        faults = ()
    detail = f" ({faults[0].message})" if faults and faults[0].kind != "seal_missing" else ""
    return Fault("part_changed", part.part, f"{part.part}: has another sha256 than the manifest says{detail}")


def _check_sealed(path: Path, noted: str | None) -> Checked:
    """Compare one file with its seal."""
    wanted = None if noted is None else noted.strip().lower()
    if wanted is not None and not _HASH.fullmatch(wanted):
        raise UsageError(
            f"--seal {noted!r} is not a seal; give the 64 hexadecimal digits that `genforensic verify` printed"
        )
    header = next(read_entries(path))[1]
    if is_parquet(path):
        fault = Fault("seal_missing", "", "no seal: a Parquet file has none; a manifest of parts or JSON Lines has")
        return Checked(header, 0, None, (fault,))
    found, seal_text, appended = _hash_again(path)
    if seal_text is None:
        causes = "the scan was stopped before its end, the seal was removed, or the file was reformatted"
        message = f"no seal: {causes}; {found['rows']} rows cannot be checked"
        return Checked(header, found["rows"], None, (Fault("seal_missing", "", message),))
    faults = [Fault("rows_appended", "", f"{appended} lines were appended after the seal")] if appended else []
    seal = _read_seal(seal_text)
    if seal is None or seal_text != seal_line(seal).encode():
        faults.append(Fault("seal_edited", "", "the seal was edited: it is not one that a scan writes"))
    elif seal != found:
        faults.append(_difference(path, seal, found))
    sealed = "" if seal is None else seal["sha256"]
    if wanted not in (None, sealed):
        message = f"the seal is {sealed or 'unreadable'}, not the {wanted} that was noted: the file was resealed since"
        faults.append(Fault("resealed", "", message))
    return Checked(header, found["rows"], sealed, tuple(faults))


def refuse_broken_seal(path: Path) -> None:
    """Raise UsageError for a results file that was edited after it was sealed: going on would seal the edit."""
    checked = check_results(path)
    if checked.seal is not None and checked.faults:
        raise UsageError(
            f"{path}: its seal does not hold, {checked.faults[0].message}; see `genforensic verify`, "
            "choose another --output, or start over with --force and without --resume"
        )


def _hash_again(path: Path, every: int | None = None) -> tuple[dict[str, Any], bytes | None, int]:
    """Return the seal that a file should have, the text of the one it has, and how many lines follow that."""
    with path.open("rb") as stream:
        first = stream.readline()
        is_lines = first.startswith(_JSONL_HEADER)
        # A JSON document has "run" and the beginning of "files" on two lines, then a row a line, then the summary
        sealer, in_rows = Sealer(first if is_lines else first + stream.readline(), every), True
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            if line.startswith(_JSONL_SEAL if is_lines else _JSON_SEAL):
                return sealer.seal(), line if is_lines else b"{" + line, sum(1 for _ in stream)
            in_rows = in_rows and (is_lines or line != _JSON_ROWS_END)
            # A part of an endless line, or a last line that was cut off, is not a row
            (sealer.add_row if in_rows and line.endswith(b"\n") else sealer.add_end)(line)
        return sealer.seal(), None, 0


def _read_seal(text: bytes) -> dict[str, Any] | None:
    """Return the seal in a line; None for anything that a scan would not write."""
    try:
        seal = msgspec.json.decode(text)[SEAL]
        marks, rows, every = bytes.fromhex(seal["marks"]), seal["rows"], seal["every"]
        is_whole = 2 * len(marks) == _MARK_DIGITS * (rows // every + 1) and _HASH.fullmatch(seal["sha256"])
        return seal if is_whole and set(seal) == {"sha256", "rows", "every", "marks"} else None
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError):
        return None


def _difference(path: Path, seal: Mapping[str, Any], found: Mapping[str, Any]) -> Fault:
    """Return the first place at which a file differs from its seal."""
    every, sealed, now = seal["every"], seal["rows"], found["rows"]
    pairs = list(zip(_split(seal["marks"]), _split(_hash_again(path, every)[0]["marks"]), strict=False))
    place = next((i for i, (before, after) in enumerate(pairs) if before != after), None)
    if place == 0:
        return Fault("header_edited", "", "the run header was edited")
    if place is None and sealed == now:
        if seal["sha256"] == found["sha256"]:
            return Fault("seal_edited", "", "the seal was edited: its marks are not those of the file")
        last = every * (len(pairs) - 1)
        message = f"what follows row {last} was edited: a later row, the summary or the hash in the seal"
        return Fault("end_edited", "", message)
    first = ((len(pairs) if place is None else place) - 1) * every + 1
    name = _path_of_row(path, first) if every == 1 else ""
    row = f"row {first}{f' ({name})' if name else ''}" if every == 1 else f"one of rows {first} to {first + every - 1}"
    counts = f"; {sealed} rows were sealed, {now} are there" if sealed != now else ""
    return Fault("rows_changed", name, f"{row} is not what was sealed there{counts}")


def _split(marks: str) -> list[str]:
    return [marks[i : i + _MARK_DIGITS] for i in range(0, len(marks), _MARK_DIGITS)]


def _path_of_row(path: Path, number: int) -> str:
    """Return the path in a row, counted from 1; nothing if there is no such row."""
    rows = (value for kind, value in read_entries(path) if kind == "row")
    row = next(islice(rows, number - 1, None), None)
    # A manifest has parts where results have rows
    return str(row.get("path") or row.get("part") or "") if isinstance(row, dict) else ""


def check_files(path: Path, root: Path) -> Iterator[Fault | None]:
    """Compare every image with its row, in the rows' order; None for one that holds. Relative paths start at `root`."""
    rows = (value for kind, value in read_entries(path) if kind == "row")
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and isinstance(row.get("path"), str):
            yield check_file(row["path"], row.get("sha256"), str(row.get("status")), root)
        else:
            yield Fault("row_unreadable", "", f"row {number} is not a record: its image cannot be compared")


def check_models(header: Mapping[str, Any], exports: Path | None) -> Iterator[Fault | None]:
    """Look for each model's file among the exports by its SHA-256; None for one that is there."""
    folders = export_folders(exports)
    present = {file: file_sha256(file) for folder in folders for file in sorted(folder.glob("*.onnx"))}
    models = [model for model in header.get("models") or () if isinstance(model, Mapping)]
    # Several techniques may share a file
    for name, sha256 in dict.fromkeys((str(model.get("file")), str(model.get("sha256"))) for model in models):
        if sha256 in present.values():
            yield None
        elif same_name := next((file for file in present if file.name == name), None):
            message = f"{same_name}: has another sha256 than the model that judged ({sha256})"
            yield Fault("model_changed", str(same_name), message)
        else:
            where = " or ".join(map(str, folders))
            yield Fault("model_missing", name, f"{name}: not among the exports in {where}; name its folder")


def check_file(name: str, sha256: str | None, status: str, root: Path) -> Fault | None:
    """Compare an image with the hash and status in its row; None if it holds."""
    file = find_file(name, root)
    if file is None:
        if sha256 is None:
            return None
        return Fault("file_missing", name, f"{name}: the file is gone; relative paths start at {root}")
    now = content_sha256(file)
    # What was too large was refused by its size, before a byte of it was read
    if now == sha256 or (sha256 is None and status == "too_large"):
        return None
    problem = "has another sha256 than the file that was judged"
    if None in (now, sha256):
        problem = "can no longer be read" if sha256 else "could not be read then, and can be read now"
    return Fault("file_changed", name, f"{name}: {problem}")


def find_file(name: str, root: Path) -> Location | None:
    r"""Return the file that a row names, in which bytes that are not UTF-8 stand as \xNN; None if there is none."""
    text = os.fsdecode(path_bytes(name))
    if is_url(text):
        return ObjectUrl(text)
    file = root / text
    return file if "\0" not in text and os.path.lexists(file) else None


def content_sha256(file: Location) -> str | None:
    """Hash an image; None if it cannot be read."""
    if isinstance(file, Path):
        return file_sha256(file)
    data = read_file(file)
    return None if isinstance(data, Unreadable) else hashlib.sha256(data).hexdigest()


def file_sha256(file: Path) -> str | None:
    """Hash a regular file; None for anything else, which is never opened, and for a file that cannot be read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
