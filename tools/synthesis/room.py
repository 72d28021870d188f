"""The room around the subject: a textured box, drawn once per recording."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.synthesis.body import random_stream
from tools.synthesis.textures import FLOOR, TILE, draw_atlas


@dataclass(frozen=True)
class Room:
    """A box with its textures."""

    low: NDArray[np.float64]
    """(3,), lowest corner (cm)."""
    high: NDArray[np.float64]
    """(3,), highest corner (cm)."""
    atlas: NDArray[np.uint8]
    """(TILE, 6 TILE, 3), blue green red, lighting included."""


def draw_room(subject: str, environment: int, seed: int) -> Room:
    """Draw the room of a recording."""
    random = random_stream(seed, subject, environment, "room")
    half = random.uniform(210, 300, 2)
    low = np.array([-half[0], 0.0, -half[1]])
    high = np.array([half[0], random.uniform(245, 300), half[1]])
    return Room(low, high, draw_atlas(high - low, random))


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
    scale = (TILE - 3) / (room.high - room.low)
    across = [
        direction * distance * np.float32(factor) + np.float32(position * factor + 1)
        for direction, factor, position in zip(directions, scale, eye - room.low, strict=True)
    ]
    u = np.where(on_x, across[2], across[0]) + surface * np.float32(TILE)
    v = np.where(on_y, across[2], across[1])
    color = cv2.remap(_shadowed(room, shadows), u, v, cv2.INTER_LINEAR)
    return np.asarray(color, np.uint8), distance, surface


def _shadowed(room: Room, shadows: NDArray[np.float64]) -> NDArray[np.uint8]:
    atlas = room.atlas.copy()
    scale = (TILE - 3) / (room.high - room.low)[[0, 2]]
    for x, z, radius in shadows:
        center = (np.array([x, z]) - room.low[[0, 2]]) * scale + 1
        low, high = np.clip([center - 2.5 * radius * scale, center + 2.5 * radius * scale], 0, TILE).astype(int)
        across, along = np.arange(low[0], high[0]), np.arange(low[1], high[1])
        near = ((across - center[0]) / scale[0]) ** 2 + (((along - center[1]) / scale[1]) ** 2)[:, None]
        patch = atlas[low[1] : high[1], FLOOR * TILE + low[0] : FLOOR * TILE + high[0]]
        patch[...] = patch * (1 - 0.5 * np.exp(-near / (2 * (radius / 1.5) ** 2)))[..., None]
    return atlas
