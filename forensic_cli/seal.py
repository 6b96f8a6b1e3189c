"""The seal of a results file: a hash chain over header and rows, and short marks that tell which row changed.

A seal shows that a file is as the scan wrote it. It keeps no secret: who edits a file can seal it anew, so its hash is
worth noting down elsewhere.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any

from forensic_cli.errors import UsageError
from forensic_cli.exports import export_folders
from forensic_cli.record import path_bytes
from forensic_cli.results_file import SEAL, Entry, read_entries

MOST_MARKS = 1 << 14
"""Marks in one seal; where there are more rows, a mark stands for 2, 4, 8, ... of them."""
_MARK_BYTES = 4
_MARK_MODULUS = 1 << (8 * _MARK_BYTES)


def digest(text: bytes) -> bytes:
    """Return the sha256 of a line's bytes, 32 bytes."""
    return hashlib.sha256(text).digest()


def chain(header: bytes, rows: Iterable[bytes], summary: bytes | None) -> str:
    """Link digests: each link is the sha256 of the one before it and the next digest. Returns the last, hexadecimal."""
    link = header
    for one in rows:
        link = digest(link + one)
    return (digest(link + summary) if summary is not None else link).hex()


def mark(row: bytes) -> int:
    """Return the short mark of a row's digest."""
    return int.from_bytes(row[:_MARK_BYTES], "big")


def fold(marks: Sequence[int], each: int) -> list[int]:
    """Return one mark for every `each` of them: their sum."""
    return [sum(marks[i : i + each]) % _MARK_MODULUS for i in range(0, len(marks), each)]


def unpack_marks(text: str) -> list[int]:
    """Read the marks of a seal back. Raises ValueError for text that is none."""
    data = bytes.fromhex(text)
    if len(data) % _MARK_BYTES:
        raise ValueError("marks have an odd length")
    return [mark(data[i : i + _MARK_BYTES]) for i in range(0, len(data), _MARK_BYTES)]


def seal_of(
    header: bytes, chained: str, rows: int, marks: Sequence[int], each: int, summary: bytes | None
) -> dict[str, Any]:
    """Return the JSON-ready seal."""
    record: dict[str, Any] = {"rows": rows, "sha256": chained, "header": header.hex()}
    if summary is not None:
        record["summary"] = summary.hex()
    return {**record, "each": each, "marks": b"".join(one.to_bytes(_MARK_BYTES, "big") for one in marks).hex()}


def seal_line(record: dict[str, Any]) -> str:
    """Return the last line of a JSON Lines file, without its newline."""
    return json.dumps({SEAL: record})


class Sealer:
    """Seals a file while it is written; needs no more memory for a million rows than for a few thousand."""

    def __init__(self, header: str | bytes) -> None:
        self._header = digest(_bytes(header))
        self._link = self._header
        self._rows = 0
        self._marks: list[int] = []
        self._each = 1

    def add(self, row: str | bytes) -> None:
        """Link one row, given as its JSON text."""
        one = digest(_bytes(row))
        self._link = digest(self._link + one)
        if self._rows % self._each == 0:
            if len(self._marks) == MOST_MARKS:
                self._marks, self._each = fold(self._marks, 2), 2 * self._each
            self._marks.append(0)
        self._marks[-1] = (self._marks[-1] + mark(one)) % _MARK_MODULUS
        self._rows += 1

    def close(self, summary: str | None = None) -> dict[str, Any]:
        """Return the seal over all that was added, and over a summary where the format has one."""
        last = None if summary is None else digest(_bytes(summary))
        link = self._link if last is None else digest(self._link + last)
        return seal_of(self._header, link.hex(), self._rows, self._marks, self._each, last)


def differing(sealed: Sequence[int], found: Sequence[int]) -> list[int]:
    """Return the places at which two lists of marks differ; one that is longer differs in its rest."""
    return [i for i, (a, b) in enumerate(zip_longest(sealed, found)) if a != b]


def _bytes(text: str | bytes) -> bytes:
    # As output.Output encodes it
    return text if isinstance(text, bytes) else text.encode("utf-8", "backslashreplace")


