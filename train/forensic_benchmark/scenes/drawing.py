"""A canvas for procedural scenes: outlines filled with 1/f textures, and the camera that takes the picture.

Outlines are float arrays N x 2 in a frame whose x runs right and y down, both from -1 to 1 across the picture.
"""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from forensic_cli.images.header import Pixels

Points = npt.NDArray[np.float64]
"""Corners of an outline, N x 2."""
Field = npt.NDArray[np.float32]
"""H x W, or 3 x H x W for colours in grey levels: planes, on which NumPy is several times faster than on pixels."""
Colour = tuple[float, float, float]
"""RGB in grey levels, 0 to 255."""

OVERSAMPLING = 4
"""Side of the canvas over the side of the picture; the average over each square is what smooths edges."""
SLOPES = 0.8, 1.4
"""Range of the exponent with which the amplitude of a texture falls over frequency; about 1 in natural images."""
TILES = 48
"""Textures in the bank; crops, turns and mirrors make many more of them."""
_BITS = 4
"""Corners are rounded to 1/16 of a pixel of the canvas."""
_TURN = np.linspace(0, 2 * math.pi, 28, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
_HALF_TURN = np.linspace(math.pi / 2, 3 * math.pi / 2, 7)
_ROUND_END = np.stack([np.cos(_HALF_TURN), np.sin(_HALF_TURN)], axis=1)


@dataclass(frozen=True)
class Paint:
    """How a surface looks."""

    colours: tuple[Colour, ...]
    """One colour, or two and more for a coat or a camouflage of patches."""
    grain: float = 0.12
    """Relative standard deviation of the texture."""
    shade: float = 0.12
    """How much lighter the top is than the middle, relative; the bottom is as much darker."""


def points(*corners: tuple[float, float]) -> Points:
    """Return an outline of straight edges."""
    return np.array(corners, np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return an upright rectangle."""
    return points((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(x: float, y: float, width: float, height: float) -> Points:
    """Return an upright ellipse from its centre and its two half axes."""
    return _CIRCLE * (width, height) + (x, y)


def limb(start: tuple[float, float], end: tuple[float, float], first: float, last: float) -> Points:
    """Return a tapered stroke with round ends, of half width `first` at the start and `last` at the end."""
    across, down = end[0] - start[0], end[1] - start[1]
    length = math.hypot(across, down)
    round_end = _ROUND_END @ (np.array([[across, down], [-down, across]]) / length)
    return np.concatenate([first * round_end + start, end - last * round_end])


def rounded(outline: Points, rounds: int = 2) -> Points:
    """Return the outline with its corners cut off repeatedly (Chaikin), which makes it a smooth curve."""
    for _ in range(rounds):
        following = np.concatenate([outline[1:], outline[:1]])
        smooth = np.empty((2 * len(outline), 2))
        smooth[::2] = 0.75 * outline + 0.25 * following
        smooth[1::2] = 0.25 * outline + 0.75 * following
        outline = smooth
    return outline


@functools.cache
def texture_bank(side: int) -> tuple[Field, ...]:
    """Return TILES periodic 1/f textures, 2 side x 2 side, of mean 0 and standard deviation 1; always the same ones."""
    rng = np.random.default_rng(side)
    return tuple(_texture(2 * side, slope, rng) for slope in np.linspace(*SLOPES, TILES))


def _texture(side: int, slope: float, rng: np.random.Generator) -> Field:
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * frequency**-slope
    texture = np.fft.irfft2(spectrum, s=(side, side))
    return np.asarray(texture / texture.std(), np.float32)


@functools.cache
def _ramp(length: int) -> Field:
    return np.asarray(np.linspace(1, -1, length).reshape(length, 1), np.float32)


class Canvas:
    """A picture in the making, drawn at OVERSAMPLING times its final side."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self._size = size
        self._side = size * OVERSAMPLING
        self._image: Field = np.zeros((3, self._side, self._side), np.float32)
        self._place(np.eye(2), np.zeros(2))
        self._roughness = self.between(0.5, 1.6)

    def between(self, low: float, high: float) -> float:
        """Return a random number of this scene."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """Say whether something of this probability happens."""
        return self.rng.random() < probability

    def mix(self, palette: tuple[Colour, ...], spread: float = 9) -> Colour:
        """Return one of the palette's colours with its brightness and its tone shifted at random."""
        colour, gain = palette[int(self.rng.random() * len(palette))], self.between(0.8, 1.2)
        shifts = self.rng.normal(0, spread, 3).tolist()
        red, green, blue = (min(max(gain * level + shift, 6), 250) for level, shift in zip(colour, shifts, strict=True))
        return red, green, blue

    def pose(self, scale: float, aspect: float = 1, tilt: float = 0, sway: float = 0.15) -> None:
        """Place what is drawn from here on: its size, its width over height, and limits of its turn and its shift.

        The turn is in degrees; half of the scenes are mirrored.
        """
        angle = math.radians(self.between(-tilt, tilt))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        side = -1 if self.chance(0.5) else 1
        stretch = np.diag([side * math.sqrt(aspect), 1 / math.sqrt(aspect)])
        self._place(scale * turn @ stretch, self.rng.uniform(-sway, sway, 2))

    def _place(self, turn: Points, shift: Points) -> None:
        half = (self._side << _BITS) / 2
        self._turn, self._shift = half * turn.T, half * (shift + 1)

    def fill(self, outline: Points, paint: Paint) -> None:
        """Paint the inside of an outline, as far as it lies in the picture."""
        corners = np.rint(outline @ self._turn + self._shift).astype(np.int32)
        x, y, width, height = cv2.boundingRect(corners)
        left, right = max(x >> _BITS, 0), min((x + width >> _BITS) + 1, self._side)
        top, bottom = max(y >> _BITS, 0), min((y + height >> _BITS) + 1, self._side)
        if right <= left or bottom <= top:
            return
        inside = np.zeros((bottom - top, right - left), np.uint8)
        offset = -left << _BITS, -top << _BITS
        cv2.fillPoly(inside, [corners], (1,), shift=_BITS, offset=offset)
        surface = self._surface(paint, bottom - top, right - left)
        np.copyto(self._image[:, top:bottom, left:right], surface, where=inside.view(np.bool_))

    def _surface(self, paint: Paint, height: int, width: int) -> Field:
        light = self._crop(height, width) * (paint.grain * self._roughness)
        light += paint.shade * _ramp(height) + 1
        colours = np.array(paint.colours, np.float32)[..., None, None]
        if len(colours) == 1:
            return np.asarray(light * colours[0], np.float32)
        patches, colour = self._crop(height, width), colours[0]
        borders = np.linspace(-0.8, 0.8, len(colours) + 1, dtype=np.float32)[1:-1]
        for step, border in zip(np.diff(colours, axis=0), borders, strict=True):
            colour = colour + np.float32(patches > border) * step
        return np.asarray(light * colour, np.float32)

    def _crop(self, height: int, width: int) -> Field:
        bank = texture_bank(self._side)
        choice, down, right, turn = self.rng.random(4).tolist()
        top, left = int(down * (2 * self._side - height)), int(right * (2 * self._side - width))
        crop = bank[int(choice * len(bank))][top : top + height, left : left + width]
        return crop[:: 1 if turn < 0.5 else -1, :: 1 if turn % 0.5 < 0.25 else -1]

    def photograph(self) -> Pixels:
        """Return the picture, uint8 size x size x 3: averaged down, lit unevenly, with shot and read noise."""
        canvas = cv2.GaussianBlur(cv2.merge(list(self._image)), (5, 5), self.between(0.3, 1))
        image = np.asarray(cv2.resize(canvas, (self._size, self._size), interpolation=cv2.INTER_AREA), np.float32)
        lit = np.clip(image * self._light(), 0, 255) / 255
        image = 255 * np.power(lit, np.float32(self.between(0.85, 1.2)))
        shot, read = self.between(0.5, 3), self.between(0.7, 2.5)
        deviation = np.sqrt(shot**2 * image / 128 + read**2)
        noisy = image + deviation * self.rng.standard_normal(image.shape, np.float32)
        return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)

    def _light(self) -> Field:
        across = _ramp(self._size)[:, 0]
        slope_x, slope_y = self.rng.normal(0, 0.12, 2).tolist()
        vignette = self.between(0, 0.12)
        light = 1 + slope_x * across + slope_y * across[:, None] - vignette * (across**2 + across[:, None] ** 2)
        tone, uneven = self.rng.normal(0, 1, (2, 3)).astype(np.float32)
        colours = 1 + 0.04 * tone + 0.02 * uneven * self._crop(self._size, self._size)[..., None]
        return np.asarray(light[..., None] * colours, np.float32)
