"""The place around the subject: a textured box and its light, drawn once per recording."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import random_stream
from tools.synthesis.surfaces import TILE, draw_ceiling, draw_floor, draw_wall

FLOOR, _CEILING = 2, 3
_BITS: Final = 4
"""Fractional bits of the shadows' coordinates."""


@dataclass(frozen=True)
class Light:
    """The light of a recording."""

    direction: NDArray[np.float64]
    """(3,), unit vector towards the light, world axes."""
    ambient: float
    """Part of the light that comes from everywhere (0 to 1)."""
    shadow: float
    """How dark the body's shadow on the floor is (0 to 1)."""
    softness: float
    """Blur of the shadow (cm)."""


@dataclass(frozen=True)
class Room:
    """A box with its textures, and its light."""

    low: NDArray[np.float64]
    """(3,), lowest corner (cm)."""
    high: NDArray[np.float64]
    """(3,), highest corner (cm)."""
    atlas: NDArray[np.uint8]
    """(6, TILE, TILE, 3), blue green red: walls -x +x, floor, ceiling, walls -z +z."""
    light: Light


def draw_room(subject: str, environment: int, seed: int) -> Room:
    """Draw the room of a recording, or its place outdoors."""
    random = random_stream(seed, subject, environment, "room")
    outdoors = random.random() < 0.3
    half = random.uniform(210, 400 if outdoors else 320, 2)
    low = np.array([-half[0], 0.0, -half[1]])
    high = np.array([half[0], random.uniform(245, 320), half[1]])
    size = high - low
    faces = [draw_wall(random, size[[axis, 1]], outdoors) for axis in (2, 2, 0, 0, 0, 0)]
    faces[FLOOR] = draw_floor(random, size[[0, 2]])
    faces[_CEILING] = draw_ceiling(random, outdoors)
    atlas = np.stack(faces).clip(4, 255).astype(np.uint8)
    direction = np.array([*random.normal(0, 0.5, 2), 1.0])[[0, 2, 1]]
    return Room(
        low,
        high,
        atlas,
        Light(
            direction / np.linalg.norm(direction),
            ambient=random.uniform(0.25, 0.75),
            shadow=random.uniform(0.15, 0.7),
            softness=random.uniform(2, 16),
        ),
    )


def room_view(
    room: Room,
    atlas: NDArray[np.uint8],
    rays: NDArray[np.float32],
    camera_to_world: NDArray[np.float64],
    eye: NDArray[np.float64],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.uint8]]:
    """Render the room from inside.

    Args:
        room: the room.
        atlas: (6, TILE, TILE, 3), its textures with the body's shadow.
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
    scale = (TILE - 3) / (room.high - room.low)
    across = [
        direction * distance * np.float32(factor) + np.float32(position * factor + 1)
        for direction, factor, position in zip(directions, scale, eye - room.low, strict=True)
    ]
    u = np.where(on_x, across[2], across[0])
    v = np.where(on_y, across[2], across[1]) + surface * np.float32(TILE)
    return np.asarray(cv2.remap(atlas.reshape(6 * TILE, TILE, 3), u, v, cv2.INTER_LINEAR), np.uint8), distance, surface


def cast_shadow(
    room: Room,
    starts: NDArray[np.float64],
    ends: NDArray[np.float64],
    radii: NDArray[np.float64],
    floor: NDArray[np.uint8],
) -> None:
    """Write the floor's texture with the body's shadow into ``floor`` (TILE, TILE, 3).

    The solids (S, 3), (S, 3), (S, 2) in world cm are projected along the light.
    """
    # a quarter of the texture's resolution: shadows are soft
    side = TILE // 4
    scale = (side - 1) / (room.high - room.low)[[0, 2]]
    slope = room.light.direction[[0, 2]] / room.light.direction[1]
    points = np.stack([starts, ends])
    ground = (points[..., [0, 2]] - slope * points[..., 1:2] - room.low[[0, 2]]) * scale * (1 << _BITS)
    thickness = np.maximum(1, np.rint(radii.sum(axis=1) * scale.mean())).astype(int)
    mask = np.zeros((side, side), np.float32)
    for (start, end), width in zip(
        np.rint(ground).astype(int).swapaxes(0, 1).tolist(), thickness.tolist(), strict=True
    ):
        cv2.line(mask, start, end, 1.0, width, cv2.LINE_8, _BITS)
    soft = cv2.GaussianBlur(mask, (0, 0), max(0.5, room.light.softness * scale.mean()))
    light = cv2.convertScaleAbs(soft, alpha=-255 * room.light.shadow, beta=255)
    light = cv2.resize(light, (TILE, TILE), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(room.atlas[FLOOR], cv2.merge([light, light, light]), dst=floor, scale=1 / 255)
