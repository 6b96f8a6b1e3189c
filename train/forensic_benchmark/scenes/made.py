"""Sketches of what people make: furniture, buildings and vehicles."""

from forensic_benchmark.scenes.drawing import Canvas, Colour, Paint, Points, box, ellipse, limb, points, rounded
from forensic_benchmark.scenes.places import indoors, outdoors

_SHEETS: tuple[Colour, ...] = ((226, 224, 220), (200, 190, 176), (180, 192, 204), (210, 196, 196))
_BLANKETS: tuple[Colour, ...] = (
    (216, 212, 204), (130, 40, 50), (60, 80, 120), (120, 130, 110), (170, 140, 100), (96, 80, 90), (90, 130, 140),
)  # fmt: skip
_WOOD: tuple[Colour, ...] = ((92, 58, 36), (140, 96, 58), (54, 40, 32), (206, 200, 190), (110, 100, 100))
_STONES: tuple[Colour, ...] = ((196, 186, 168), (150, 140, 130), (220, 216, 206), (150, 88, 66), (176, 150, 116))
_ROOFS: tuple[Colour, ...] = ((84, 78, 80), (140, 70, 50), (100, 84, 70), (70, 84, 84))
_BODIES: tuple[Colour, ...] = (
    (170, 30, 34), (36, 60, 120), (200, 202, 206), (40, 42, 46), (130, 134, 140), (226, 226, 222), (200, 160, 40),
    (40, 90, 70),
)  # fmt: skip
_ROADS: tuple[Colour, ...] = ((96, 96, 98), (120, 118, 114), (74, 76, 80), (150, 146, 138))
_LANDS: tuple[Colour, ...] = ((168, 148, 110), (132, 116, 84), (104, 116, 66), (150, 140, 120), (190, 170, 130))
_CAMOUFLAGES: tuple[tuple[Colour, ...], ...] = (
    ((86, 98, 60), (58, 66, 44), (120, 112, 76)),
    ((184, 158, 114), (146, 118, 80), (200, 180, 140)),
    ((86, 94, 60), (60, 66, 44)),
    ((112, 116, 100), (84, 80, 66), (58, 62, 54)),
)
_RUBBER = Paint(((34, 34, 36),), 0.12, 0.15)
_METAL = Paint(((150, 150, 152),), 0.15, 0.2)


def bed(canvas: Canvas) -> None:
    """A bed in a room, seen from its foot or from a corner."""
    indoors(canvas, floor=(-0.05, 0.35))
    canvas.pose(canvas.between(0.8, 1.05), canvas.between(0.9, 1.4), tilt=3, sway=0.12)
    near, slant, foot = canvas.between(0.72, 1.0), canvas.between(0, 0.4), canvas.between(0.3, 0.55)
    wood, sheet = Paint((canvas.mix(_WOOD),), 0.14), Paint((canvas.mix(_SHEETS, 6),), 0.08, 0.08)
    blanket = Paint((canvas.mix(_BLANKETS),), 0.15, 0.1)
    head = canvas.between(-0.75, -0.4)
    canvas.fill(box(-0.62 + slant, head, 0.62 + slant, 0.15), wood)
    if canvas.chance(0.6):
        _night_table(canvas, canvas.between(-0.95, -0.85) + slant, wood)
    canvas.fill(points((-0.58 + slant, -0.05), (0.58 + slant, -0.05), (near, foot), (-near, foot)), sheet)
    canvas.fill(box(-near, foot, near, foot + 0.3), Paint((_shaded(blanket, 0.72),), 0.15))
    canvas.fill(
        points((0.58 + slant, -0.05), (0.6 + slant, 0.2), (near, foot + 0.3), (near, foot)),
        Paint((_shaded(blanket, 0.6),)),
    )
    _cover(canvas, near, slant, foot, blanket)
    for x in (-0.28, 0.28) if canvas.chance(0.75) else (0.0,):
        pillow = rounded(box(slant + x - 0.27, -0.22, slant + x + 0.27, 0.08))
        canvas.fill(pillow, Paint((canvas.mix(_SHEETS, 8),), 0.06, 0.14))


