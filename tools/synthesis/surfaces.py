"""The surfaces of a place: floors, walls and ceilings as square textures, and the noise that all textures use."""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.floating[Any]]
Random = np.random.Generator
Color = tuple[float, ...]

TILE: Final = 512
"""Side of a surface's texture (pixels)."""

_EARTHS: Final = (
    (70, 110, 160), (95, 140, 185), (60, 84, 118), (120, 160, 190), (150, 150, 150), (175, 185, 190), (120, 130, 140),
    (150, 140, 120), (150, 170, 195), (95, 105, 110), (70, 95, 85), (60, 70, 150), (200, 205, 210), (55, 60, 62),
)  # fmt: skip
"""Colors of wood, stone, concrete, brick and carpet; all colors are blue green red."""
_GREENS: Final = ((40, 95, 70), (50, 120, 100), (35, 70, 55), (60, 140, 130), (60, 110, 120))


def noise(random: Random, side: int, coarsest: int, finest: int, gain: float = 0.7) -> Image:
    """Return noise (side, side) of mean 0 and deviation 1, its details from side / coarsest to side / finest pixels.

    Each octave is ``gain`` times as strong as the one before.
    """
    total, weight, cells = np.zeros((side, side), np.float32), 1.0, coarsest
    while cells <= finest:
        octave = random.standard_normal((cells, cells), np.float32)
        total += np.float32(weight) * cv2.resize(octave, (side, side), interpolation=cv2.INTER_LINEAR)
        weight, cells = weight * gain, cells * 2
    return np.asarray(total / total.std())


def tint(random: Random, low: float, high: float) -> Color:
    """Return a random color, blue green red, most of them pale."""
    color, gray = random.uniform(low, high, 3), random.uniform(low, high)
    share = random.uniform(0, 1) ** 2
    return tuple((gray * (1 - share) + color * share).tolist())


