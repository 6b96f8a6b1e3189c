"""The benchmark's image files: 8-bit PNG without metadata, written and read in one way."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.errors import DataError
from forensic_cli.images.decode import decode
from forensic_cli.images.header import Pixels, Unreadable
from forensic_train.rows import Row
from forensic_train.run import atomic

Images = npt.NDArray[np.uint8]
"""N x S x S x 3."""


def write_png(path: Path, pixels: Pixels) -> None:
    """Write RGB pixels H x W x 3; the file is either complete or absent."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done, "uint8 pixels can always be written as PNG"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def read_images(rows: Sequence[Row]) -> Images:
    """Return the pixels of rows, N x S x S x 3. Raises DataError for a file that has been damaged since."""
    return np.stack([read_image(row.path) for row in rows])


def read_image(path: Path) -> Pixels:
    """Return the pixels of one file, S x S x 3. Raises DataError for a file that has been damaged since."""
    decoded = decode(path.read_bytes())
    if isinstance(decoded, Unreadable):
        raise DataError(f"{path}: {decoded.reason}; remove it and run the benchmark again")
    return decoded.pixels
