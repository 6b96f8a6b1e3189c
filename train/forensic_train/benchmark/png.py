"""The one way in which the benchmark writes an image: 8-bit PNG without metadata."""

from pathlib import Path

import cv2

from forensic_cli.images.header import Pixels
from forensic_train.run import atomic


def write_png(path: Path, pixels: Pixels) -> None:
    """Write RGB pixels H x W x 3; a file is there whole or not at all."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    assert done, "uint8 pixels can always be written as PNG"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_bytes(encoded.tobytes())
