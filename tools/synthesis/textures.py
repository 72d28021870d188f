"""Draws the textures of a room's surfaces, lighting included."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

TILE: Final = 384
"""Side of one surface's texture (pixels); the six are side by side: walls -x +x, floor, ceiling, walls -z +z."""

FLOOR, CEILING = 2, 3

Image = NDArray[np.floating[Any]]


def draw_atlas(size: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the six surfaces of a room of ``size`` (3,) cm: (TILE, 6 TILE, 3), blue green red."""
    paint = np.array(_WALLS[random.integers(len(_WALLS))]) + random.uniform(-12, 12, 3)
    faces = [_wall(paint, random) for _ in range(6)]
    faces[FLOOR] = _floor(size, random)
    faces[CEILING] = _ceiling(random)
    # with fewer levels the images compress better and look the same
    atlas = np.round(np.clip(np.concatenate(faces, axis=1), 20, 250) / 3) * 3
    return np.asarray(atlas, np.uint8)


_WALLS: Final = (
    (205, 212, 215), (190, 180, 160), (150, 175, 190), (165, 190, 160), (200, 175, 190), (120, 150, 190),
    (170, 150, 130), (225, 225, 225),
)  # fmt: skip
_WOODS: Final = ((70, 110, 160), (95, 140, 185), (60, 84, 118), (120, 160, 190))
_STONES: Final = ((150, 150, 150), (175, 185, 190), (120, 130, 140), (150, 140, 120))


def _canvas(color: NDArray[np.float64]) -> Image:
    return np.full((TILE, TILE, 3), color, np.float32)


def _grain(random: np.random.Generator, cells: tuple[int, int], strength: float) -> Image:
    """Return smooth noise (TILE, TILE, 1) around 1."""
    coarse = random.normal(1.0, strength, cells).astype(np.float32)
    fine = cv2.resize(coarse, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)[..., None]


def _glow(strength: float) -> Image:
    """Return brightness (TILE, TILE, 1) that decreases from the middle."""
    y, x = np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j]
    return np.asarray(1.08 - strength * (x * x + y * y), np.float32)[..., None]


def _rectangle(image: Image, box: tuple[float, float, float, float], color: tuple[float, ...]) -> None:
    left, top, right, bottom = (round(TILE * part) for part in box)
    cv2.rectangle(image, (left, top), (right, bottom), color, -1)


def _tint(random: np.random.Generator, low: int, high: int) -> tuple[float, ...]:
    return tuple(random.uniform(low, high, 3).tolist())


def _wall(paint: NDArray[np.float64], random: np.random.Generator) -> Image:
    """Paint a wall: rows go up from the floor."""
    image = _canvas(paint) * _grain(random, (6, 6), 0.02)
    feature = random.integers(4)
    if feature == 0:  # window
        left = random.uniform(0.2, 0.5)
        _rectangle(image, (left, 0.38, left + 0.3, 0.82), (245, 245, 245))
        _rectangle(image, (left + 0.015, 0.4, left + 0.142, 0.8), (235, 215, 170))
        _rectangle(image, (left + 0.158, 0.4, left + 0.285, 0.8), (235, 215, 170))
    elif feature == 1:  # door
        left = random.uniform(0.15, 0.6)
        _rectangle(image, (left, 0.0, left + 0.2, 0.76), (90, 120, 150))
        _rectangle(image, (left + 0.015, 0.0, left + 0.185, 0.745), (110, 145, 180))
    elif feature == 2:  # framed images
        for left in np.arange(0.12, 0.8, 0.26):
            _rectangle(image, (left, 0.5, left + 0.16, 0.72), (50, 50, 50))
            _rectangle(image, (left + 0.012, 0.515, left + 0.148, 0.705), _tint(random, 60, 220))
    else:  # shelf
        _rectangle(image, (0.15, 0.0, 0.75, 0.5), (60, 80, 105))
        for row in np.arange(0.03, 0.45, 0.16):
            for left in np.arange(0.17, 0.72, 0.045):
                top = row + random.uniform(0.08, 0.13)
                _rectangle(image, (left, row, left + 0.035, top), _tint(random, 50, 210))
    _rectangle(image, (0.0, 0.0, 1.0, 0.035), (215, 220, 225))
    rise = np.linspace(0.72, 1.05, TILE, dtype=np.float32)[:, None, None]
    return np.asarray(image * rise * _glow(0.1))


def _floor(size: NDArray[np.float64], random: np.random.Generator) -> Image:
    """Paint planks, tiles or a carpet, and perhaps a rug."""
    covering = random.integers(3)
    if covering == 0:
        image = _canvas(np.array(_WOODS[random.integers(len(_WOODS))]))
        edges = np.linspace(0, TILE, int(size[2] / 16), dtype=int)
        for top, bottom in pairwise(edges):
            image[top:bottom] *= random.uniform(0.86, 1.1)
            seam = random.integers(TILE)
            image[top:bottom, seam : seam + 2] *= 0.75
            image[top] *= 0.72
        image *= _grain(random, (90, 8), 0.03)
    elif covering == 1:
        light = np.array(_STONES[random.integers(len(_STONES))])
        image = _canvas(light)
        columns, rows = (np.arange(TILE) * size[axis] / TILE // 45 for axis in (0, 2))
        image[((rows[:, None] + columns) % 2) == 1] *= random.uniform(0.72, 0.92)
        for axis, cells in enumerate((rows, columns)):
            seams = np.flatnonzero(np.diff(cells))
            np.moveaxis(image, axis, 0)[seams] *= 0.75
    else:
        image = _canvas(random.uniform(90, 180, 3)) * _grain(random, (48, 48), 0.05)
    if random.random() < 0.5:
        _rug(image, random)
    return image * _glow(0.22)


def _rug(image: Image, random: np.random.Generator) -> None:
    center = (TILE // 2 + int(random.integers(-30, 30)), TILE // 2 + int(random.integers(-30, 30)))
    radius = int(random.integers(70, 120))
    rings = [_tint(random, 80, 200) for _ in range(2)]
    for ring, scale in enumerate((1.0, 0.9, 0.62, 0.54)):
        side = round(radius * scale)
        if radius % 2:
            cv2.circle(image, center, side, rings[ring % 2], -1, cv2.LINE_AA)
        else:
            corner = (center[0] - side, center[1] - side * 2 // 3)
            cv2.rectangle(image, corner, (center[0] + side, center[1] + side * 2 // 3), rings[ring % 2], -1)


def _ceiling(random: np.random.Generator) -> Image:
    image = _canvas(np.full(3, random.uniform(200, 235)))
    _rectangle(image, (0.4, 0.4, 0.6, 0.6), (250, 250, 250))
    return image * _glow(0.15)
