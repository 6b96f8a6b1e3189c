"""Sketches of people and animals."""

from forensic_benchmark.scenes.drawing import Canvas, Colour, Paint, Points, box, ellipse, limb, points, rounded
from forensic_benchmark.scenes.places import indoors, out_of_focus, outdoors

_HORSES: tuple[Colour, ...] = (
    (112, 66, 38), (88, 52, 34), (140, 84, 48), (58, 46, 40), (176, 170, 164), (206, 200, 190), (184, 140, 86),
)  # fmt: skip
_SKINS: tuple[Colour, ...] = ((232, 190, 164), (214, 166, 136), (196, 144, 110), (150, 102, 74), (104, 68, 50))
_HAIRS: tuple[Colour, ...] = ((34, 28, 26), (62, 42, 30), (104, 70, 42), (190, 150, 92), (150, 76, 44), (150, 148, 146))
_CLOTHES: tuple[Colour, ...] = (
    (40, 46, 66),
    (150, 40, 44),
    (60, 110, 90),
    (200, 200, 204),
    (90, 70, 110),
    (46, 46, 46),
)
_FURS: tuple[Colour, ...] = (
    (60, 56, 54), (200, 192, 182), (196, 128, 66), (140, 130, 122), (120, 88, 60), (214, 178, 128), (94, 90, 92),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((180, 160, 50), (110, 150, 80), (90, 130, 170), (120, 76, 40), (190, 120, 40))
_DARK: Paint = Paint(((30, 26, 26),), 0.1)


def horse(canvas: Canvas) -> None:
    """A horse from its side, standing or walking on grass, sand or snow."""
    outdoors(canvas, horizon=(-0.35, 0.3))
    canvas.pose(canvas.between(0.72, 1.1), canvas.between(0.85, 1.25), tilt=4)
    coat = Paint((canvas.mix(_HORSES),), 0.14, 0.3)
    mane = coat if canvas.chance(0.3) else Paint((canvas.mix(((40, 32, 28), (210, 196, 170)), 6),))
    shaded = Paint((_darker(coat.colours[0], 0.7),), 0.12)
    stride = canvas.between(0, 0.16)
    for x, paint, side in ((0.3, shaded, 1), (-0.4, shaded, -1), (0.4, coat, -1), (-0.32, coat, 1)):
        _leg(canvas, x, side * stride + canvas.between(-0.05, 0.05), paint)
    canvas.fill(rounded(points((-0.52, -0.08), (-0.66, -0.02), (-0.74, 0.44), (-0.62, 0.3), (-0.5, 0.05))), mane)
    canvas.fill(_barrel(canvas), coat)
    _horse_head(canvas, coat, mane)


def _barrel(canvas: Canvas) -> Points:
    belly = canvas.between(0.18, 0.28)
    return rounded(
        points(
            (-0.6, -0.1), (-0.45, -0.3), (-0.1, -0.22), (0.3, -0.32), (0.52, -0.1), (0.44, 0.2), (0, belly), (-0.5, 0.2)
        )
    )


def _leg(canvas: Canvas, x: float, swing: float, paint: Paint) -> None:
    hoof = (x + swing, canvas.between(0.72, 0.8))
    knee = (x + 0.6 * swing + canvas.between(-0.03, 0.03), 0.42)
    canvas.fill(limb((x, 0.08), knee, 0.11, 0.06), paint)
    canvas.fill(limb(knee, hoof, 0.055, 0.04), paint)
    canvas.fill(limb(hoof, (hoof[0] + 0.03, hoof[1] + 0.02), 0.05, 0.05), _DARK)


def _horse_head(canvas: Canvas, coat: Paint, mane: Paint) -> None:
    poll = canvas.between(0.56, 0.72), canvas.between(-0.72, -0.3)
    nose = poll[0] + canvas.between(0.2, 0.3), poll[1] + canvas.between(0.2, 0.34)
    canvas.fill(limb((0.26, -0.14), (poll[0] - 0.1, poll[1]), 0.2, 0.1), mane)
    canvas.fill(limb((0.36, -0.08), poll, 0.22, 0.1), coat)
    canvas.fill(limb(poll, nose, 0.12, 0.07), coat)
    for offset in (-0.04, 0.05):
        canvas.fill(
            points(
                (poll[0] + offset - 0.04, poll[1]),
                (poll[0] + offset, poll[1] - 0.22),
                (poll[0] + offset + 0.04, poll[1]),
            ),
            coat,
        )
    canvas.fill(ellipse(poll[0] + 0.06, poll[1] + 0.02, 0.025, 0.025), _DARK)


def face(canvas: Canvas) -> None:
    """A person's face from the front."""
    out_of_focus(canvas)
    canvas.pose(canvas.between(0.8, 1.1), canvas.between(0.88, 1.1), tilt=10, sway=0.1)
    skin, hair = Paint((canvas.mix(_SKINS, 6),), 0.07, 0.12), Paint((canvas.mix(_HAIRS, 6),), 0.2, 0.25)
    length = canvas.between(-0.2, 0.8)
    canvas.fill(rounded(points((-0.6, -0.85), (0.6, -0.85), (0.72, length), (-0.72, length))), hair)
    canvas.fill(ellipse(0, 1.12, canvas.between(0.75, 1.05), 0.42), Paint((canvas.mix(_CLOTHES),), 0.2))
    canvas.fill(box(-0.22, 0.4, 0.22, 0.85), Paint((_darker(skin.colours[0], 0.78),), 0.07))
    jaw = canvas.between(0.2, 0.4)
    canvas.fill(rounded(points((-0.5, -0.8), (0.5, -0.8), (0.58, 0.1), (jaw, 0.7), (-jaw, 0.7), (-0.58, 0.1)), 3), skin)
    _features(canvas, skin, hair)
    _fringe(canvas, hair)


def _features(canvas: Canvas, skin: Paint, hair: Paint) -> None:
    shadow = Paint((_darker(skin.colours[0], 0.72),), 0.07)
    eye, gaze = canvas.between(0.2, 0.26), canvas.between(-0.03, 0.03)
    iris = Paint((canvas.mix(((50, 34, 26), (70, 90, 110), (60, 80, 54)), 6),))
    for side in (-eye, eye):
        canvas.fill(ellipse(side, -0.13, 0.15, 0.09), shadow)
        canvas.fill(ellipse(side, -0.12, 0.11, 0.055), Paint(((228, 224, 220),), 0.03))
        canvas.fill(ellipse(side + gaze, -0.12, 0.055, 0.055), iris)
        canvas.fill(limb((side - 0.12, -0.26), (side + 0.12, -0.26), 0.03, 0.03), hair)
    canvas.fill(rounded(points((-0.04, -0.1), (0.03, -0.1), (0.1, 0.2), (-0.08, 0.2))), shadow)
    smile = canvas.between(-0.02, 0.08)
    lips = rounded(points((-0.22, 0.4 - smile), (0, 0.39), (0.22, 0.4 - smile), (0.12, 0.47), (-0.12, 0.47)))
    canvas.fill(lips, Paint((canvas.mix(((176, 84, 80), (150, 70, 64)), 8),), 0.05))
    if canvas.chance(0.35):
        canvas.fill(ellipse(0, 0.425, 0.12, 0.02), Paint(((236, 232, 226),), 0.02))


def _fringe(canvas: Canvas, hair: Paint) -> None:
    parting, height = canvas.between(-0.3, 0.3), canvas.between(-0.62, -0.4)
    canvas.fill(
        rounded(points((-0.64, -0.1), (-0.6, -0.95), (parting, -0.98), (parting, -0.62), (-0.45, height))), hair
    )
    canvas.fill(rounded(points((0.64, -0.1), (0.6, -0.95), (parting, -0.98), (parting, -0.62), (0.45, height))), hair)


def animal_face(canvas: Canvas) -> None:
    """The head of a cat, a dog or a wild animal, filling the picture."""
    out_of_focus(canvas)
    canvas.pose(canvas.between(0.85, 1.1), canvas.between(0.9, 1.2), tilt=12, sway=0.1)
    fur = _coat(canvas, 0.24)
    pale = Paint((canvas.mix(((224, 214, 200), (200, 170, 130), (150, 140, 130)), 8),), 0.14)
    canvas.fill(ellipse(0, 1.1, 0.75, 0.6), fur)
    (_pointed_ears, _hanging_ears, _round_ears)[int(canvas.rng.integers(3))](canvas, fur)
    canvas.fill(
        rounded(points((-0.5, -0.6), (0.5, -0.6), (0.72, 0.2), (0.3, 0.75), (-0.3, 0.75), (-0.72, 0.2)), 3), fur
    )
    width = canvas.between(0.24, 0.36)
    canvas.fill(ellipse(0, 0.42, width, canvas.between(0.22, 0.34)), pale)
    if canvas.chance(0.4):
        canvas.fill(points((-0.08, -0.55), (0.08, -0.55), (0.14, 0.3), (-0.14, 0.3)), pale)
    _animal_eyes(canvas)
    canvas.fill(
        rounded(points((-0.15, 0.22), (0.15, 0.22), (0, 0.42))),
        Paint((canvas.mix(((34, 28, 28), (170, 110, 104)), 6),)),
    )
    canvas.fill(limb((0, 0.36), (0, 0.56), 0.015, 0.015), _DARK)
    canvas.fill(rounded(points((-0.2, 0.54), (0, 0.57), (0.2, 0.54), (0, 0.62))), _DARK)


def _animal_eyes(canvas: Canvas) -> None:
    apart, height, open_ = canvas.between(0.26, 0.36), canvas.between(-0.16, -0.04), canvas.between(0.08, 0.13)
    iris, pupil = Paint((canvas.mix(_IRISES),), 0.05), canvas.between(0.03, 0.08)
    for side in (-apart, apart):
        canvas.fill(ellipse(side, height, 0.16, open_ + 0.035), _DARK)
        canvas.fill(ellipse(side, height, 0.13, open_), iris)
        canvas.fill(ellipse(side, height, pupil, open_), _DARK)
        canvas.fill(ellipse(side + 0.03, height - 0.03, 0.025, 0.025), Paint(((240, 240, 240),), 0))


def _pointed_ears(canvas: Canvas, fur: Paint) -> None:
    tip, inner = canvas.between(-1.08, -0.85), Paint((canvas.mix(((176, 124, 112), (90, 70, 64)), 8),))
    for side in (-1, 1):
        canvas.fill(points((side * 0.18, -0.5), (side * 0.62, tip), (side * 0.68, -0.1)), fur)
        canvas.fill(points((side * 0.32, -0.5), (side * 0.58, tip + 0.16), (side * 0.6, -0.25)), inner)


def _hanging_ears(canvas: Canvas, fur: Paint) -> None:
    dark, length = Paint((_darker(fur.colours[0], 0.65),), fur.grain), canvas.between(0.1, 0.5)
    for side in (-1, 1):
        canvas.fill(
            rounded(
                points((side * 0.3, -0.72), (side * 0.8, -0.55), (side * 0.95, length), (side * 0.6, length - 0.1))
            ),
            dark,
        )


def _round_ears(canvas: Canvas, fur: Paint) -> None:
    size, inner = canvas.between(0.2, 0.3), Paint((_darker(fur.colours[0], 0.55),), 0.1)
    for side in (-0.56, 0.56):
        canvas.fill(ellipse(side, -0.56, size, size), fur)
        canvas.fill(ellipse(side, -0.54, 0.6 * size, 0.6 * size), inner)


def cat(canvas: Canvas) -> None:
    """A whole cat, sitting or lying, at home or outside."""
    if canvas.chance(0.65):
        indoors(canvas, floor=(0.1, 0.6))
    else:
        outdoors(canvas, horizon=(-0.6, 0))
    canvas.pose(canvas.between(0.75, 1.05), canvas.between(0.85, 1.2), tilt=5, sway=0.18)
    coat = _coat(canvas, 0.2)
    (_sitting if canvas.chance(0.6) else _lying)(canvas, coat)


def _sitting(canvas: Canvas, coat: Paint) -> None:
    tail = canvas.between(0.6, 0.9), canvas.between(0.1, 0.7)
    canvas.fill(limb((0.2, 0.76), (0.55, 0.74), 0.08, 0.075), coat)
    canvas.fill(limb((0.55, 0.74), tail, 0.075, 0.05), coat)
    back = canvas.between(0.36, 0.5)
    canvas.fill(
        rounded(points((-0.24, -0.3), (0.2, -0.3), (back, 0.3), (back + 0.06, 0.85), (-0.34, 0.85), (-0.36, 0.3))), coat
    )
    belly = Paint((canvas.mix(((226, 220, 210), coat.colours[0]), 6),), 0.12)
    canvas.fill(ellipse(-0.1, 0.2, 0.15, 0.3), belly)
    for x in (-0.22, -0.02):
        canvas.fill(limb((x, 0.3), (x - 0.02, 0.8), 0.08, 0.075), coat)
    _cat_head(canvas, coat, canvas.between(-0.14, 0.06), canvas.between(-0.52, -0.42))


def _lying(canvas: Canvas, coat: Paint) -> None:
    canvas.fill(limb((0.6, 0.5), (canvas.between(0.85, 1.0), canvas.between(-0.1, 0.6)), 0.09, 0.05), coat)
    canvas.fill(rounded(points((-0.62, 0.05), (0, -0.14), (0.6, -0.08), (0.82, 0.62), (0, 0.68), (-0.6, 0.66))), coat)
    canvas.fill(limb((0.45, 0.3), (0.6, 0.56), 0.2, 0.12), Paint((_darker(coat.colours[0], 0.85),), coat.grain, 0.25))
    canvas.fill(limb((-0.4, 0.56), (-0.8, 0.62), 0.09, 0.08), coat)
    _cat_head(canvas, coat, canvas.between(-0.56, -0.4), canvas.between(-0.22, 0.05))


def _cat_head(canvas: Canvas, coat: Paint, x: float, y: float) -> None:
    for side in (-1, 1):
        canvas.fill(points((x + side * 0.04, y - 0.18), (x + side * 0.26, y - 0.46), (x + side * 0.3, y)), coat)
        canvas.fill(points((x + side * 0.12, y - 0.2), (x + side * 0.24, y - 0.36), (x + side * 0.25, y - 0.1)), _DARK)
    canvas.fill(ellipse(x, y, 0.32, 0.27), Paint(coat.colours, coat.grain, 0.16))
    iris = Paint((canvas.mix(_IRISES),), 0)
    for eye in (x - 0.13, x + 0.13):
        canvas.fill(ellipse(eye, y - 0.03, 0.075, 0.06), iris)
        canvas.fill(ellipse(eye, y - 0.03, 0.03, 0.06), _DARK)
    canvas.fill(ellipse(x, y + 0.13, 0.12, 0.08), Paint((canvas.mix(((230, 222, 214),), 6),), 0.08))
    canvas.fill(points((x - 0.045, y + 0.06), (x + 0.045, y + 0.06), (x, y + 0.12)), Paint(((150, 92, 90),), 0.05))


def _coat(canvas: Canvas, grain: float) -> Paint:
    colours = tuple(canvas.mix(_FURS, 8) for _ in range(2 if canvas.chance(0.35) else 1))
    return Paint(colours, grain, canvas.between(0.1, 0.3))


def _darker(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor
