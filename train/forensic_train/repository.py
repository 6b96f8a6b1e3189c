"""A public repository, read with git: a partial clone in a cache folder, which fetches each requested file once."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from forensic_cli.errors import OutputError, UsageError

_CONFIG = (
    # Never collect garbage: what was fetched is in use although no branch leads to it
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    # Give up on a server that sends nothing for a minute
    *("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"),
    # Do not tell the server what is here already: every fetch is for something that is not
    *("-c", "fetch.negotiationAlgorithm=noop"),
)
_WITHOUT_FILES = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
_REFS = "refs/corpus/"
_WHOLE_HISTORY = (
    "--depth",
    "2147483647",
)  # git's own number for an infinite depth, which also undoes an earlier --depth 1
_GIVE_UP = 3
"""Fetches in a row that fail to reach the server before no more are tried."""
_FULL = 40
"""Hexadecimal digits of a full commit id."""
_OFFLINE = re.compile(
    r"could not resolve host|couldn't resolve|failed to connect|couldn't connect|connection (timed out|refused|reset)"
    r"|network is unreachable|no route to host|operation too slow|could not resolve proxy",
    re.IGNORECASE,
)
_NO_COMMIT = re.compile(r"not our ref|couldn't find remote ref|unadvertised object", re.IGNORECASE)
_NO_REPOSITORY = re.compile(
    r"repository .*not found|could not read username|authentication failed|does not appear to be a git repository"
    r"|does not exist|not a git repository",
    re.IGNORECASE,
)


class RepositoryError(Exception):
    """Why something is not available; the text continues a sentence about the repository, such as `is not there`."""


class UnreachableError(RepositoryError):
    """The server could not be reached, which probably holds for its other repositories as well."""


@dataclass
class Network:
    """Whether the server that repositories share is reachable."""

    failures: int = 0
    """Fetches in a row that did not reach the server."""

    def check(self) -> None:
        """Raise UnreachableError if another attempt would only waste time."""
        if self.failures >= _GIVE_UP:
            raise UnreachableError(f"was not tried, as the {_GIVE_UP} before could not be reached")


def check_git() -> None:
    """Raise UsageError if git is not installed."""
    if shutil.which("git") is None:
        raise UsageError("git is not installed, or not on the PATH; install it (https://git-scm.com) and try again")


def blob_id(data: bytes) -> str:
    """Return the id under which git stores the content of a file."""
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Repository:
    """A bare partial clone; methods fetch what is missing, and raise RepositoryError if that is not available."""

    def __init__(self, folder: Path, url: str, network: Network) -> None:
        """Read the repository at `url`, a URL or a path, through the clone in `folder`, which is created if necessary.

        Raises OSError if the folder cannot be created.
        """
        self._folder = folder
        self._url = url
        self._network = network
        folder.mkdir(parents=True, exist_ok=True)

    def commit(self, prefix: str) -> str:
        """Return the full id of a commit, given at least its first digits, and make sure that its file list is here."""
        if not (self._folder / "HEAD").exists():
            self._git("init", "--quiet", "--bare")
        if known := self._known(prefix):
            return known
        if len(prefix) == _FULL:
            self._fetch("--depth", "1", "origin", f"{prefix}:{_REFS}{prefix}")
            return prefix
        # Servers do not resolve abbreviated ids, so the history is needed to find the commit
        self._fetch(*_WHOLE_HISTORY, "origin", "+refs/heads/*:refs/remotes/origin/*")
        try:
            whole = self._git("rev-parse", "--verify", "--quiet", f"{prefix}^{{commit}}").decode().strip()
        except RepositoryError as error:
            raise RepositoryError("has no such commit on its branches") from error
        self._git("update-ref", f"{_REFS}{whole}", whole)
        return whole

    def files(self, commit: str) -> list[tuple[str, str]]:
        """Return (blob id, path) of each regular file, in the order of the paths."""
        listing = self._git("ls-tree", "-r", "-z", commit).decode("utf-8", "surrogateescape")
        entries = (entry.split("\t", 1) for entry in listing.split("\0") if entry.startswith("100"))
        return [(about.split()[2], path) for about, path in entries]  # MODE blob ID<tab>PATH; links have 120000

    def read(self, commit: str, blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (blob id, bytes) of some files of a commit; missing ones are fetched together."""
        # cat-file would fetch missing files as well, but one by one, with a connection for each
        objects = self._git("rev-list", "--objects", "--missing=print", "--no-object-names", f"{commit}^{{tree}}")
        absent = {line[1:] for line in objects.decode().split() if line.startswith("?")}
        if wanted := [blob for blob in blobs if blob in absent]:
            self._fetch("--stdin", "origin", typed="\n".join(wanted))
        yield from self._read_local(blobs)

    def _known(self, prefix: str) -> str | None:
        """Return a commit with this prefix that an earlier run fetched completely: the ref is written last."""
        refs = self._git("for-each-ref", "--format=%(refname)", _REFS).decode().split()
        return next((ref.removeprefix(_REFS) for ref in refs if ref.startswith(_REFS + prefix)), None)

    def _fetch(self, *what: str, typed: str = "") -> None:
        self._network.check()
        try:
            self._git("fetch", *_WITHOUT_FILES, *what, typed=typed)
        except UnreachableError:
            self._network.failures += 1
            raise
        except RepositoryError:
            self._network.failures = 0
            raise
        self._network.failures = 0

    def _read_local(self, blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        pipe = subprocess.PIPE
        with subprocess.Popen(
            self._command("cat-file", "--batch"), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=_environment()
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            for blob in blobs:
                reader.stdin.write(f"{blob}\n".encode())
                reader.stdin.flush()
                about = reader.stdout.readline().split()  # ID blob SIZE, the bytes, a newline
                data = reader.stdout.read(int(about[2])) if len(about) == 3 else b""
                if blob_id(data) != blob:
                    raise RepositoryError(f"is damaged in the cache; delete {self._folder} and try again")
                reader.stdout.read(1)
                yield blob, data

    def _command(self, *arguments: str) -> list[str]:
        origin = {"url": self._url, "promisor": "true", "partialclonefilter": "blob:none"}
        settings = (word for name, value in origin.items() for word in ("-c", f"remote.origin.{name}={value}"))
        return ["git", *_CONFIG, *settings, f"--git-dir={self._folder}", *arguments]

    def _git(self, *arguments: str, typed: str = "") -> bytes:
        done = subprocess.run(
            self._command(*arguments), input=typed.encode(), capture_output=True, check=False, env=_environment()
        )
        if done.returncode:
            raise self._error(done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def _error(self, text: str) -> Exception:
        """Return the exception for an error message of git."""
        if re.search("No space left on device|Disk quota exceeded", text):
            return OutputError(
                f"{self._folder}: the disk is full; free some space and run the command again to continue"
            )
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("warning: ")]
        fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
        reason = [*fatal, *lines, "git does not say why"][0]
        if re.search(r"\.lock'?: File exists", text):
            return RepositoryError(f"is locked, as git was killed, or still runs; if not, delete {self._folder}")
        if _OFFLINE.search(text):
            return UnreachableError(f"cannot be reached ({reason})")
        if _NO_COMMIT.search(text):
            return RepositoryError("has no such commit, or not all of its files")
        if _NO_REPOSITORY.search(text):
            return RepositoryError(f"is not there, or not public ({self._url})")
        return RepositoryError(f"cannot be read ({reason})")


def _environment() -> dict[str, str]:
    """Return variables under which git answers in English and never asks for a password, in a terminal or a window.

    Variables that would direct git to another repository, as a hook sets them, are removed.
    """
    ours = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    foreign = ("GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_WORK_TREE", "GIT_NAMESPACE")
    return {name: value for name, value in os.environ.items() if name not in foreign} | ours
