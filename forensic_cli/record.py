"""The record of a scan: a row a file, the run header, the summary. Each field is declared here once.

JSON, CSV, Parquet, the HTML page, the reader of results files and the reference page derive from these classes.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import msgspec

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def printable(path: "os.PathLike[str] | str") -> str:
    r"""Return a path, or a word of a command line, as text for any output; bytes that are not UTF-8 become \xNN.

    No two names come out the same: the backslash of a name that already looks like an escape becomes \x5c.
    """
    return _ESCAPE.sub(rb"\\x5cx\1", os.fsencode(path)).decode("utf-8", "backslashreplace")


def path_bytes(name: str) -> bytes:
    r"""Return the bytes of a path that `printable` wrote; a lone surrogate, which no scan writes, stays an escape."""
    escaped = name.encode("utf-8", "backslashreplace")
    return _ESCAPE.sub(lambda escape: bytes([int(escape[1], 16)]), escaped)


@dataclass(frozen=True)
class Claim:
    """One thing that a file claims about its origin."""

    source: str
    """Where it stands: exif, xmp, iptc, png, comment or c2pa."""
    claim: str
    """What it claims: one of the names of provenance.CLAIMS."""
    value: str
    """The text itself, on one line and shortened to provenance.MOST_VALUE characters."""


@dataclass(frozen=True)
class Prediction:
    """What one technique says about one image."""

    label: str
    """Label with the highest probability."""
    confidence: float
    """Its calibrated probability, 0 to 1."""
    p_generated: float | None
    """Calibrated probability that a generator made the image, 0 to 1; null if the model does not know `real`."""
    scores: Mapping[str, float]
    """Calibrated probability of every label; they sum to 1."""
    candidates: tuple[str, ...] = ()
    """The technique's short list of generators, most probable first; empty if it has none."""
    log10_lr: Mapping[str, float] = field(default_factory=dict)
    """log10 likelihood ratio of each generator against the others, and of `real` against "generated"; validated ones
    only."""


@dataclass(frozen=True)
class Stability:
    """How a verdict holds up when the image is re-encoded and judged again (`--stability`)."""

    lowest: float
    """Lowest calibrated probability of the raw label over the image and its re-encodings, 0 to 1."""
    highest: float
    """The highest."""
    flips: Mapping[str, str]
    """{re-encoding: its raw label}, for the re-encodings whose label is a different one."""
    reencodings: tuple[str, ...]
    """Re-encodings that were judged (images.history.REENCODINGS); one that cannot hold so large an image is missing."""


@dataclass(frozen=True)
class Verdict:
    """What all techniques together say about one image; null throughout if the file could not be judged."""

    headline: str
    """`generated`, `real` or `undecided`."""
    p_generated: float | None
    """Calibrated probability that a generator made the image, 0 to 1, at even prior odds; null if the models do not
    know `real` or give no answer for images like this one."""
    generated_log10_lr: float | None
    """log10 likelihood ratio of "generated" against `real`; null if it was not validated."""
    verdict: str
    """A generator, `real`, `unknown` or `inconclusive`."""
    label: str
    """The raw top label, whatever the verdict."""
    confidence: float
    """Calibrated probability of `label`, 0 to 1."""
    strength: str | None
    """The likelihood ratio of what the row states, in words (of headline and name the weaker); null without a ratio."""
    agreement: float
    """Share of the techniques whose own label is `label`, 0 to 1."""
    candidates: tuple[str, ...]
    """Short list of generators for a generated image, most probable first; empty if it would be long."""
    scores: Mapping[str, float]
    """Fused probability of every label; they sum to 1."""
    log10_lr: Mapping[str, float]
    """Per label the techniques' most cautious log10 likelihood ratio, 0 if they disagree; empty without any."""
    techniques: Mapping[str, Prediction]
    """Each technique's own prediction."""
    stability: Stability | None = None
    """How the verdict holds up under re-encoding; null unless --stability is set."""


@dataclass(frozen=True)
class FileResult:
    """The evidence record of one file. In a record the fields of its verdict stand beside its own."""

    path: str
    r"""As found; bytes that are not UTF-8 appear as \xNN."""
    status: str
    """`ok`, or one of the statuses of files that cannot be judged (images.header)."""
    reason: str | None
    """Why the file could not be judged; null if ok."""
    verdict: Verdict | None
    """Null unless ok."""
    state: str | None
    """What is known about compression and earlier processing, in words, such as "JPEG, quality 78"; null unless ok."""
    sha256: str | None
    """SHA-256 of the file, hexadecimal; null if it could not be read."""
    bytes: int | None
    """Size of the file."""
    format: str | None
    """JPEG, PNG, ...; null if no header could be read."""
    width: int | None
    """Pixels, as stored (before an EXIF rotation)."""
    height: int | None
    """Pixels, as stored."""
    views: int
    """Views that were judged; 0 unless ok."""
    warnings: tuple[str, ...]
    """What was done to the image, or is unusual about it: names of warnings (images.header)."""
    duplicate_of: str | None = None
    """Path of the first row whose file has the same bytes; null if there is none before this one."""
    cluster: int | None = None
    """Number of the group of near-duplicates that the image belongs to, from 1; null unless --dedupe is set and ok."""
    phash: str | None = None
    """Perceptual hash, 16 hexadecimal digits; null like `cluster`."""
    metadata: tuple[Claim, ...] = ()
    """What the file claims about its own origin; anyone can forge or remove that."""

    def record(self) -> dict[str, Any]:
        """Return the row as a JSON-ready dict, fields in their fixed order."""
        row: dict[str, Any] = _json_ready(self)
        verdict = row.pop("verdict") or dict.fromkeys(field_types(Verdict))
        return {name: row.pop(name) for name in ("path", "status", "reason")} | verdict | row


