"""What a scan finds: one evidence record a file, one header and one summary a scan. Plain values, no behaviour."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def printable(path: Path | str) -> str:
    r"""Return a path, or a word of a command line, for any output; bytes that are not UTF-8 appear as \xNN.

    So no two names appear the same: the backslash of a name that itself looks like that is the byte \x5c.
    """
    return _ESCAPE.sub(rb"\\x5cx\1", os.fsencode(path)).decode("utf-8", "backslashreplace")


def path_bytes(name: str) -> bytes:
    r"""Return the bytes of a path that `printable` wrote; a lone surrogate, which no scan writes, stays an escape."""
    escaped = name.encode("utf-8", "backslashreplace")
    return _ESCAPE.sub(lambda hit: bytes([int(hit[1], 16)]), escaped)


@dataclass(frozen=True)
class Claim:
    """One thing that a file says of its origin."""

    source: str
    """Where it stands: exif, xmp, iptc, png, comment or c2pa."""
    claim: str
    """A name from CLAIMS."""
    value: str
    """What stands there, at most MOST_VALUE characters on one line."""

    def record(self) -> dict[str, str]:
        """Return a JSON-ready dict."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What one model says of one image."""

    label: str
    """Label with the highest probability."""
    confidence: float
    """Its calibrated probability, 0 to 1."""
    scores: Mapping[str, float]
    """Calibrated probability of every label; sums to 1."""
    p_generated: float | None = None
    """Calibrated probability that a generator made the image, 0 to 1; None where the model does not know `real`."""
    candidates: tuple[str, ...] = ()
    """The model's short list of generators, most probable first; empty where it has none."""
    log10_lr: Mapping[str, float] = field(default_factory=dict)
    """log10 likelihood ratio of each generator against the other ones, and of `real` against "generated"; only
    those that were validated."""

    def record(self) -> dict[str, Any]:
        """Return the prediction as a JSON-ready dict."""
        return {
            "label": self.label,
            "confidence": self.confidence,
            "p_generated": self.p_generated,
            "scores": dict(self.scores),
            "candidates": list(self.candidates),
            "log10_lr": dict(self.log10_lr),
        }


@dataclass(frozen=True)
class Stability:
    """How a verdict holds when the image is re-encoded and judged again."""

    lowest: float
    """Lowest calibrated probability of the verdict's raw label, over the image and its re-encodings, 0 to 1."""
    highest: float
    """The highest."""
    flips: Mapping[str, str]
    """{re-encoding: its own raw label}, where that label is another one."""
    reencodings: tuple[str, ...]
    """Names from reencode.REENCODINGS that were judged; one that cannot hold so large an image is missing."""

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return {
            "lowest": self.lowest,
            "highest": self.highest,
            "flips": dict(self.flips),
            "reencodings": list(self.reencodings),
        }


@dataclass(frozen=True)
class Verdict:
    """What all models together say of one image."""

    headline: str
    """`generated`, `real` or `undecided`."""
    p_generated: float | None
    """Calibrated probability that a generator made the image, 0 to 1, at even odds beforehand; None where the models do
    not know `real`, or do not answer for images like this one."""
    generated_log10_lr: float | None
    """log10 likelihood ratio of "generated" against `real`; None where it was not validated."""
    verdict: str
    """A generator, `real`, `inconclusive` or `unknown`."""
    label: str
    """The raw top label, whatever the verdict."""
    confidence: float
    """Calibrated probability of `label`, 0 to 1."""
    scores: Mapping[str, float]
    """Fused probability of every label; sums to 1."""
    agreement: float
    """Share of the techniques whose own label is `label`, 0 to 1."""
    techniques: Mapping[str, Prediction]
    """Each technique's own prediction."""
    strength: str | None = None
    """Likelihood ratio of what the row states in words, of a headline and a name the lower; None without a ratio."""
    candidates: tuple[str, ...] = ()
    """Short list of generators, most probable first, of an image that is generated; empty where it would be long."""
    log10_lr: Mapping[str, float] = field(default_factory=dict)
    """Per label the techniques' most cautious log10 likelihood ratio, 0 where they disagree; empty without any."""
    stability: Stability | None = None
    """What re-encodings change; None where none was asked for."""
    warnings: tuple[str, ...] = ()
    """Names from preprocess.WARNINGS: why nothing is said of the image. In the row they stand beside the file's own."""


