"""Images in object stores: s3://BUCKET/KEY or gs://BUCKET/KEY, listed and read through PyArrow.

Credentials, region and endpoint come from the environment, as the stores' own tools read them (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from forensic_cli.errors import UsageError, require

SCHEMES = ("s3", "gs")
"""Of the URLs that name objects."""


@dataclass(frozen=True)
class ObjectUrl:
    """An object in a store, or everything whose key begins with a folder's. Nothing in the key is percent-encoded."""

    url: str
    """SCHEME://BUCKET/KEY."""
    is_folder: bool = field(default=False, compare=False)
    """Whether a listing called it a folder."""

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return self.url

    @property
    def suffix(self) -> str:
        """The end of the name from its last dot; empty without one."""
        return PurePosixPath(self.url).suffix

    def match(self, glob: str) -> bool:
        """Tell whether the end of the key matches a glob, as pathlib does."""
        return PurePosixPath(self._place).match(glob)

    def read(self, most: int) -> bytes:
        """Return the first `most` bytes of the object, or all that there are. Raises OSError."""
        place = self._reachable()
        with _as_os_error(), self._store.open_input_file(place) as file:
            return bytes(file.read(min(most, file.size())))

    def size(self) -> int | None:
        """Return the size of an object in bytes; None for a folder. Raises FileNotFoundError, or another OSError."""
        place = self._reachable()
        with _as_os_error():
            info = self._store.get_file_info(place)
        if info.type.name == "NotFound":
            raise FileNotFoundError(self.url)
        return None if info.size is None else int(info.size)

    def entries(self) -> Iterator["ObjectUrl"]:
        """Return what lies in a folder, in name order. Raises OSError."""
        from pyarrow.fs import FileSelector

        place = self._reachable()
        with _as_os_error():
            infos = self._store.get_file_info(FileSelector(place, recursive=False))
        scheme = self.url.partition("://")[0]
        # An empty name inside appears as the folder itself
        names = sorted((f"{place}//" if info.path == place else info.path, info.type.name) for info in infos)
        return (ObjectUrl(f"{scheme}://{path}", kind == "Directory") for path, kind in names)

    @property
    def _place(self) -> str:
        """Bucket and key."""
        return self.url.partition("://")[2]

    def _reachable(self) -> str:
        """Return bucket and key. Raises OSError for one for which a server would answer with something else."""
        place = self._place.removesuffix("/")
        if not {"", ".", ".."}.isdisjoint(place.split("/")):
            raise OSError("a key with an empty part or one of dots cannot be asked for")
        return place

    @property
    def _store(self) -> Any:
        scheme, _, place = self.url.partition("://")
        return _open_store(scheme, place.partition("/")[0])


Location: TypeAlias = Path | ObjectUrl
"""Where a file is."""


def location(text: str) -> Location:
    """Return what a path or a URL names."""
    return ObjectUrl(text) if is_url(text) else Path(text)


def is_url(text: str) -> bool:
    """Tell whether a text is the URL of an object."""
    scheme, separator, place = text.partition("://")
    return bool(separator and place) and scheme in SCHEMES


def check_reachable(url: ObjectUrl) -> None:
    """Raise UsageError unless there is such an object or folder, and the credentials suffice to see it."""
    require(("pyarrow", "pyarrow.fs"), "parquet", str(url))
    try:
        if url.size() is None:
            next(url.entries(), None)
    except FileNotFoundError as error:
        raise UsageError(f"{url}: no such object or folder; give existing ones") from error
    except OSError as error:
        raise UsageError(f"{url}: cannot be reached ({in_one_line(error)}); check address and credentials") from error


def in_one_line(error: Exception) -> str:
    """Return the first line of what a store says, shortened."""
    text = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return text.splitlines()[0][:200]


@cache
def _open_store(scheme: str, bucket: str) -> Any:
    from pyarrow.fs import FileSystem

    store, _ = FileSystem.from_uri(f"{scheme}://{bucket}")
    return store


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """PyArrow raises ValueError for keys that it cannot express, and its own classes for what a store says."""
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        raise OSError(in_one_line(error)) from error
