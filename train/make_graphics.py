"""Draws pictures that no camera and no generator made: patterns, gradients, shapes, text and plots.

    python train/make_graphics.py GRAPHICS [--count 40] [--seed 0]

Without such pictures in training a drawn line pattern is called generated, with confidence. GRAPHICS gets PNGs and a
manifest.csv whose generator is `real`: here that means that no generator of images was at work. Each kind is a source
of its own, so that an evaluation can leave it out.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")
from matplotlib import pyplot as plt

Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator

_WORDS = (
    *("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "total"),
    *("amount", "2026", "figure", "table", "value", "date", "name", "of", "and", "is"),
)


def _colour(rng: Rng) -> tuple[int, int, int]:
    return tuple(int(value) for value in rng.integers(0, 256, 3))  # type: ignore[return-value]


def _side(rng: Rng) -> tuple[int, int]:
    return int(rng.integers(160, 1025)), int(rng.integers(160, 1025))


def pattern(rng: Rng) -> Pixels:
    """Draw stripes, a checkerboard, dots, rings or a grating."""
    height, width = _side(rng)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    period, angle = rng.uniform(2, 64), rng.uniform(0, np.pi)
    along = rows * np.sin(angle) + columns * np.cos(angle)
    kind = int(rng.integers(5))
    if kind == 0:
        mask = (along // period) % 2
    elif kind == 1:
        mask = (rows // period + columns // period) % 2
    elif kind == 2:
        mask = ((rows % period - period / 2) ** 2 + (columns % period - period / 2) ** 2) < (period / 3) ** 2
    elif kind == 3:
        mask = (np.hypot(rows - height / 2, columns - width / 2) // period) % 2
    else:
        mask = (1 + np.sin(2 * np.pi * along / period)) / 2
    first, second = (np.array(_colour(rng), np.float64) for _ in range(2))
    mask = np.asarray(mask, np.float64)[..., None]
    return np.round(first * (1 - mask) + second * mask).astype(np.uint8)


def gradient(rng: Rng) -> Pixels:
    """Draw one colour, or a linear or radial transition of two, at times with noise."""
    height, width = _side(rng)
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    kind = int(rng.integers(4))
    weight = (
        np.zeros((height, width)),
        rows / height,
        (rows + columns) / (height + width),
        np.minimum(1, np.hypot(rows - height / 2, columns - width / 2) / max(height, width)),
    )[kind][..., None]
    first, second = (np.array(_colour(rng), np.float64) for _ in range(2))
    pixels = first * (1 - weight) + second * weight
    if rng.random() < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(0.5, 25), (height, width, int(rng.choice([1, 3]))))
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)


def shapes(rng: Rng) -> Pixels:
    """Draw rectangles, discs, lines and polygons, with and without smooth edges."""
    height, width = _side(rng)
    canvas = np.full((height, width, 3), _colour(rng), np.uint8)
    line = (cv2.LINE_8, cv2.LINE_AA)[int(rng.integers(2))]
    for _ in range(int(rng.integers(3, 60))):
        x, y, u, v = (int(rng.integers(side)) for side in (width, height, width, height))
        thickness = int(rng.choice([-1, 1, 2, 5]))
        kind = int(rng.integers(4))
        if kind == 0:
            cv2.rectangle(canvas, (x, y), (u, v), _colour(rng), thickness, line)
        elif kind == 1:
            cv2.circle(canvas, (x, y), int(rng.integers(3, 120)), _colour(rng), thickness, line)
        elif kind == 2:
            cv2.line(canvas, (x, y), (u, v), _colour(rng), abs(thickness), line)
        else:
            corners = np.stack([rng.integers(0, width, 5), rng.integers(0, height, 5)], axis=1).astype(np.int32)
            cv2.fillPoly(canvas, [corners], _colour(rng), line)
    return canvas


def page(rng: Rng) -> Pixels:
    """Draw lines of text, as on a screen or in a document."""
    height, width = _side(rng)
    canvas = np.full((height, width, 3), 255 if rng.random() < 0.6 else _colour(rng), np.uint8)
    size, top = rng.uniform(0.4, 1.2), 24
    ink = (0, 0, 0) if rng.random() < 0.5 else _colour(rng)
    while top < height:
        words = " ".join(rng.choice(_WORDS, int(rng.integers(2, 16))))
        cv2.putText(canvas, words, (8, top), int(rng.integers(8)), size, ink, 1, cv2.LINE_AA)
        top += int(30 * size) + 4
    return canvas


def plot(rng: Rng) -> Pixels:
    """Draw a chart with matplotlib."""
    figure = plt.figure(figsize=(rng.uniform(3, 9), rng.uniform(3, 7)), dpi=int(rng.integers(72, 130)))
    axes = figure.subplots()
    kind, x = int(rng.integers(4)), np.linspace(0, 1, int(rng.integers(5, 200)))
    colours = [tuple(rng.random(3)) for _ in range(3)]
    for colour in colours:
        y = np.cumsum(rng.normal(size=len(x)))
        if kind == 0:
            axes.plot(x, y, color=colour)
        elif kind == 1:
            axes.scatter(x, y, s=rng.uniform(4, 60), color=colour)
        elif kind == 2:
            axes.bar(x, y, width=0.8 / len(x), color=colour)
        else:
            axes.hist(y, bins=int(rng.integers(5, 40)), color=colour, alpha=0.6)
    axes.set_title(" ".join(rng.choice(_WORDS, 4)))
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]
    plt.close(figure)
    return pixels


KINDS: dict[str, Callable[[Rng], Pixels]] = {f.__name__: f for f in (pattern, gradient, shapes, page, plot)}


def main() -> None:
    """Draw and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder for the pictures")
    parser.add_argument("--count", type=int, default=40, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    lines = []
    for k, (name, draw) in enumerate(KINDS.items()):
        (options.output / name).mkdir(parents=True, exist_ok=True)
        for i in range(options.count):
            pixels = draw(np.random.default_rng([options.seed, k, i]))
            path = f"{name}/{i:04d}.png"
            cv2.imwrite(str(options.output / path), np.ascontiguousarray(pixels[..., ::-1]))
            lines.append((path, "real", "graphic", "", f"drawn {name}"))
    with (options.output / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "generator", "subject", "group", "source"))
        writer.writerows(lines)


if __name__ == "__main__":
    main()
