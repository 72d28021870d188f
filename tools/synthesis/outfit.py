"""How a subject is dressed: a texture for each material of the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import random_stream
from tools.synthesis.surfaces import Color, Image, Random, noise, tint

SKIN, CHIN, LIPS, HAIR, SHIRT, CAP, SLEEVE, TROUSERS, SHIN, SHOES = range(10)
"""Materials: a chin may have a beard, a cap is the part of a sleeve that every shirt has; sleeve and shin are clothed
or bare."""

SIDE: Final = 256
"""Side of a material's texture (pixels); it repeats."""
PIXELS_PER_CM: Final = 3.0
"""Of the textures."""

_SKINS: Final = (
    (198, 222, 250),
    (160, 192, 236),
    (130, 165, 228),
    (124, 160, 214),
    (90, 126, 180),
    (62, 88, 138),
    (44, 62, 98),
)
_CLOTHS: Final = (
    (60, 60, 205), (190, 90, 30), (70, 160, 60), (40, 190, 235), (205, 210, 210), (150, 60, 120), (160, 150, 30),
    (40, 110, 230), (110, 40, 60), (230, 190, 120), (60, 55, 50), (140, 120, 240), (90, 150, 175), (45, 75, 60),
    (48, 58, 60), (110, 110, 110), (30, 28, 28), (120, 70, 40), (80, 50, 35), (130, 145, 150),
)  # fmt: skip
_HAIRS: Final = ((30, 34, 40), (40, 66, 110), (90, 150, 190), (60, 60, 62))


@dataclass(frozen=True)
class Outfit:
    """What a subject wears in a recording."""

    tiles: NDArray[np.uint8]
    """(M, SIDE, SIDE, 4), a texture per material, blue green red and an unused byte."""
    thickness: NDArray[np.float64]
    """(M,), by how much thicker clothes make the body."""


def draw_outfit(subject: str, environment: int, seed: int) -> Outfit:
    """Draw the clothes of a recording; the skin is the subject's."""
    own = random_stream(seed, subject, "skin")
    skin = np.array(_SKINS[own.integers(len(_SKINS))]) * own.uniform(0.85, 1.05) + own.uniform(-8, 8, 3)
    hair = np.array(_HAIRS[own.integers(len(_HAIRS))]) * own.uniform(0.7, 1.3)
    beard = own.choice([0.0, 0.15, 0.6]) if subject.startswith("male") else 0.0
    random = random_stream(seed, subject, environment, "outfit")
    jacket, shorts = random.random() < 0.75, random.random() < 0.25
    shirt = _cloth(random)
    trousers = _cloth(random, plain=True)
    bare = _flesh(skin, own)
    tiles = {
        SKIN: bare,
        CHIN: _flesh(skin * (1 - beard) + hair * beard, own),
        LIPS: _flesh(skin * [0.82, 0.78, 0.95], own),
        HAIR: hair * (1 + 0.3 * noise(own, SIDE, 8, 128)[..., None]),
        SHIRT: _front(shirt, skin, random),
        CAP: shirt,
        SLEEVE: shirt if jacket or random.random() < 0.3 else bare,
        TROUSERS: trousers,
        SHIN: bare if shorts else trousers,
        SHOES: _shoe(random),
    }
    thickness = np.ones(len(tiles))
    thickness[[SHIRT, CAP, SLEEVE]] = random.uniform(1.0, 1.15)
    if jacket:
        thickness[SHIRT], thickness[[CAP, SLEEVE]] = random.uniform(1.02, 1.2), random.uniform(1.1, 1.5)
    thickness[[TROUSERS, SHIN]] = random.uniform(0.95, 1.2), 1.0 if shorts else random.uniform(1.0, 1.35)
    stack = np.zeros((len(tiles), SIDE, SIDE, 4), np.uint8)
    for material, tile in tiles.items():
        stack[material, ..., :3] = np.clip(tile, 0, 255)
    return Outfit(stack, thickness)


def _flesh(color: NDArray[np.float64], random: Random) -> Image:
    mottled = color * (1 + 0.05 * noise(random, SIDE, 16, 128)[..., None])
    return np.asarray(mottled + noise(random, SIDE, 8, 32)[..., None] * np.array([-4.0, -3.0, 5.0]), np.float32)


