"""genforensic: names the image generator behind a synthetic image."""

__version__ = "0.1.0"
