"""genforensic: names the image generator behind a synthetic image."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("genforensic")
except PackageNotFoundError:  # a source tree that nobody installed
    __version__ = "0+unknown"