@dataclass(frozen=True)
class FileResult:
    """The evidence record of one file: the same fields in every report format."""

    path: str
    """As found; undecodable bytes of a name appear as \\xNN."""
    status: str
    """`ok`, or a name from preprocess.STATUSES."""
    reason: str | None
    """Why there is no verdict; None when ok."""
    state: str | None
    """What is known of the compression, in words, such as "JPEG, quality 78"; None when not ok."""
    verdict: Verdict | None
    """None when not ok."""
    sha256: str | None
    """Of the file's bytes, hexadecimal; None where it could not be read."""
    bytes: int | None
    """Size of the file."""
    format: str | None
    """JPEG, PNG, ...; None where no header could be read."""
    width: int | None
    """Pixels, as stored."""
    height: int | None
    """Pixels, as stored."""
    views: int
    """Views that were judged; 0 when not ok."""
    warnings: tuple[str, ...]
    """Names from preprocess.WARNINGS."""
    duplicate_of: str | None = None
    """Path of an earlier row whose file has the same bytes: this one is its copy but for the path. None: no copy."""
    cluster: int | None = None
    """Number of the finding, from 1 on, that near-duplicates share; None where nobody asked, or not ok."""
    phash: str | None = None
    """Perceptual hash, 16 hexadecimal digits; None as with `cluster`."""
    metadata: "tuple[Claim, ...]" = ()
    """What the file says of its own origin; anybody can forge or remove that."""

    def record(self) -> dict[str, Any]:
        """Return the row as a JSON-ready dict, fields in their fixed order."""
        verdict = self.verdict
        return {
            "path": self.path,
            "status": self.status,
            "reason": self.reason,
            "headline": verdict and verdict.headline,
            "p_generated": verdict and verdict.p_generated,
            "generated_log10_lr": verdict and verdict.generated_log10_lr,
            "verdict": verdict and verdict.verdict,
            "label": verdict and verdict.label,
            "confidence": verdict and verdict.confidence,
            "strength": verdict and verdict.strength,
            "state": self.state,
            "agreement": verdict and verdict.agreement,
            "candidates": verdict and list(verdict.candidates),
            "scores": verdict and dict(verdict.scores),
            "log10_lr": verdict and dict(verdict.log10_lr),
            "techniques": verdict and {name: one.record() for name, one in verdict.techniques.items()},
            "stability": verdict and verdict.stability and verdict.stability.record(),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "format": self.format,
            "width": self.width,
            "height": self.height,
            "views": self.views,
            "warnings": list(self.warnings),
            "duplicate_of": self.duplicate_of,
            "cluster": self.cluster,
            "phash": self.phash,
            "metadata": [one.record() for one in self.metadata],
        }


