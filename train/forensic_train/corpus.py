"""A table of public repositories -> CORPUS/<label>/<source>/<blob id>.<suffix> and a manifest for training."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from forensic_cli.console import track
from forensic_cli.errors import DataError, UsageError
from forensic_cli.images.decode import decode
from forensic_cli.images.header import Pixels, Unreadable
from forensic_train.manifest import MANIFEST_NAME
from forensic_train.repository import Network, Repository, RepositoryError, check_git
from forensic_train.run import atomic

DEFAULT_CAP = 60
"""Greatest number of files from a source without a cap of its own, so that no repository dominates its generator."""

CACHE_FOLDER = ".repositories"
"""Folder of the clones, inside the corpus."""
MIN_SIDE = 128
"""Pixels; smaller images are thumbnails, and smaller than the views of most recipes."""
NEAR = 8
"""Most of the 256 bits in which the hashes of near-duplicates may differ. Among 1,126 images of the field corpus,
3 pairs are this close: restorations of one photograph, and a screenshot and its variant. JPEG 80 changes 2 bits in the
median and 11 or more in one image out of twenty. 64-bit hashes that catch as many copies also match 43 wrong pairs."""
_SEED = 0
_COLUMNS = ("path", "generator", "subject", "group", "source", "sha256")
_NEEDED = ("label", "repo", "commit", "path_regex")
_REPO = re.compile(r"(?!.*/\.{1,2}$)[a-z0-9][\w-]*/[\w.-]+", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_UNKNOWN = "unknown_"
_DUPLICATE = "near-duplicates"
_BATCH = 64
"""Files that are fetched together, which is the most that an interrupted run can lose."""
_SOURCES_SHOWN = 5
"""Sources that an error message lists one by one."""
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}


@dataclass(frozen=True)
class Source:
    """A row of the table: files of one generator in one repository."""

    line: int
    """Line of the table, from 1."""
    label: str
    """The generator; labels that begin with `unknown_` become the generator `unknown`."""
    repo: str
    """owner/name; empty if unknown."""
    commit: str
    """Commit id, or at least its first 7 digits; empty if unknown."""
    pattern: re.Pattern[str]
    """Regular expression that is searched for in the paths of files."""
    cap: int
    """Greatest number of files to take."""
    subject: str
    """What the images show, in one word."""
    unit: str
    """Source in the manifest: the repository, or a common name for repositories with the same origin."""

    @property
    def generator(self) -> str:
        """Generator in the manifest."""
        return "unknown" if self.label.startswith(_UNKNOWN) else self.label

    def __str__(self) -> str:
        where = f"{self.repo or 'no repository'}@{self.commit[:10] or '?'}"
        return f"line {self.line}, {self.label}, {where}"


@dataclass(frozen=True)
class CorpusOptions:
    """What to build, where it comes from and where it goes."""

    table: Path
    """The table of sources, see read_sources()."""
    output: Path
    """Folder of the corpus; files of an earlier run are kept."""
    origin: str
    """URL or path of a repository that contains {repo}, or {owner} and {name}."""
    cap: int | None = None
    """Greatest number of files from each source; None: as the table says."""
    only: tuple[str, ...] = ()
    """Labels to build; empty: all."""


@dataclass(frozen=True)
class Corpus:
    """What was built."""

    manifest: Path
    """CORPUS/manifest.csv."""
    images: Mapping[str, int]
    """Number of images by label."""
    sources: Mapping[str, int]
    """Rows of the table that contributed at least one image, by label."""
    left_out: Mapping[str, int]
    """Files that were examined but not taken, by reason."""
    missing: Sequence[str]
    """A line for each row of the table that contributed nothing, or less than it should."""


def build_corpus(options: CorpusOptions) -> Corpus:
    """Fetch the images of the sources in a table; files and clones of an earlier run are reused.

    The choice of images depends only on the table, the caps and the repositories. Raises UsageError for wrong options,
    DataError for a wrong table or if nothing could be built, and OSError.
    """
    check_git()
    if not re.search(r"{repo}|{name}", options.origin):
        raise UsageError(f"--from {options.origin!r} names no repository; write {{repo}} where owner/name belongs")
    sources = _chosen(read_sources(options.table), options.only)
    builder = _Builder(options)
    for source in track(sources, "Sources", len(sources)):
        builder.add(source)
    if not builder.rows:
        raise DataError(f"{options.table}: nothing was built; {_first_of(builder.missing)}")
    manifest = options.output / MANIFEST_NAME
    _write(manifest, _manifest(builder.rows))
    return Corpus(manifest, builder.images, builder.sources, builder.left_out, builder.missing)


def read_sources(path: Path) -> list[Source]:
    """Read a tab-separated table with the columns label, repo, commit, path_regex and optionally cap, subject, source.

    Other columns are ignored. Raises UsageError if there is no such file, DataError with the number of a wrong line.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a table of sources, such as train/sources.tsv")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            lacking = [name for name in _NEEDED if name not in (reader.fieldnames or ())]
            if lacking:
                raise DataError(f"{path}: has no column {' or '.join(lacking)}; it must be tab separated")
            return [_source(path, reader.line_num, record) for record in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a tab separated table ({error})") from error


def difference_hash(pixels: Pixels) -> int:
    """Return 256 bits: whether brightness rises from each of 17 x 16 fields to its right neighbour (dHash).

    ImageHash is not used because it is an optional extra, and a corpus must not depend on the installed packages.
    """
    fields = np.asarray(Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(fields[:, 1:] > fields[:, :-1]).tobytes(), "big")


@dataclass
class _Builder:
    """Takes the images of one source after another, and remembers their hashes to recognize near-duplicates."""

    options: CorpusOptions
    rows: list[tuple[str, ...]] = field(default_factory=list)
    images: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    missing: list[str] = field(default_factory=list)
    _taken: set[str] = field(default_factory=set)
    _hashes: list[int] = field(default_factory=list)
    _network: Network = field(default_factory=Network)

    def add(self, source: Source) -> None:
        """Take the images of a source, and record why there are none or fewer than there should be."""
        before = len(self.rows)
        try:
            fault = self._take(source)
        except RepositoryError as error:
            fault = str(error)
        taken = len(self.rows) - before
        self.images[source.label] += taken
        self.sources[source.label] += taken > 0
        if fault:
            self.missing.append(f"{source}: {fault}" + (f"; {taken} of its images were taken before" if taken else ""))

    def _take(self, source: Source) -> str:
        """Take the images of a source; returns why there are none, or an empty text. Raises RepositoryError."""
        if not (source.repo and source.commit):
            return "the table knows no repository or no commit"
        repository = self._open(source.repo)
        commit = repository.commit(source.commit)
        blobs = {blob for blob, path in repository.files(commit) if source.pattern.search(path)}
        if not blobs:
            return f"no file matches {source.pattern.pattern}"
        # Drawn by hash, not by random numbers: the choice is the same with every library version and with missing files
        drawn = iter(sorted(blobs - self._taken, key=lambda blob: sha256(f"{_SEED}:{blob}".encode()).digest()))
        cap = source.cap if self.options.cap is None else self.options.cap
        reasons = Counter({_DUPLICATE: len(blobs & self._taken)})
        images = 0
        while batch := list(islice(drawn, min(cap - images, _BATCH))):
            for blob, data in repository.read(commit, batch):
                reason = self._accept(source, commit, blob, data)
                reasons[reason] += 1
                images += not reason
        del reasons[""]
        self.left_out += reasons
        return "" if images else f"none of its {len(blobs)} files is of use ({counted(reasons)})"

    def _open(self, repo: str) -> Repository:
        owner, name = repo.split("/")
        url = self.options.origin
        for field_name, value in (("repo", repo), ("owner", owner), ("name", name)):
            url = url.replace(f"{{{field_name}}}", value)
        return Repository(self.options.output / CACHE_FOLDER / f"{owner}+{name}.git", url, self._network)

    def _accept(self, source: Source, commit: str, blob: str, data: bytes) -> str:
        """Write an image and add its row; returns the reason if it is not taken, or an empty text."""
        decoded = decode(data)
        if isinstance(decoded, Unreadable):
            return "unreadable"
        if min(decoded.pixels.shape[:2]) < MIN_SIDE:
            return f"smaller than {MIN_SIDE} pixels"
        fingerprint = difference_hash(decoded.pixels)
        if any((fingerprint ^ earlier).bit_count() <= NEAR for earlier in self._hashes):
            return _DUPLICATE
        suffix = _SUFFIXES.get(decoded.header.format, f".{decoded.header.format.lower()}")
        version = f"{source.repo}@{commit[:10]}"
        place = Path(source.label, version.replace("/", "+"), f"{blob}{suffix}")
        _write(self.options.output / place, data)
        self._taken.add(blob)
        self._hashes.append(fingerprint)
        digest = sha256(data).hexdigest()
        self.rows.append((place.as_posix(), source.generator, source.subject, blob, source.unit, digest))
        return ""


def counted(reasons: Mapping[str, int]) -> str:
    """Return counts as text: `3 unreadable, 1 smaller than 128 pixels`."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()) if count)


def _source(path: Path, line: int, record: Mapping[str, str | None]) -> Source:
    """Return the source of a line. Raises DataError for a wrong cell."""
    cells = {name: (record.get(name) or "").strip() for name in (*_NEEDED, "cap", "subject", "source")}

    def wrong(what: str) -> DataError:
        return DataError(f"{path}: line {line}: {what}; correct or remove the row")

    if not _LABEL.fullmatch(cells["label"]):
        raise wrong(f"{cells['label']!r} is no label, which names a folder")
    if cells["repo"] and not _REPO.fullmatch(cells["repo"]):
        raise wrong(f"{cells['repo']!r} is no repository; write owner/name")
    if cells["commit"] and not _COMMIT.fullmatch(cells["commit"]):
        raise wrong(f"{cells['commit']!r} is no commit; write its 40 hexadecimal digits, or the first 7 and more")
    if not re.fullmatch("[1-9][0-9]*|", cells["cap"]):
        raise wrong(f"the cap is {cells['cap']!r}, not a number from 1 on")
    try:
        pattern = re.compile(cells["path_regex"], re.DOTALL)
    except re.error as error:
        raise wrong(f"{cells['path_regex']!r} is no regular expression ({error})") from error
    cap = int(cells["cap"] or DEFAULT_CAP)
    unit = cells["source"] or cells["repo"]
    return Source(line, cells["label"], cells["repo"], cells["commit"], pattern, cap, cells["subject"], unit)


def _chosen(sources: Sequence[Source], only: Sequence[str]) -> list[Source]:
    """Return the sources with the wanted labels. Raises UsageError for a label that the table does not have."""
    labels = sorted({source.label for source in sources})
    for label in only:
        if label not in labels:
            raise UsageError(f"--only {label} names no label of the table, which has {', '.join(labels)}")
    return [source for source in sources if not only or source.label in only]


def _first_of(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - _SOURCES_SHOWN} more" if len(lines) > _SOURCES_SHOWN else ""
    return "; ".join(lines[:_SOURCES_SHOWN]) + more if lines else "it has no rows"


def _manifest(rows: Sequence[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, unless it already exists with the same content."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
