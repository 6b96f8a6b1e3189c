"""A table of public repositories -> CORPUS/<label>/<source>/<blob id>.<suffix> and a manifest to train from."""

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
"""Files of a source whose row names no cap, so that a large repository does not stand for its generator."""

CACHE_FOLDER = ".repositories"
"""Holds the clones, below the corpus."""
MIN_SIDE = 128
"""Pixels; smaller images are thumbnails, and less than most recipes look at."""
NEAR = 8
"""Bits of 256 in which the hashes of near-duplicates differ at most. Of all pairs of 1,126 images of the field corpus 3
are as close: restorations of one photograph, and a screenshot with its variant. JPEG 80 changes 2 bits in the median,
and 11 in one image of twenty. Hashes of 64 bits, with a distance that catches as much, call 43 pairs the same."""
_SEED = 0
_COLUMNS = ("path", "generator", "subject", "group", "source", "sha256")
_NEEDED = ("label", "repo", "commit", "path_regex")
_REPO = re.compile(r"(?!.*/\.{1,2}$)[a-z0-9][\w-]*/[\w.-]+", re.ASCII | re.IGNORECASE)
_LABEL = re.compile(r"\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
_UNKNOWN = "unknown_"
_DUPLICATE = "near-duplicates"
_BATCH = 64
"""Files that are fetched together: what a stopped run can lose."""
_NAMED = 5
"""Sources that an error message names one by one."""
_SUFFIXES = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}


@dataclass(frozen=True)
class Source:
    """A row of the table: files of one generator in one repository."""

    line: int
    """In the table, from 1 on."""
    label: str
    """The generator; what begins with `unknown_` becomes the generator `unknown`."""
    repo: str
    """owner/name; empty where nobody knows."""
    commit: str
    """Its id, or 7 digits of it and more; empty where nobody knows."""
    pattern: re.Pattern[str]
    """Found in the paths of the files that are meant."""
    cap: int
    """Most files that are taken."""
    subject: str
    """What is shown, in a word."""
    unit: str
    """The manifest's source: the repository, whatever its commits, or what several repositories of one origin share."""

    @property
    def generator(self) -> str:
        """The manifest's."""
        return "unknown" if self.label.startswith(_UNKNOWN) else self.label

    def __str__(self) -> str:
        where = f"{self.repo or 'no repository'}@{self.commit[:10] or '?'}"
        return f"line {self.line}, {self.label}, {where}"


@dataclass(frozen=True)
class CorpusOptions:
    """What to build, from where and into which folder."""

    table: Path
    """See read_sources()."""
    output: Path
    """The corpus; what an earlier run has written there stays."""
    origin: str
    """URL or path of a repository, with {repo}, or with {owner} and {name}, in it."""
    cap: int | None = None
    """Most files of each source; None: the table's."""
    only: tuple[str, ...] = ()
    """Labels to build; none: all."""


@dataclass(frozen=True)
class Corpus:
    """What was built."""

    manifest: Path
    """CORPUS/manifest.csv."""
    images: Mapping[str, int]
    """By label."""
    sources: Mapping[str, int]
    """Rows of the table that gave at least an image, by label."""
    left_out: Mapping[str, int]
    """Files that were looked at and not taken, by the reason."""
    missing: Sequence[str]
    """A line for each row of the table that gave nothing, or less than it should."""


def build_corpus(options: CorpusOptions) -> Corpus:
    """Fetch the images of a table's sources; files and clones of an earlier run are used, and not written again.

    Which images are taken depends on the table, the caps and the repositories alone. Raises UsageError for options,
    DataError for a wrong table and where nothing could be built, and OSError.
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
    """Read a table: tab separated, with the columns label, repo, commit, path_regex; optionally cap, subject, source.

    Further columns are for people. Raises UsageError for a path that is no file, DataError with the line's number.
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
    """Return 256 bits: whether brightness rises from each of 17 x 16 fields to the next one on its right (dHash).

    Not ImageHash's: that package is an extra, and which images a corpus has must not depend on what is installed.
    """
    fields = np.asarray(Image.fromarray(pixels).convert("L").resize((17, 16), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(fields[:, 1:] > fields[:, :-1]).tobytes(), "big")


@dataclass
class _Builder:
    """Takes the sources in turn, and remembers what near-duplicates are recognised by."""

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
        """Take a source's images, and note why there are none, or fewer than there should be."""
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
        """Take a source's images; returns why there are none, or nothing. Raises RepositoryError."""
        if not (source.repo and source.commit):
            return "the table knows no repository or no commit"
        repository = self._open(source.repo)
        commit = repository.commit(source.commit)
        blobs = {blob for blob, path in repository.files(commit) if source.pattern.search(path)}
        if not blobs:
            return f"no file matches {source.pattern.pattern}"
        # by a hash, not by random numbers: the same with every version of a library, and if some files are not there
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
        """Write an image and remember its row; returns why not, or nothing."""
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
    cells = {name: (record.get(name) or "").strip() for name in (*_NEEDED, "cap", "subject", "source")}

    def wrong(what: str) -> DataError:
        return DataError(f"{path}: line {line}: {what}; correct the row or take it out")

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
    labels = sorted({source.label for source in sources})
    for label in only:
        if label not in labels:
            raise UsageError(f"--only {label} names no label of the table, which has {', '.join(labels)}")
    return [source for source in sources if not only or source.label in only]


def _first_of(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more if lines else "it has no rows"


def _manifest(rows: Sequence[tuple[str, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
    return text.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; the very same file that is there stays."""
    if path.is_file() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
