"""The room around the subject: a textured box, drawn once per recording."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import random_stream

_TILE: Final = 384
"""Side of one surface's texture (pixels); the six are side by side: walls -x +x, floor, ceiling, walls -z +z."""

_FLOOR, _CEILING = 2, 3

Image = NDArray[np.floating[Any]]

_WALLS: Final = (
    (205, 212, 215), (190, 180, 160), (150, 175, 190), (165, 190, 160), (200, 175, 190), (120, 150, 190),
    (170, 150, 130), (225, 225, 225),
)  # fmt: skip
_WOODS: Final = ((70, 110, 160), (95, 140, 185), (60, 84, 118), (120, 160, 190))
_STONES: Final = ((150, 150, 150), (175, 185, 190), (120, 130, 140), (150, 140, 120))


@dataclass(frozen=True)
class Room:
    """A box with its textures."""

    low: NDArray[np.float64]
    """(3,), lowest corner (cm)."""
    high: NDArray[np.float64]
    """(3,), highest corner (cm)."""
    atlas: NDArray[np.uint8]
    """(384, 6 x 384, 3), blue green red, lighting included."""


def draw_room(subject: str, environment: int, seed: int) -> Room:
    """Draw the room of a recording."""
    random = random_stream(seed, subject, environment, "room")
    half = random.uniform(210, 300, 2)
    low = np.array([-half[0], 0.0, -half[1]])
    high = np.array([half[0], random.uniform(245, 300), half[1]])
    return Room(low, high, _draw_atlas(high - low, random))


def room_view(
    room: Room,
    shadows: NDArray[np.float64],
    rays: NDArray[np.float32],
    camera_to_world: NDArray[np.float64],
    eye: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Render the room from inside.

    Args:
        room: the room.
        shadows: (F, 3), x, z and radius of dark spots on the floor (cm).
        rays: (h, w, 3), unit vectors, camera frame.
        camera_to_world: (3, 3), rotation.
        eye: (3,), position of the camera (world cm).

    Returns:
        Colors (h, w, 3), distances along the rays (h, w) in cm, and numbers of the surfaces (h, w).
    """
    directions = cv2.split(cv2.transform(rays, camera_to_world.astype(np.float32)))
    positive = [direction > 0 for direction in directions]
    with np.errstate(divide="ignore"):
        walls = [
            np.where(side, np.float32(high), np.float32(-low)) / abs(direction)
            for side, direction, high, low in zip(positive, directions, room.high - eye, room.low - eye, strict=True)
        ]
    distance = np.minimum(np.minimum(walls[0], walls[1]), walls[2])
    on_x, on_y = walls[0] == distance, walls[1] == distance
    axis = np.where(on_x, np.uint8(0), np.where(on_y, np.uint8(2), np.uint8(4)))
    surface = axis + np.where(on_x, positive[0], np.where(on_y, positive[1], positive[2]))
    scale = (_TILE - 3) / (room.high - room.low)
    across = [
        direction * distance * np.float32(factor) + np.float32(position * factor + 1)
        for direction, factor, position in zip(directions, scale, eye - room.low, strict=True)
    ]
    u = np.where(on_x, across[2], across[0]) + surface * np.float32(_TILE)
    v = np.where(on_y, across[2], across[1])
    color = cv2.remap(_shadowed(room, shadows), u, v, cv2.INTER_LINEAR)
    return np.asarray(color, np.uint8), distance, surface


def _shadowed(room: Room, shadows: NDArray[np.float64]) -> NDArray[np.uint8]:
    atlas = room.atlas.copy()
    scale = (_TILE - 3) / (room.high - room.low)[[0, 2]]
    for x, z, radius in shadows:
        center = (np.array([x, z]) - room.low[[0, 2]]) * scale + 1
        low, high = np.clip([center - 2.5 * radius * scale, center + 2.5 * radius * scale], 0, _TILE).astype(int)
        across, along = np.arange(low[0], high[0]), np.arange(low[1], high[1])
        near = ((across - center[0]) / scale[0]) ** 2 + (((along - center[1]) / scale[1]) ** 2)[:, None]
        patch = atlas[low[1] : high[1], _FLOOR * _TILE + low[0] : _FLOOR * _TILE + high[0]]
        patch[...] = patch * (1 - 0.5 * np.exp(-near / (2 * (radius / 1.5) ** 2)))[..., None]
    return atlas


def _draw_atlas(size: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the six surfaces of a room of ``size`` (3,) cm: (384, 6 x 384, 3), blue green red."""
    paint = np.array(_WALLS[random.integers(len(_WALLS))]) + random.uniform(-12, 12, 3)
    faces = [_wall(paint, random) for _ in range(6)]
    faces[_FLOOR] = _floor(size, random)
    faces[_CEILING] = _ceiling(random)
    # with fewer levels the images compress better and look the same
    atlas = np.round(np.clip(np.concatenate(faces, axis=1), 20, 250) / 3) * 3
    return np.asarray(atlas, np.uint8)


def _canvas(color: NDArray[np.float64]) -> Image:
    return np.full((_TILE, _TILE, 3), color, np.float32)


def _grain(random: np.random.Generator, cells: tuple[int, int], strength: float) -> Image:
    """Return smooth noise (_TILE, _TILE, 1) around 1."""
    coarse = random.normal(1.0, strength, cells).astype(np.float32)
    fine = cv2.resize(coarse, (_TILE, _TILE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)[..., None]


def _glow(strength: float) -> Image:
    """Return brightness (_TILE, _TILE, 1) that decreases from the middle."""
    y, x = np.mgrid[-1 : 1 : _TILE * 1j, -1 : 1 : _TILE * 1j]
    return np.asarray(1.08 - strength * (x * x + y * y), np.float32)[..., None]


def _rectangle(image: Image, box: tuple[float, float, float, float], color: tuple[float, ...]) -> None:
    left, top, right, bottom = (round(_TILE * part) for part in box)
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
    rise = np.linspace(0.72, 1.05, _TILE, dtype=np.float32)[:, None, None]
    return np.asarray(image * rise * _glow(0.1))


def _floor(size: NDArray[np.float64], random: np.random.Generator) -> Image:
    """Paint planks, tiles or a carpet, and perhaps a rug."""
    covering = random.integers(3)
    if covering == 0:
        image = _canvas(np.array(_WOODS[random.integers(len(_WOODS))]))
        edges = np.linspace(0, _TILE, int(size[2] / 16), dtype=int)
        for top, bottom in pairwise(edges):
            image[top:bottom] *= random.uniform(0.86, 1.1)
            seam = random.integers(_TILE)
            image[top:bottom, seam : seam + 2] *= 0.75
            image[top] *= 0.72
        image *= _grain(random, (90, 8), 0.03)
    elif covering == 1:
        light = np.array(_STONES[random.integers(len(_STONES))])
        image = _canvas(light)
        columns, rows = (np.arange(_TILE) * size[axis] / _TILE // 45 for axis in (0, 2))
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
    center = (_TILE // 2 + int(random.integers(-30, 30)), _TILE // 2 + int(random.integers(-30, 30)))
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
