"""Custody: are the images still what was judged, and the models those that judged? `seal_check` does the rows."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forensic_cli.exports import export_folders
from forensic_cli.results import path_bytes
from forensic_cli.results_file import read_entries
from forensic_cli.seal_check import Fault


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
