"""Ray casting of the body and the room through the dataset's fisheye camera.

All images of a frame come from one distance map, to the first surface that each pixel's ray hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.camera import XR_EGOPOSE
from tools.synthesis.appearance import OBJECT_IDS, ROOM_ID
from tools.synthesis.room import Room, room_view
from tools.synthesis.solids import Canvas, RoundedCone, cast, solid_strips

WORLD_STEPS_PER_CM: Final = 10
"""worldp: a channel is the coordinate in cm times this plus `WORLD_ORIGIN`, rounded; zero outside the image circle."""
WORLD_ORIGIN: Final = 32768

DEPTH_CM_PER_STEP: Final = 2.5
"""depth: distance from the camera along the ray over this, rounded, at most 255; zero outside the image circle."""

_WIDTH, _HEIGHT = XR_EGOPOSE.width, XR_EGOPOSE.height
_SHADES: Final = 40
_TILE_ROWS: Final = 20
"""Rows computed at once, so that their arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Scene:
    """Body, room and camera of one frame."""

    world_to_camera: NDArray[np.float64]
    """(4, 4), cm."""
    starts: NDArray[np.float64]
    """(S, 3), first ends of the solids, world cm."""
    ends: NDArray[np.float64]
    """(S, 3), second ends of the solids, world cm."""
    radii: NDArray[np.float64]
    """(S, 2), at start and end (cm)."""
    colors: NDArray[np.float64]
    """(S, 3), blue green red."""
    feet: NDArray[np.float64]
    """(F, 3), x, z and radius of the body's shadows on the floor (cm)."""
    room: Room


@dataclass(frozen=True)
class Images:
    """What the rays of one frame hit."""

    color: NDArray[np.uint8]
    """(H, W, 3), blue green red."""
    distance: NDArray[np.float32]
    """(H, W), from the camera along the pixel's ray (cm); zero outside the image circle."""
    solid: NDArray[np.uint8]
    """(H, W), number of the solid, 0 for the room."""
    surface: NDArray[np.uint8]
    """(H, W), number of the room's surface behind."""