def is_nested(kind: Any) -> bool:
    """Tell whether a field of this type is JSON text in a table of columns."""
    return kind not in (str, int, float, tuple[str, ...], Mapping[str, float])


def _json_ready(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


@cache
def row_fields() -> dict[str, Any]:
    """Return {name: type} of every field in a row's record, in its order; `X | None` counts as X."""
    return {name: (field_types(FileResult) | field_types(Verdict))[name] for name in _EMPTY.record()}


@cache
def field_types(kind: type) -> dict[str, Any]:
    """Return {name: type} of a dataclass of this module; `X | None` counts as X."""
    return {
        name: next(kind for kind in get_args(hint) if kind is not NoneType) if isinstance(hint, UnionType) else hint
        for name, hint in get_type_hints(kind).items()
    }


_EMPTY = FileResult("", "", None, None, None, None, None, None, None, None, 0, ())


def read_row(record: Mapping[str, Any]) -> FileResult:
    """Return the row that `FileResult.record` wrote. Raises msgspec.ValidationError for anything else."""
    file = msgspec.convert({**record, "verdict": None}, FileResult)
    if record.get("verdict") is None:
        return file
    return replace(file, verdict=msgspec.convert(record, Verdict))


@dataclass(frozen=True)
class UsedModel:
    """A technique that judged the files."""

    name: str
    """Recipe and technique, such as native-baseline."""
    technique: str
    """The way it was trained."""
    recipe: str
    """Network, views and augmentation."""
    labels: tuple[str, ...]
    """The labels it knows, in the order of its card."""
    file: str
    """Name of the export."""
    sha256: str
    """SHA-256 of the export, hexadecimal."""
    validation: str = ""
    """The images its decisions were validated on, in one sentence."""
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{state: thresholds and bounds of ratios that its answers depend on}; null: a threshold that is never reached."""


@dataclass(frozen=True)
class RunHeader:
    """What judged the files: enough to repeat the scan."""

    version: str
    """Version of genforensic."""
    models: tuple[UsedModel, ...]
    """The techniques that judged."""
    providers: tuple[str, ...]
    """Execution provider that each session actually runs on."""
    onnxruntime: str
    """Version of ONNX Runtime."""
    ensemble: str | None
    """Fusion of several techniques; null with one."""
    threshold: float | None
    """--threshold, if given; null: the models' own thresholds."""
    started: str
    """UTC, ISO 8601."""
    reencodings: tuple[str, ...] = ()
    """Re-encodings that each image was judged under as well (images.history.REENCODINGS)."""
    batch_size: int = 0
    """Images that go through a model together."""
    max_pixels: int = 0
    """Images with more pixels are `too_large`."""
    dedupe: int | None = None
    """Bits by which the perceptual hashes of near-duplicates may differ; null unless --dedupe is set."""
    command: tuple[str, ...] = ()
    """The command line as given."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """{python, platform, numpy, opencv, pillow, simplejpeg, pillow-heif, c2pa: what the scan ran on}."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """{recursive, include, exclude}: what was looked for in folders."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """{sort, only, min_confidence}: which rows are written; empty: all of them."""
    exports: tuple[Path, ...] = ()
    """Where each model was read; not in the record, which is the same on every machine."""

    def record(self) -> dict[str, Any]:
        """Return the header as a JSON-ready dict."""
        record: dict[str, Any] = _json_ready(replace(self, exports=()))
        del record["exports"]
        return record

    def differences(self, before: Mapping[str, Any]) -> list[str]:
        """Return the fields in which the record of another scan differs, without those that rows do not depend on."""
        record = self.record()
        return [name for name in record if name not in ("started", "command") and before.get(name) != record[name]]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that every model of the scan knows, in the first one's order."""
        return self.models[0].labels


@dataclass
class Summary:
    """Totals of a scan, counted row by row, so that memory does not grow with the folder."""

    headlines: Counter[str] = field(default_factory=Counter)
    """Images per headline."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """Images per verdict."""
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Images per (headline, verdict); not in the record."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Files per status other than ok."""
    left_out: int = 0
    """Entries of the folders that are not images."""
    copies: int = 0
    """Files with the same bytes as an earlier one; they also count in the other totals."""
    findings: int | None = None
    """Groups of near-duplicates; null unless --dedupe is set and something was judged."""

    def add(self, row: FileResult) -> None:
        """Count one row."""
        if row.verdict is None:
            self.statuses[row.status] += 1
        else:
            self.headlines[row.verdict.headline] += 1
            self.verdicts[row.verdict.verdict] += 1
            self.answers[row.verdict.headline, row.verdict.verdict] += 1
        self.copies += row.duplicate_of is not None
        if row.cluster is not None:
            self.findings = max(self.findings or 0, row.cluster)

    def merge(self, other: "Summary") -> None:
        """Add the totals of rows that follow."""
        for name in ("headlines", "verdicts", "answers", "statuses"):
            getattr(self, name).update(getattr(other, name))
        self.left_out += other.left_out
        self.copies += other.copies
        if other.findings is not None:
            self.findings = max(self.findings or 0, other.findings)

    @property
    def judged(self) -> int:
        """Images with a verdict."""
        return self.verdicts.total()

    @property
    def unreadable(self) -> int:
        """Files without one."""
        return self.statuses.total()

    def record(self) -> dict[str, Any]:
        """Return the totals as a JSON-ready dict, largest first."""
        return {
            "judged": self.judged,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
            "copies": self.copies,
            "findings": self.findings,
            "headlines": _largest_first(self.headlines),
            "verdicts": _largest_first(self.verdicts),
            "statuses": dict(sorted(self.statuses.items())),
        }


def _largest_first(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