@dataclass(frozen=True)
class RunHeader:
    """What judged the files: enough to repeat the scan."""

    version: str
    """Of genforensic."""
    models: tuple[Mapping[str, Any], ...]
    """Name, technique, recipe, labels, file, sha256, validation and decisions of each model."""
    providers: tuple[str, ...]
    """Execution provider that each session really runs on."""
    onnxruntime: str
    """Version of ONNX Runtime."""
    ensemble: str | None
    """Fusion of several models; None with one."""
    threshold: float | None
    """Probability among the generators from which on one is named, where the user gave one; None: the models' own."""
    started: str
    """UTC, ISO 8601."""
    reencodings: tuple[str, ...] = ()
    """Names from reencode.REENCODINGS that each image is judged under, besides as it is."""
    batch_size: int = 0
    """Images that go through a model at once."""
    max_pixels: int = 0
    """Images with more are `too_large`."""
    dedupe: int | None = None
    """Bits in which the perceptual hashes of near-duplicates may differ; None where nobody asked for findings."""
    command: tuple[str, ...] = ()
    """The command line, as it was given."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """{python, platform, numpy, opencv, pillow, simplejpeg, pillow-heif, c2pa: what the scan ran on}."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """{recursive, include, exclude}: what was looked for in folders, wherever that was set."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """{sort, only, min_confidence}: which rows are written; empty: all of them."""
    exports: tuple[Path, ...] = ()
    """Where each model was read; not in the record, which says the same on every machine."""

    def record(self) -> dict[str, Any]:
        """Return the header as a JSON-ready dict."""
        return {
            "version": self.version,
            "models": [dict(model) for model in self.models],
            "providers": list(self.providers),
            "onnxruntime": self.onnxruntime,
            "ensemble": self.ensemble,
            "threshold": self.threshold,
            "started": self.started,
            "reencodings": list(self.reencodings),
            "batch_size": self.batch_size,
            "max_pixels": self.max_pixels,
            "dedupe": self.dedupe,
            "command": list(self.command),
            "versions": dict(self.versions),
            "search": dict(self.search),
            "selection": dict(self.selection),
        }


@dataclass
class Summary:
    """Totals of a scan, counted row by row so that memory does not grow with the folder."""

    verdicts: dict[str, int]
    """Images per verdict."""
    headlines: dict[str, int]
    """Images per headline."""
    statuses: dict[str, int]
    """Files per status other than ok."""
    left_out: int = 0
    """Entries of the folders that are not images."""
    parts: dict[str, dict[str, int]] = field(default_factory=dict)
    """{headline: {verdict: images}}; not in the record."""
    copies: int = 0
    """Files with the bytes of an earlier one; they count in the other totals, too."""
    findings: int | None = None
    """Groups of near-duplicates; None where nobody asked for them, or nothing was judged."""

    @classmethod
    def empty(cls) -> "Summary":
        """Return a summary of nothing."""
        return cls({}, {}, {})

    def add(self, result: FileResult) -> None:
        """Count one row."""
        verdict = result.verdict
        if verdict is None:
            self.count(result.status, None, None)
        else:
            self.count(result.status, verdict.verdict, verdict.headline)
        self.copies += result.duplicate_of is not None
        if result.cluster is not None:
            self.findings = max(self.findings or 0, result.cluster)

    def count(self, status: str, verdict: str | None, headline: str | None) -> None:
        """Count a row by its status and, where it has one, its verdict and its headline."""
        if verdict is None:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            return
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) + 1
        if headline is None:  # a row of an older version
            return
        self.headlines[headline] = self.headlines.get(headline, 0) + 1
        parts = self.parts.setdefault(headline, {})
        parts[verdict] = parts.get(verdict, 0) + 1

    @property
    def judged(self) -> int:
        """Images with a verdict."""
        return sum(self.verdicts.values())

    @property
    def unreadable(self) -> int:
        """Files without one."""
        return sum(self.statuses.values())

    def record(self) -> dict[str, Any]:
        """Return the totals as a JSON-ready dict, largest first."""
        return {
            "judged": self.judged,
            "unreadable": self.unreadable,
            "left_out": self.left_out,
            "copies": self.copies,
            "findings": self.findings,
            "headlines": dict(sorted(self.headlines.items(), key=lambda item: (-item[1], item[0]))),
            "verdicts": dict(sorted(self.verdicts.items(), key=lambda item: (-item[1], item[0]))),
            "statuses": dict(sorted(self.statuses.items())),
        }


_PLAIN = (
    *("path", "status", "reason", "sha256", "bytes", "format", "width", "height", "views"),
    *("state", "duplicate_of", "cluster", "phash"),
)


def read_row(record: Mapping[str, Any]) -> FileResult:
    """Return the row of a record as JSON gives it back. Raises KeyError, TypeError or ValueError for anything else."""
    plain = {name: record[name] for name in _PLAIN}
    metadata = tuple(Claim(**one) for one in record["metadata"])
    verdict = None if record["verdict"] is None else _verdict(record)
    return FileResult(**plain, verdict=verdict, warnings=tuple(record["warnings"]), metadata=metadata)


def _verdict(record: Mapping[str, Any]) -> Verdict:
    stability = record["stability"]
    return Verdict(
        headline=record["headline"],
        p_generated=record["p_generated"],
        generated_log10_lr=record["generated_log10_lr"],
        strength=record["strength"],
        verdict=record["verdict"],
        label=record["label"],
        confidence=record["confidence"],
        scores=dict(record["scores"]),
        agreement=record["agreement"],
        techniques={name: _prediction(one) for name, one in dict(record["techniques"]).items()},
        candidates=tuple(record["candidates"]),
        log10_lr=dict(record["log10_lr"]),
        stability=None if stability is None else _stability(stability),
    )


def _prediction(record: Mapping[str, Any]) -> Prediction:
    return Prediction(
        label=record["label"],
        confidence=record["confidence"],
        p_generated=record["p_generated"],
        scores=dict(record["scores"]),
        candidates=tuple(record["candidates"]),
        log10_lr=dict(record["log10_lr"]),
    )


def _stability(record: Mapping[str, Any]) -> Stability:
    return Stability(record["lowest"], record["highest"], dict(record["flips"]), tuple(record["reencodings"]))
