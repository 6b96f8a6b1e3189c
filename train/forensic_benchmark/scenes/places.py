"""Backgrounds: outdoors, indoors, and whatever lies behind a portrait."""

from forensic_benchmark.scenes.drawing import Canvas, Colour, Paint, box, ellipse, points, rounded

_SKIES: tuple[Colour, ...] = ((128, 172, 220), (180, 200, 220), (206, 208, 210), (90, 140, 204), (224, 190, 160))
_GROUNDS: tuple[Colour, ...] = ((92, 122, 58), (112, 134, 66), (132, 128, 76), (168, 148, 110), (206, 208, 212))
_WOODS: tuple[Colour, ...] = ((52, 72, 44), (70, 92, 54), (84, 84, 60), (110, 120, 130))
_WALLS: tuple[Colour, ...] = (
    (214, 206, 190), (190, 196, 200), (168, 150, 130), (120, 136, 150), (206, 184, 150), (150, 170, 150),
)  # fmt: skip
_FLOORS: tuple[Colour, ...] = (
    (140, 98, 62),
    (104, 74, 52),
    (170, 160, 150),
    (120, 110, 110),
    (150, 120, 96),
    (96, 60, 60),
)
_BLURS: tuple[Colour, ...] = (
    (90, 110, 70), (60, 64, 70), (180, 178, 172), (120, 96, 76), (130, 150, 170), (44, 52, 46), (200, 190, 170),
)  # fmt: skip
_EVERYWHERE = box(-1.1, -1.1, 1.1, 1.1)


def outdoors(canvas: Canvas, horizon: tuple[float, float], grounds: tuple[Colour, ...] = _GROUNDS) -> float:
    """Paint sky, a line of trees at times, and ground; return the height of the horizon, drawn from the given range."""
    level, tilt = canvas.between(*horizon), canvas.between(-0.06, 0.06)
    canvas.fill(_EVERYWHERE, Paint((canvas.mix(_SKIES),), canvas.between(0.03, 0.14), canvas.between(-0.15, 0.1)))
    if canvas.chance(0.55):
        _trees(canvas, level)
    ground = points((-1.1, level - tilt), (1.1, level + tilt), (1.1, 1.1), (-1.1, 1.1))
    canvas.fill(ground, Paint((canvas.mix(grounds),), canvas.between(0.12, 0.26), canvas.between(-0.05, 0.15)))
    return level


def _trees(canvas: Canvas, level: float) -> None:
    tops = [(x / 3, level - canvas.between(0.05, 0.5)) for x in range(-4, 5)]
    canvas.fill(rounded(points((-1.2, level + 0.1), *tops, (1.2, level + 0.1))), Paint((canvas.mix(_WOODS),), 0.26))


def indoors(canvas: Canvas, floor: tuple[float, float]) -> None:
    """Paint a wall, at times with a window or a picture, and a floor that begins within the given range of heights."""
    level, tilt = canvas.between(*floor), canvas.between(-0.12, 0.12)
    canvas.fill(_EVERYWHERE, Paint((canvas.mix(_WALLS),), canvas.between(0.04, 0.1), canvas.between(-0.1, 0.1)))
    if canvas.chance(0.5):
        _frame(canvas)
    ground = points((-1.1, level - tilt), (1.1, level + tilt), (1.1, 1.1), (-1.1, 1.1))
    canvas.fill(ground, Paint((canvas.mix(_FLOORS),), canvas.between(0.08, 0.2)))


def _frame(canvas: Canvas) -> None:
    x, y, width, height = (
        canvas.between(-0.9, 0.9),
        canvas.between(-0.8, -0.5),
        canvas.between(0.15, 0.35),
        canvas.between(0.15, 0.35),
    )
    canvas.fill(
        box(x - width - 0.05, y - height - 0.05, x + width + 0.05, y + height + 0.05), Paint((canvas.mix(_FLOORS),))
    )
    canvas.fill(box(x - width, y - height, x + width, y + height), Paint((canvas.mix(_SKIES),), 0.25))


def out_of_focus(canvas: Canvas) -> None:
    """Paint soft large patches."""
    canvas.fill(_EVERYWHERE, Paint((canvas.mix(_BLURS),), canvas.between(0.08, 0.2), canvas.between(-0.2, 0.2)))
    for _ in range(int(canvas.rng.integers(4))):
        patch = ellipse(
            canvas.between(-1, 1), canvas.between(-1, 1), canvas.between(0.2, 0.7), canvas.between(0.2, 0.7)
        )
        canvas.fill(patch, Paint((canvas.mix(_BLURS),), 0.15))