def bricks(random: Random, size: NDArray[np.float64], cell: tuple[float, float], offset: float) -> tuple[Any, Any]:
    """Divide a texture of ``size`` (2,) cm into cells, each row shifted by ``offset`` cells from the one before.

    Returns:
        A random number of deviation 1 for each pixel's cell (TILE, TILE), and where the seams are (TILE, TILE).
    """
    across, along = (np.arange(TILE, dtype=np.float32) * np.float32(side / TILE) for side in size)
    row = (along // cell[1]).astype(int)
    shift = np.arange(row[-1] + 1) * offset if offset < 1 else random.uniform(0, 1, row[-1] + 1)
    place = across / cell[0] + shift[row][:, None]
    column = place.astype(int)
    seam = np.zeros((TILE, TILE), bool)
    seam[:, 1:] = column[:, 1:] != column[:, :-1]
    seam[1:] |= (row[1:] != row[:-1])[:, None]
    values = random.standard_normal((row[-1] + 1, int(column.max()) + 1))
    return values[row[:, None], column], seam


def draw_floor(random: Random, size: NDArray[np.float64]) -> Image:
    """Paint a floor (TILE, TILE, 3) of ``size`` (2,) cm: planks, tiles, paving, carpet, concrete, grass, gravel."""
    kind = random.integers(6)
    colors = _GREENS if kind == 5 else _EARTHS
    color: NDArray[np.float64] = np.array(colors[random.integers(len(colors))], np.float64)
    pale = random.uniform(0.0, 1.0) if random.random() < 0.15 else random.uniform(0.4, 1.0)
    color = (color * (1 - pale) + color.mean() * pale) * random.uniform(0.75, 1.3) + random.uniform(-15, 15, 3)
    strength = {4: random.uniform(0.04, 0.2), 5: random.uniform(0.15, 0.35)}.get(int(kind), random.uniform(0.02, 0.1))
    gray = 1 + strength * noise(random, TILE, 4, 256, random.uniform(0.6, 1.0))
    if kind < 4:
        side = random.uniform(20, 70)
        cell, offset = (
            ((random.uniform(80, 160), random.uniform(9, 20)), 1.0),
            ((side, side), 0.0),
            ((side, side), 0.0),
            ((side, side / 2), 0.5),
        )[kind]
        values, seam = bricks(random, size, cell, offset)
        gray *= 1 + random.uniform(0.01, 0.12) * values
        gray[seam] *= random.uniform(0.45, 0.85) if random.random() < 0.8 else 1.3
    image = color.astype(np.float32) * gray[..., None]
    image += random.normal(0, 2, 3).astype(np.float32) * noise(random, TILE, 3, 48)[..., None]
    if random.random() < 0.3:
        _rug(image, random)
    _sunshine(image, random)
    return image


def _rug(image: Image, random: Random) -> None:
    center = tuple(int(part) for part in TILE // 2 + random.integers(-60, 60, 2))
    sides, angle = random.uniform(100, 240, 2), random.uniform(0, 180)
    for ring in (1.0, 0.9, 0.62, 0.54):
        box = cv2.boxPoints((center, tuple((sides * ring).tolist()), angle)).astype(int)
        cv2.fillPoly(image, [box], tint(random, 40, 210))


def _sunshine(image: Image, random: Random) -> None:
    """Brighten spots of the floor: windows that it reflects, and the sun."""
    glare = np.zeros((TILE, TILE), np.float32)
    for _ in range(random.integers(0, 7)):
        center, axes = random.integers(0, TILE, 2).tolist(), random.integers(8, 90, 2).tolist()
        if random.random() < 0.5:
            cv2.ellipse(glare, center, axes, random.uniform(0, 180), 0, 360, random.uniform(0.2, 1.2), -1)
        else:
            box = cv2.boxPoints((center, axes, random.uniform(0, 180))).astype(int)
            cv2.fillPoly(glare, [box], random.uniform(0.2, 1.2))
    # the blur of a quarter of the size is enough for what is soft
    small = cv2.resize(glare, (TILE // 4, TILE // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), random.uniform(0.5, 8))
    spots = cv2.resize(small, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j].astype(np.float32)
    slope = random.uniform(-0.35, 0.35, 2)
    rim = random.uniform(-0.25, 0.7)
    image *= (1 + slope[0] * x + slope[1] * y + rim * (x * x + y * y)).clip(0.3)[..., None]
    image += spots[..., None] * np.array(tint(random, 70, 190), np.float32)


def draw_wall(random: Random, size: NDArray[np.float64], outdoors: bool) -> Image:
    """Paint a wall (TILE, TILE, 3) of ``size`` (2,) cm, its rows going up from the floor."""
    paint = np.array(tint(random, 60, 225)) * random.uniform(0.6, 1.1)
    paint = 0.4 * paint + 0.6 * paint.mean()
    if outdoors and random.random() < 0.6:
        paint = np.array(_GREENS[random.integers(len(_GREENS))]) * random.uniform(0.6, 1.2)
        gray = 1 + random.uniform(0.3, 0.6) * noise(random, TILE, 8, 256, 0.9)
    else:
        gray = 1 + random.uniform(0.02, 0.1) * noise(random, TILE, 4, 128)
        if random.random() < 0.3:
            values, seam = bricks(random, size, (random.uniform(15, 60), random.uniform(7, 40)), 0.5)
            gray *= 1 + 0.1 * values
            gray[seam] *= random.uniform(0.6, 1.2)
    image = paint.astype(np.float32) * gray[..., None].clip(0.1)
    for draw, share in ((_window, 0.4), (_door, 0.3), (_shelf, 0.15), (_clutter, 0.5), (_clutter, 0.3)):
        if random.random() < (0.5 * share if outdoors else share):
            draw(image, random)
    if not outdoors:
        _rectangle(image, (0.0, 0.0, 1.0, 0.035), tint(random, 40, 225))
    rise = np.linspace(random.uniform(0.5, 1.0), 1.05, TILE, dtype=np.float32)[:, None, None]
    return np.asarray(image * rise * np.float32(random.uniform(0.6, 1.15)))


def _rectangle(image: Image, box: tuple[float, float, float, float], color: Color) -> None:
    left, top, right, bottom = (round(TILE * part) for part in box)
    cv2.rectangle(image, (left, top), (right, bottom), color, -1)


def _window(image: Image, random: Random) -> None:
    left, glass = random.uniform(0.1, 0.6), tint(random, 170, 300)
    _rectangle(image, (left, 0.38, left + 0.3, 0.82), tint(random, 60, 245))
    _rectangle(image, (left + 0.015, 0.4, left + 0.142, 0.8), glass)
    _rectangle(image, (left + 0.158, 0.4, left + 0.285, 0.8), glass)


def _door(image: Image, random: Random) -> None:
    left, color = random.uniform(0.05, 0.7), tint(random, 40, 200)
    _rectangle(image, (left, 0.0, left + 0.2, 0.76), tuple(0.8 * part for part in color))
    _rectangle(image, (left + 0.015, 0.0, left + 0.185, 0.745), color)


def _shelf(image: Image, random: Random) -> None:
    start = random.uniform(0.0, 0.3)
    _rectangle(image, (start, 0.0, start + 0.6, 0.5), tint(random, 40, 120))
    for row in np.arange(0.03, 0.45, 0.16):
        for left in np.arange(start + 0.02, start + 0.57, 0.045):
            _rectangle(image, (left, row, left + 0.035, row + random.uniform(0.08, 0.13)), tint(random, 30, 220))


def _clutter(image: Image, random: Random) -> None:
    """Draw what stands at the wall: boxes, pillars, chairs' legs, plants, all of them plain shapes."""
    for _ in range(random.integers(2, 10)):
        color, left = tint(random, 10, 240), random.uniform(0, 0.95)
        width, height = random.uniform(0.01, 0.15), random.uniform(0.05, 0.6)
        if random.random() < 0.25:
            center, axes = (
                (round(TILE * left), round(TILE * height / 2)),
                (round(TILE * width), round(TILE * height / 2)),
            )
            cv2.ellipse(image, center, axes, 0, 0, 360, color, -1)
        else:
            _rectangle(image, (left, 0.0, left + width, height), color)


def draw_ceiling(random: Random, outdoors: bool) -> Image:
    """Paint a ceiling with lamps, or the sky (TILE, TILE, 3)."""
    image = np.full((TILE, TILE, 3), tint(random, 120, 235), np.float32)
    if outdoors:
        image = np.array((250, 225, 200), np.float32) * (1 + 0.08 * noise(random, TILE, 3, 24))[..., None]
    for left, top in random.uniform(0.1, 0.8, (0 if outdoors else 3, 2)):
        _rectangle(image, (left, top, left + 0.12, top + 0.12), (255, 255, 255))
    return image