def _cover(canvas: Canvas, near: float, slant: float, foot: float, blanket: Paint) -> None:
    start = canvas.between(0.25, 0.6)
    left = -0.58 + slant + start * (0.58 - slant - near)
    right = 0.58 + slant + start * (near - 0.58 - slant)
    top = -0.05 + start * (foot + 0.05)
    canvas.fill(points((left, top), (right, top), (near, foot), (-near, foot)), blanket)


def _night_table(canvas: Canvas, x: float, wood: Paint) -> None:
    canvas.fill(box(x - 0.18, 0, x + 0.18, 0.35), wood)
    canvas.fill(box(x - 0.02, -0.25, x + 0.02, 0), _METAL)
    canvas.fill(
        points((x - 0.08, -0.48), (x + 0.08, -0.48), (x + 0.15, -0.2), (x - 0.15, -0.2)),
        Paint(((238, 214, 160),), 0.04),
    )


def church(canvas: Canvas) -> None:
    """A church with a nave and a tower, before the sky."""
    outdoors(canvas, horizon=(0.45, 0.8))
    canvas.pose(canvas.between(0.8, 1.05), canvas.between(0.75, 1.15), tilt=2, sway=0.12)
    stone, roof = Paint((canvas.mix(_STONES),), 0.14, 0.08), Paint((canvas.mix(_ROOFS),), 0.16)
    (_with_side_tower if canvas.chance(0.65) else _with_front_tower)(canvas, stone, roof)


def _with_side_tower(canvas: Canvas, stone: Paint, roof: Paint) -> None:
    eaves, ridge, end = canvas.between(0, 0.25), canvas.between(-0.35, -0.1), canvas.between(0.6, 0.95)
    canvas.fill(box(-0.3, eaves, end, 0.85), Paint(stone.colours, stone.grain, 0.1))
    canvas.fill(points((-0.3, ridge), (end - 0.1, ridge), (end + 0.05, eaves + 0.03), (-0.3, eaves + 0.03)), roof)
    for window in range(int(canvas.rng.integers(2, 4))):
        _arch(canvas, 0.08 + 0.27 * window, eaves + 0.15, 0.06, 0.3)
    _tower(canvas, -0.42, canvas.between(0.2, 0.28), stone, roof)
    _arch(canvas, -0.42, 0.55, 0.09, 0.32)


def _with_front_tower(canvas: Canvas, stone: Paint, roof: Paint) -> None:
    eaves, wide = canvas.between(0.05, 0.3), canvas.between(0.55, 0.75)
    canvas.fill(points((-wide - 0.06, eaves + 0.02), (0, eaves - 0.55), (wide + 0.06, eaves + 0.02)), roof)
    canvas.fill(points((-wide, eaves), (0, eaves - 0.48), (wide, eaves), (wide, 0.85), (-wide, 0.85)), stone)
    _tower(canvas, 0, canvas.between(0.2, 0.28), stone, roof)
    for x in (-0.45, 0.45):
        _arch(canvas, x, eaves + 0.15, 0.07, 0.32)
    _arch(canvas, 0, 0.5, 0.12, 0.38)


def _tower(canvas: Canvas, x: float, half: float, stone: Paint, roof: Paint) -> None:
    top = canvas.between(-0.5, -0.25)
    canvas.fill(
        box(x - half, top, x + half, 0.87), Paint((_shaded(stone, canvas.between(0.85, 1.1)),), stone.grain, 0.1)
    )
    tip = top - canvas.between(0.3, 0.6)
    canvas.fill(points((x - half - 0.05, top), (x, tip), (x + half + 0.05, top)), roof)
    canvas.fill(box(x - 0.02, tip - 0.2, x + 0.02, tip + 0.05), _METAL)
    canvas.fill(box(x - 0.08, tip - 0.14, x + 0.08, tip - 0.1), _METAL)
    _arch(canvas, x, top + 0.12, 0.07, 0.22)