def _folds(random: Random) -> Image:
    """Return the brightness (SIDE, SIDE, 1) of wrinkled cloth and its weave."""
    wrinkles = noise(random, SIDE, 4, 32, 0.6)
    stretched = cv2.resize(wrinkles[: SIDE // random.integers(1, 5)], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    ridges = np.abs(stretched) - 0.8
    weave = noise(random, SIDE, 64, 256)
    return np.asarray(1 + random.uniform(0.02, 0.14) * ridges + random.uniform(0.0, 0.06) * weave, np.float32)[
        ..., None
    ]


def _cloth(random: Random, plain: bool = False) -> Image:
    """Return a cloth (SIDE, SIDE, 3): plain, striped, checked, dotted, or camouflaged."""
    first, second = (np.array(_CLOTHS[number]) for number in random.integers(0, len(_CLOTHS), 2))
    first = first * random.uniform(0.5, 1.15) + random.uniform(-12, 12, 3)
    pale = random.uniform(0, 1, 2)
    first = first * (1 - pale[0]) + first.mean() * pale[0]
    second = second * (1 - pale[1]) + second.mean() * pale[1]
    y, x = np.mgrid[:SIDE, :SIDE]
    period = SIDE / random.integers(6, 40)
    width = random.uniform(0.15, 0.6)
    bands_x, bands_y = ((axis / period) % 1 < width for axis in (x, y))
    kind = 0 if plain and random.random() < 0.75 else random.integers(10)
    pattern = {
        1: bands_x.astype(float),
        2: bands_y.astype(float),
        3: (bands_x.astype(float) + bands_y) / 2,
        4: (np.hypot((x / period) % 1 - 0.5, (y / period) % 1 - 0.5) < width / 2).astype(float),
        5: (noise(random, SIDE, 6, 24) > 0.4).astype(float),
    }.get(int(kind), np.zeros((SIDE, SIDE)))
    share = pattern[..., None] * random.uniform(0.3, 1.0)
    return np.asarray((first * (1 - share) + second * share) * _folds(random), np.float32)


def _place(x: float, height: float) -> tuple[int, int]:
    """Return the pixel of a point of the shirt's front (cm): to the left, and upward from the chest's joint."""
    return round(SIDE / 2 + PIXELS_PER_CM * x), round(SIDE / 2 - PIXELS_PER_CM * height)


def _fill(image: Image, corners: Sequence[tuple[float, float]], color: Color) -> NDArray[np.intp]:
    """Fill a polygon on the shirt's front, its corners in cm, and return them in pixels."""
    points = np.array([_place(x, height) for x, height in corners])
    cv2.fillPoly(image, [points], color)
    return points


def _front(cloth: Image, skin: NDArray[np.float64], random: Random) -> Image:
    """Return a shirt's front: perhaps with a neckline, a zip, buttons or a tie, a print, a collar."""
    image, top = cloth.copy(), random.uniform(16, 21)
    if random.random() < 0.35:
        _fill(image, ((-6, 30), (6, 30), (0, random.uniform(8, top))), tuple(skin.tolist()))
    _opening(image, top, random)
    if random.random() < 0.3:
        for _ in range(random.integers(1, 5)):
            center, axes = _place(random.uniform(-8, 8), random.uniform(-15, 8)), random.integers(3, 24, 2).tolist()
            cv2.ellipse(image, center, axes, random.uniform(0, 180), 0, 360, tint(random, 0, 255), -1)
    if random.random() < 0.5:
        _collar(image, top, random)
    share = np.float32(random.uniform(0.4, 1.0))
    return np.asarray(image * (1 + share * (_folds(random) - 1)), np.float32)


def _opening(image: Image, top: float, random: Random) -> None:
    """Draw a zip, buttons, a tie, or an open jacket over something else."""
    kind, color = random.integers(5), tint(random, 20, 230)
    if kind == 1:
        cv2.line(image, _place(0, top), _place(0, -50), color, int(random.integers(2, 6)))
    elif kind == 2:
        cv2.line(image, _place(-1, top), _place(-1, -50), tuple(0.6 * part for part in _mean(image)), 1)
        for height in np.arange(-45, top, random.uniform(5, 9)):
            cv2.circle(image, _place(0, height), 2, color, -1)
    elif kind == 3:
        _fill(image, ((-2, top), (2, top), (4, -20), (0, -25), (-4, -20)), color)
    elif kind == 4:
        _fill(image, ((-4, top), (4, top), (7, -50), (-7, -50)), color)


def _collar(image: Image, top: float, random: Random) -> None:
    length, width = random.uniform(1, 8), random.uniform(8, 13)
    color = tint(random, 60, 190) if random.random() < 0.6 else tuple(0.8 * part for part in _mean(image))
    for side in (-1, 1):
        corners = ((1, top), (3, 32), (width, 32), (width - 2, top), (6, top - length))
        points = _fill(image, [(side * x, height) for x, height in corners], color)
        cv2.polylines(image, [points], True, tuple(0.6 * part for part in color), 1)


def _mean(image: Image) -> Color:
    return tuple(image.mean(axis=(0, 1)).tolist())


def _shoe(random: Random) -> Image:
    image = np.full((SIDE, SIDE, 3), tint(random, 10, 250), np.float32)
    stripe = tint(random, 10, 250)
    for row in range(0, SIDE, 24):
        image[row : row + int(random.integers(2, 10))] = stripe
    sole = (230, 235, 235) if random.random() < 0.6 else (30, 30, 30)
    image[:, : SIDE // 2 - 10], image[:, SIDE // 2 + 10 :] = sole, sole
    return image * _folds(random)