def _rays(columns: NDArray[Any], rows: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return unit rays (h, w, 3) of pixels and which are in the image circle; pixels outside get the ray at its rim."""
    camera, edge = XR_EGOPOSE, np.radians(XR_EGOPOSE.lens_angle)
    rim = (camera.project(np.array([np.sin(edge), 0.0, np.cos(edge)]))[0] - camera.cx) / camera.fx
    u, v = np.meshgrid(columns, rows)
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    scale = np.minimum(1.0, rim / np.maximum(np.hypot(x, y), 1e-9))
    pixels = np.stack([camera.cx + x * scale * camera.fx, camera.cy + y * scale * camera.fy], axis=-1)
    return camera.back_project(pixels).astype(np.float32), scale == 1.0


class Renderer:
    """Renders scenes; holds the arrays that all frames share."""

    def __init__(self) -> None:
        self._rays, inside = _rays(np.arange(_WIDTH), np.arange(_HEIGHT))
        self._rays[~inside] = 0.0
        self._inside = inside.astype(np.uint8)
        self._inside_world = np.repeat(inside[..., None], 3, axis=-1).astype(np.uint16)
        # the room is smooth enough to be rendered at half the resolution and interpolated
        self._coarse_rays, _ = _rays(np.arange(_WIDTH // 2) * 2 + 0.5, np.arange(_HEIGHT // 2) * 2 + 0.5)

    def render(self, scene: Scene) -> Images:
        """Cast all rays of a frame."""
        rotation, translation = scene.world_to_camera[:3, :3], scene.world_to_camera[:3, 3]
        eye = -rotation.T @ translation
        coarse = room_view(scene.room, scene.feet, self._coarse_rays, rotation.T, eye)
        full = (_WIDTH, _HEIGHT)
        color = cv2.resize(coarse[0], full, interpolation=cv2.INTER_LINEAR)
        distance = cv2.resize(coarse[1], full, interpolation=cv2.INTER_LINEAR)
        surface = cv2.resize(coarse[2], full, interpolation=cv2.INTER_NEAREST)
        light = rotation @ _LIGHT
        canvas = Canvas(
            np.asarray(distance, np.float32),
            np.zeros((_HEIGHT, _WIDTH), np.uint8),
            np.zeros((_HEIGHT, _WIDTH), np.float32),
        )
        starts = scene.starts @ rotation.T + translation
        ends = scene.ends @ rotation.T + translation
        strips = solid_strips(starts, ends, scene.radii, XR_EGOPOSE.lens_angle)
        # nearest first, because hidden surfaces cost less
        for number in np.argsort(np.linalg.norm(starts + ends, axis=-1)).tolist():
            cone = RoundedCone(starts[number], ends[number], scene.radii[number], light)
            cast(cone, self._rays, strips[number], number + 1, canvas)
        image = np.asarray(cv2.bitwise_and(color, color, mask=self._inside), np.uint8)
        _paint(image, canvas, scene.colors)
        np.multiply(canvas.distance, self._inside, out=canvas.distance)
        return Images(image, canvas.distance, canvas.solid, np.asarray(surface, np.uint8))

    def world(self, images: Images, world_to_camera: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Return the world position x, y, z of every pixel (H, W, 3), as `WORLD_STEPS_PER_CM` says."""
        rotation = world_to_camera[:3, :3].T
        offset = WORLD_STEPS_PER_CM * (-rotation @ world_to_camera[:3, 3]) + WORLD_ORIGIN + 0.5
        matrix = np.column_stack([WORLD_STEPS_PER_CM * rotation, offset]).astype(np.float32)
        result = np.empty((_HEIGHT, _WIDTH, 3), np.uint16)
        for top in range(0, _HEIGHT, _TILE_ROWS):
            rows = slice(top, top + _TILE_ROWS)
            distance = images.distance[rows]
            points = cv2.multiply(self._rays[rows], cv2.merge([distance, distance, distance]))
            steps = cv2.transform(points, matrix).astype(np.uint16)
            np.multiply(steps, self._inside_world[rows], out=result[rows])
        return result

    def objects(self, images: Images) -> NDArray[np.uint8]:
        """Return the object id of every pixel (H, W); zero outside the image circle."""
        table = np.zeros(256, np.uint8)
        table[: len(OBJECT_IDS)] = OBJECT_IDS
        ids = np.asarray(cv2.LUT(images.solid, table), np.uint8)
        np.copyto(ids, images.surface + np.uint8(ROOM_ID), where=images.solid == 0)
        return ids * self._inside

    def depth(self, images: Images) -> NDArray[np.uint8]:
        """Return the distance of every pixel (H, W), as `DEPTH_CM_PER_STEP` says."""
        return np.asarray(cv2.convertScaleAbs(images.distance, alpha=1 / DEPTH_CM_PER_STEP), np.uint8)


_LIGHT: Final = np.array([0.25, 1.0, 0.15]) / np.linalg.norm([0.25, 1.0, 0.15])


def _paint(image: NDArray[np.uint8], canvas: Canvas, colors: NDArray[np.float64]) -> None:
    """Paint the solids (colors (S, 3)) over the room, lit from above and darker with the distance."""
    rows, columns = np.flatnonzero(canvas.solid.any(axis=1)), np.flatnonzero(canvas.solid.any(axis=0))
    if not rows.size:
        return
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    # half Lambert: surfaces turned away from the light keep their shape
    brightness = (0.62 + 0.38 * canvas.light[box]) * (1.1 - canvas.distance[box] * np.float32(0.0016))
    level = np.clip(brightness * (_SHADES - 1), 0, _SHADES - 1).astype(np.int32)
    shades = np.linspace(0.0, 1.15, _SHADES)[:, None]
    table = np.zeros((len(colors) + 1, _SHADES, 4), np.uint8)
    table[1:, :, :3] = np.clip(colors[:, None] * shades, 0, 255)
    packed = table.reshape(-1, 4).view(np.uint32).ravel()
    solid = canvas.solid[box]
    level += solid * np.int32(_SHADES)
    painted = packed.take(level).view(np.uint8).reshape(*solid.shape, 4)
    cv2.copyTo(cv2.cvtColor(painted, cv2.COLOR_BGRA2BGR), solid, image[box])