def _arch(canvas: Canvas, x: float, top: float, half: float, height: float) -> None:
    canvas.fill(ellipse(x, top + half, half, 1.3 * half), Paint(((46, 44, 52),), 0.15))
    canvas.fill(box(x - half, top + half, x + half, top + height), Paint(((46, 44, 52),), 0.15))


def car(canvas: Canvas) -> None:
    """A car from its side or its front, on a road."""
    outdoors(canvas, horizon=(-0.35, 0.15), grounds=_ROADS)
    body = Paint((canvas.mix(_BODIES),), 0.08, 0.28)
    glass = Paint((canvas.mix(((60, 74, 90), (40, 46, 54), (130, 150, 166)), 8),), 0.1, 0.2)
    (_car_side if canvas.chance(0.7) else _car_front)(canvas, body, glass)


def _car_side(canvas: Canvas, body: Paint, glass: Paint) -> None:
    canvas.pose(canvas.between(0.72, 1.0), canvas.between(0.9, 1.3), tilt=4)
    roof, front, rear = canvas.between(-0.5, -0.36), canvas.between(0.15, 0.4), canvas.between(-0.85, -0.5)
    canvas.fill(ellipse(0, 0.4, 0.95, 0.08), Paint(((40, 40, 42),), 0.1))
    canvas.fill(points((rear, -0.02), (rear + 0.15, roof), (front - 0.05, roof), (front + 0.24, -0.02)), body)
    canvas.fill(
        points((rear + 0.1, -0.05), (rear + 0.2, roof + 0.07), (front - 0.08, roof + 0.07), (front + 0.14, -0.05)),
        glass,
    )
    pillar = (rear + front) / 2 + 0.05
    canvas.fill(box(pillar - 0.03, roof, pillar + 0.03, 0), body)
    bonnet = canvas.between(-0.04, 0.06)
    canvas.fill(
        rounded(points((-0.92, -0.06), (0.2, -0.06), (0.8, bonnet), (0.95, 0.12), (0.95, 0.34), (-0.94, 0.34)), 1), body
    )
    canvas.fill(box(-0.9, 0.28, 0.9, 0.35), Paint((_shaded(body, 0.5),)))
    canvas.fill(ellipse(0.87, 0.12, 0.07, 0.05), Paint(((240, 236, 210),), 0.02))
    canvas.fill(ellipse(-0.9, 0.06, 0.05, 0.06), Paint(((190, 40, 30),), 0.02))
    for x in (-0.55, 0.57):
        _wheel(canvas, x, 0.33, 0.19)


def _car_front(canvas: Canvas, body: Paint, glass: Paint) -> None:
    canvas.pose(canvas.between(0.75, 1.0), canvas.between(0.9, 1.25), tilt=4)
    roof, shoulder = canvas.between(-0.62, -0.45), canvas.between(0.42, 0.55)
    for x in (-0.54, 0.54):
        canvas.fill(rounded(box(x - 0.13, 0.2, x + 0.13, 0.62), 1), _RUBBER)
    canvas.fill(points((-shoulder, roof), (shoulder, roof), (0.66, -0.05), (-0.66, -0.05)), body)
    canvas.fill(
        points((-shoulder + 0.06, roof + 0.08), (shoulder - 0.06, roof + 0.08), (0.56, -0.08), (-0.56, -0.08)), glass
    )
    canvas.fill(
        rounded(points((-0.68, -0.1), (0.68, -0.1), (0.76, 0.12), (0.72, 0.48), (-0.72, 0.48), (-0.76, 0.12)), 1), body
    )
    canvas.fill(box(-0.32, 0.14, 0.32, 0.28), _RUBBER)
    canvas.fill(box(-0.17, 0.32, 0.17, 0.41), Paint(((226, 226, 220),), 0.03))
    for x in (-0.52, 0.52):
        canvas.fill(ellipse(x, 0.17, 0.13, 0.08), Paint(((244, 240, 220),), 0.03))