_MOST_COMPARED = 4_000_000
"""Pairs of marks that are aligned with each other; where more differ, only the place of the first is said."""
_HEX = re.compile(r"(?:[0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Fault:
    """One thing that does not hold."""

    kind: str
    """A name from KINDS."""
    subject: str
    """The row's path, the image or the model; empty where the results file itself is meant."""
    message: str
    """One line."""

    def record(self) -> dict[str, str]:
        """Return a JSON-ready dict."""
        return asdict(self)


KINDS = (
    *("header_edited", "row_edited", "row_removed", "row_added", "rows_reordered", "rows_appended", "rows_changed"),
    *("summary_edited", "key_added", "seal_missing", "seal_edited", "sealed_anew"),
    *("file_changed", "file_missing", "model_changed", "model_missing"),
)
"""Every kind of fault."""


@dataclass(frozen=True)
class Checked:
    """A results file beside its seal."""

    header: Mapping[str, Any]
    """The run header, as it stands there."""
    rows: int
    """Rows before the seal, odd lines among them."""
    seal: str | None
    """The seal's hash, as it stands there; None without a seal."""
    faults: tuple[Fault, ...]
    """What does not hold."""

    def __str__(self) -> str:
        """Say in one sentence whether the seal holds, is missing or is broken."""
        if not self.faults:
            return f"the seal holds: header and rows are as they were sealed ({self.seal})"
        if self.seal is None:
            return f"the seal is missing: {self.faults[0].message.removeprefix('no seal: ')}"
        more = f", and {len(self.faults) - 1} more" if len(self.faults) > 1 else ""
        return f"the seal is broken: {self.faults[0].message}{more}"


@dataclass
class _Parts:
    header: Entry
    rows: list[bytes]
    """Digest of each row before the seal."""
    summary: bytes | None = None
    seal: Entry | None = None
    appended: int = 0
    foreign: tuple[str, ...] = ()
    """Keys of a JSON document that no seal covers."""


def check_results(path: Path, noted: str | None = None) -> Checked:
    """Compare a results file with its seal, and the seal with one that was noted down elsewhere.

    Raises UsageError for a file that holds no results, and for a noted seal that cannot be one.
    """
    wanted = None if noted is None else noted.strip().lower()
    if wanted is not None and not _HEX.match(wanted):
        raise UsageError(
            f"--seal {noted!r} is no seal; give the 64 hexadecimal digits that `genforensic verify` prints after a scan"
        )
    parts = _parts(path)
    record = parts.seal.record if parts.seal else None
    faults = list(_seal_faults(path, parts))
    found = None if record is None else str(record.get("sha256"))
    if wanted and found and wanted != found:
        faults.append(
            Fault("sealed_anew", "", f"the seal is {found}, not the {wanted} that was noted down: sealed anew since")
        )
    return Checked(parts.header.record, len(parts.rows), found, tuple(faults))


def refuse_broken_seal(path: Path) -> None:
    """Raise UsageError for a results file that was edited since it was sealed: going on would seal the edit."""
    checked = check_results(path)
    if checked.seal is not None and checked.faults:
        raise UsageError(
            f"{path}: its seal does not hold, {checked.faults[0].message}; see `genforensic verify`, "
            "choose another --output, or begin again with --force and without --resume"
        )


def _parts(path: Path) -> _Parts:
    entries = read_entries(path)
    parts = _Parts(next(entries), [])
    for entry in entries:
        if entry.kind == "seal" and parts.seal is None:
            parts.seal = entry
        elif entry.kind == "summary":
            parts.summary = digest(entry.text)
        elif entry.kind == "foreign":
            parts.foreign += (entry.text.decode(),)
        elif parts.seal is not None:
            parts.appended += 1
        elif entry.kind != "cut":
            parts.rows.append(digest(entry.text))
    return parts


def _seal_faults(path: Path, parts: _Parts) -> Iterator[Fault]:
    if parts.seal is None:
        yield Fault(
            "seal_missing",
            "",
            f"no seal: the scan was stopped before its end, or the seal was removed; {len(parts.rows)} rows "
            "cannot be checked",
        )
        return
    seal = parts.seal.record
    for name in parts.foreign:
        yield Fault("key_added", name, f"the document has a key {name!r}, which the seal does not cover")
    if parts.appended:
        yield Fault("rows_appended", "", f"{parts.appended} lines were appended behind the seal")
    if not _is_seal(seal):
        yield Fault("seal_edited", "", "the seal was edited: it is not one that a scan writes")
        return
    header, summary = digest(parts.header.text), parts.summary
    if header.hex() != seal["header"]:
        yield Fault("header_edited", "", "the run header was edited")
    if (summary.hex() if summary else None) != seal.get("summary"):
        yield Fault("summary_edited", "", "the summary was edited")
    sealed_summary = bytes.fromhex(seal["summary"]) if "summary" in seal else None
    whole = chain(bytes.fromhex(seal["header"]), parts.rows, sealed_summary) == seal["sha256"]
    marks = unpack_marks(seal["marks"])
    if not whole:
        changes = list(_row_changes(marks, seal["each"], seal["rows"], parts.rows))
        yield from _named(path, changes)
        if not changes:
            yield Fault("seal_edited", "", "the seal was edited: its hash is not that of the rows")
        return
    found = fold([mark(one) for one in parts.rows], seal["each"])
    made = seal_of(bytes.fromhex(seal["header"]), seal["sha256"], len(parts.rows), found, seal["each"], sealed_summary)
    if parts.seal.text not in (seal_line(made).encode(), json.dumps(made).encode()):
        yield Fault("seal_edited", "", "the seal was edited: its rows or marks are not those of the file")


def _is_seal(seal: Mapping[str, Any]) -> bool:
    hashes = [seal.get("sha256"), seal.get("header"), seal.get("summary", "0" * 64)]
    if not all(isinstance(one, str) and _HEX.match(one) for one in hashes):
        return False
    rows, each, marks = seal.get("rows"), seal.get("each"), seal.get("marks")
    if type(rows) is not int or type(each) is not int or rows < 0 or each < 1 or not isinstance(marks, str):
        return False
    try:
        return len(unpack_marks(marks)) == -(-rows // each)
    except ValueError:
        return False


@dataclass(frozen=True)
class _Change:
    kind: str
    row: int
    """Place among the rows that stand there now, from 0; the row whose path is named."""
    message: str
    """With {row} for number and path."""


def _row_changes(sealed: Sequence[int], each: int, count: int, rows: Sequence[bytes]) -> Iterator[_Change]:
    """Tell which rows differ from those that were sealed, by their marks."""
    marks = [mark(one) for one in rows]
    found = fold(marks, each)
    places = differing(sealed, found)
    if not places:
        return
    if each == 1 and sorted(sealed) == sorted(found):
        message = (
            f"rows {places[0] + 1} to {places[-1] + 1} stand in another order than sealed, the first now is {{row}}"
        )
        yield _Change("rows_reordered", places[0], message)
        return
    first, last = _middle(sealed, found)
    here, there = found[first : len(found) - last], sealed[first : len(sealed) - last]
    if each == 1 and len(here) * len(there) <= _MOST_COMPARED:
        yield from _aligned(there, here, first)
    elif count != len(rows):
        kind, verb = ("row_removed", "removed") if count > len(rows) else ("row_added", "added")
        message = (
            f"{abs(count - len(rows))} rows were {verb}; the first difference is at {{row}} or up to {each - 1} on"
        )
        yield _Change(kind, min(first * each, max(len(rows) - 1, 0)), message)
    else:
        for place in places:
            end = min(count, (place + 1) * each)
            message = "{row} was edited" if each == 1 else f"between {{row}} and row {end}, some were edited or moved"
            yield _Change("row_edited" if each == 1 else "rows_changed", place * each, message)


def _aligned(sealed: Sequence[int], found: Sequence[int], offset: int) -> Iterator[_Change]:
    for tag, i, i_end, j, j_end in SequenceMatcher(None, sealed, found, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        both = min(i_end - i, j_end - j)
        for k in range(both):
            yield _Change("row_edited", offset + j + k, "{row} was edited")
        for k in range(both, j_end - j):
            yield _Change("row_added", offset + j + k, "{row} was added")
        for k in range(both, i_end - i):
            yield _Change(
                "row_removed", offset + j_end, f"sealed row {offset + i + k + 1} was removed, in front of {{row}}"
            )


def _middle(a: Sequence[int], b: Sequence[int]) -> tuple[int, int]:
    """Return how many items two lists share at their beginning and, of the rest, at their end."""
    most = min(len(a), len(b))
    first = next((i for i in range(most) if a[i] != b[i]), most)
    last = next((i for i in range(most - first) if a[-1 - i] != b[-1 - i]), most - first)
    return first, last


def _named(path: Path, changes: Sequence[_Change]) -> Iterator[Fault]:
    names = _names(path, {one.row for one in changes})
    for one in changes:
        name = names.get(one.row)
        row = "the end" if name is None else f"row {one.row + 1} ({name})" if name else f"row {one.row + 1}"
        yield Fault(one.kind, name or "", one.message.format(row=row))


def _names(path: Path, wanted: Collection[int]) -> dict[int, str]:
    """Return the path in each wanted row; empty for a line that is no row any more."""
    names = {}
    row = -1
    for entry in read_entries(path):
        if entry.kind == "seal":
            break
        if entry.kind in ("row", "odd", "cut"):
            row += 1
            if row in wanted:
                names[row] = str(entry.record.get("path", ""))
    return names


def check_files(path: Path, root: Path) -> Iterator[Fault | None]:
    """Compare every image with its row, in the rows' order; None for one that holds. Relative paths start at `root`."""
    for entry in read_entries(path):
        if entry.kind == "row":
            yield check_file(entry.record, root)


def check_models(header: Mapping[str, Any], exports: Path | None) -> Iterator[Fault | None]:
    """Look for each of the models' files among the exports by its sha256; None for one that is there."""
    folders = export_folders(exports)
    there = {file: file_sha256(file) for folder in folders for file in sorted(folder.glob("*.onnx"))}
    models = [one for one in header.get("models") or () if isinstance(one, Mapping)]
    # Several techniques may share a file
    for name, sha256 in dict.fromkeys((str(one.get("file")), str(one.get("sha256"))) for one in models):
        if sha256 in there.values():
            yield None
        elif same := next((file for file in there if file.name == name), None):
            yield Fault("model_changed", str(same), f"{same}: has another sha256 than the model that judged ({sha256})")
        else:
            where = " or ".join(map(str, folders))
            yield Fault("model_missing", name, f"{name}: not among the exports in {where}; name its folder")


def check_file(row: Mapping[str, Any], root: Path) -> Fault | None:
    """Compare one image with its row; None where it holds."""
    name, expected = row["path"], row.get("sha256")
    file = find_file(name, root)
    if file is None:
        if expected is None:
            return None
        return Fault("file_missing", name, f"{name}: the file is gone; relative paths start at {root}")
    found = file_sha256(file)
    if found == expected:
        return None
    if found is None:
        return Fault("file_changed", name, f"{name}: cannot be read any more")
    if expected is None and row["status"] == "too_large":
        return None  # by its size, before a byte of it was read
    if expected is None:
        return Fault("file_changed", name, f"{name}: could not be read then, and can be read now")
    return Fault("file_changed", name, f"{name}: has another sha256 than the file that was judged")


def find_file(name: str, root: Path) -> Path | None:
    """Return the file that a row names; bytes that are not UTF-8 stand there as \\xNN."""
    text = os.fsdecode(path_bytes(name))
    file = root / text
    return file if "\0" not in text and os.path.lexists(file) else None


def file_sha256(file: Path) -> str | None:
    """Hash a regular file; None for anything else, which is never opened, and for one that cannot be read."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return None
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