def _wheel(canvas: Canvas, x: float, y: float, radius: float) -> None:
    canvas.fill(ellipse(x, y, radius, radius), _RUBBER)
    canvas.fill(ellipse(x, y, 0.52 * radius, 0.52 * radius), _METAL)


def vehicle(canvas: Canvas) -> None:
    """A tank or a military truck in camouflage, in the open country."""
    outdoors(canvas, horizon=(-0.4, 0.2), grounds=_LANDS)
    canvas.pose(canvas.between(0.72, 0.98), canvas.between(0.9, 1.25), tilt=4)
    colours = _CAMOUFLAGES[int(canvas.rng.integers(len(_CAMOUFLAGES)))]
    skin = Paint(tuple(canvas.mix((colour,), 5) for colour in colours), 0.12, 0.2)
    (_tank if canvas.chance(0.55) else _truck)(canvas, skin)


def _tank(canvas: Canvas, skin: Paint) -> None:
    top = canvas.between(-0.42, -0.3)
    muzzle = canvas.between(0.85, 1.1), canvas.between(-0.42, -0.14)
    canvas.fill(limb((0.2, -0.18), muzzle, 0.05, 0.04), Paint((_shaded(skin, 0.7),), 0.1))
    canvas.fill(points((-0.4, -0.06), (-0.32, top), (0.2, top), (0.4, -0.06)), skin)
    canvas.fill(box(-0.15, top - 0.08, 0.05, top), skin)
    canvas.fill(points((-0.86, -0.06), (0.72, -0.06), (0.95, 0.14), (0.9, 0.24), (-0.9, 0.24)), skin)
    canvas.fill(_track(canvas.between(0.48, 0.56)), _RUBBER)
    wheels = int(canvas.rng.integers(5, 8))
    for wheel in range(wheels):
        _road_wheel(canvas, -0.64 + 1.28 * wheel / (wheels - 1), 0.36, 0.62 / wheels, skin)


def _track(bottom: float) -> Points:
    return rounded(points((-0.96, 0.18), (0.96, 0.18), (0.9, 0.36), (0.66, bottom), (-0.66, bottom), (-0.9, 0.36)), 1)


def _road_wheel(canvas: Canvas, x: float, y: float, radius: float, skin: Paint) -> None:
    canvas.fill(ellipse(x, y, radius, radius), Paint((_shaded(skin, 1.1),), 0.1))
    canvas.fill(ellipse(x, y, 0.35 * radius, 0.35 * radius), _RUBBER)


def _truck(canvas: Canvas, skin: Paint) -> None:
    roof, cab = canvas.between(-0.6, -0.42), canvas.between(-0.42, -0.28)
    canvas.fill(box(-0.92, 0.2, 0.9, 0.32), _RUBBER)
    cover = skin if canvas.chance(0.5) else Paint((canvas.mix(skin.colours[:1], 6),), 0.16, 0.25)
    canvas.fill(
        points((-0.96, 0.22), (-0.96, roof + 0.08), (-0.88, roof), (0.2, roof), (0.28, roof + 0.08), (0.28, 0.22)),
        cover,
    )
    canvas.fill(points((0.32, cab), (0.66, cab), (0.76, -0.1), (0.95, -0.04), (0.95, 0.26), (0.32, 0.26)), skin)
    canvas.fill(
        points((0.4, cab + 0.05), (0.62, cab + 0.05), (0.72, -0.08), (0.4, -0.08)), Paint(((150, 166, 176),), 0.1, 0.2)
    )
    for x in (-0.72, -0.32, 0.66):
        _wheel(canvas, x, 0.36, 0.18)
        _road_wheel(canvas, x, 0.36, 0.09, skin)


def _shaded(paint: Paint, factor: float) -> Colour:
    red, green, blue = paint.colours[0]
    return red * factor, green * factor, blue * factor
