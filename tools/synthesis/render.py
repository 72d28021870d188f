"""Ray casting of the body and the room through the dataset's fisheye camera.

All images of a frame come from one distance map, to the first surface that each pixel's ray hits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.xr_egopose import CAMERA
from tools.synthesis.appearance import OBJECT_IDS, ROOM_ID
from tools.synthesis.outfit import Outfit
from tools.synthesis.room import FLOOR, Room, cast_shadow, room_view
from tools.synthesis.shading import LEAST, Exposure, Surface, develop, draw_grain, shade, soften, texture_maps
from tools.synthesis.solids import Canvas, RoundedCone, cast, solid_strips

WORLD_STEPS_PER_CM: Final = 10
"""worldp: a channel is the coordinate in cm times this plus `WORLD_ORIGIN`, rounded; zero outside the image circle."""
WORLD_ORIGIN: Final = 32768

DEPTH_CM_PER_STEP: Final = 2.5
"""depth: distance from the camera along the ray over this, rounded, at most 255; zero outside the image circle."""

_WIDTH, _HEIGHT = CAMERA.width, CAMERA.height
_LEFT, _, _SIDE = CAMERA.window("lens")
_LIT: Final = slice(_LEFT // 2 * 2, -(-(_LEFT + _SIDE) // 2) * 2)
"""Columns that the image circle touches, from an even one to an even one."""
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
    origins: NDArray[np.float64]
    """(S, 3), where the solids' textures begin, world cm."""
    axes: NDArray[np.float64]
    """(S, 2, 3), along which directions they run, world axes."""
    outfit: Outfit
    room: Room
    exposure: Exposure


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
    camera, edge = CAMERA, np.radians(CAMERA.lens_angle)
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
        self._inside_world = np.repeat(inside[:, _LIT, None], 3, axis=-1).astype(np.uint16)
        self._room: Room | None = None
        self._atlas = np.empty(0, np.uint8)
        self._grains = draw_grain(_HEIGHT // 2, (_LIT.stop - _LIT.start) // 2)
        # the room is smooth enough to be rendered at half the resolution and interpolated
        self._coarse_rays, _ = _rays(np.arange(_LIT.start, _LIT.stop, 2) + 0.5, np.arange(_HEIGHT // 2) * 2 + 0.5)

    def render(self, scene: Scene) -> Images:
        """Cast all rays of a frame."""
        rotation, translation = scene.world_to_camera[:3, :3], scene.world_to_camera[:3, 3]
        eye = -rotation.T @ translation
        if scene.room is not self._room:
            self._room, self._atlas = scene.room, scene.room.atlas.copy()
        cast_shadow(scene.room, scene.starts, scene.ends, scene.radii, self._atlas[FLOOR])
        room, coarse_distance, coarse_surface = room_view(scene.room, self._atlas, self._coarse_rays, rotation.T, eye)
        distance = np.zeros((_HEIGHT, _WIDTH), np.float32)
        surface = np.zeros((_HEIGHT, _WIDTH), np.uint8)
        size = (_LIT.stop - _LIT.start, _HEIGHT)
        distance[:, _LIT] = cv2.resize(coarse_distance, size, interpolation=cv2.INTER_LINEAR)
        surface[:, _LIT] = cv2.resize(coarse_surface, size, interpolation=cv2.INTER_NEAREST)
        light = rotation @ scene.room.light.direction
        canvas = Canvas(
            distance,
            np.zeros((_HEIGHT, _WIDTH), np.uint8),
            np.zeros((_HEIGHT, _WIDTH), np.float32),
        )
        starts = scene.starts @ rotation.T + translation
        ends = scene.ends @ rotation.T + translation
        strips = solid_strips(starts, ends, scene.radii, CAMERA.lens_angle)
        # nearest first, because hidden surfaces cost less
        for number in np.argsort(np.linalg.norm(starts + ends, axis=-1)).tolist():
            cone = RoundedCone(starts[number], ends[number], scene.radii[number], light)
            cast(cone, self._rays, strips[number], number + 1, canvas)
        image = self._color(scene, room, canvas)
        np.multiply(canvas.distance, self._inside, out=canvas.distance)
        return Images(image, canvas.distance, canvas.solid, surface)

    def _color(self, scene: Scene, room: NDArray[np.uint8], canvas: Canvas) -> NDArray[np.uint8]:
        """Return the colors (H, W, 3): the solids over the room at half the resolution, enlarged."""
        maps = texture_maps(scene.origins, scene.axes, scene.world_to_camera)
        parts = [canvas.solid[first::2, first + _LIT.start : _LIT.stop : 2] for first in (0, 1)]
        soft = soften(canvas.light[::2, _LIT.start : _LIT.stop : 2], parts[0])
        background = np.asarray(cv2.cvtColor(room, cv2.COLOR_BGR2BGRA), np.uint8).view(np.uint32)[..., 0]
        image, wanted, views = background, parts[0] > 0, []
        # two of each four pixels, whose mean lies in the middle of the four and smooths the outlines; the second has
        # the first one's color where it shows the same solid
        for first in (0, 1):
            image = image.copy()
            places = np.flatnonzero(wanted)
            rows = places // image.shape[1]
            chosen = (2 * places + 2 * rows * (_WIDTH - image.shape[1])) + first * (_WIDTH + 1) + _LIT.start
            points = self._rays.reshape(-1, 3).take(chosen, axis=0) * canvas.distance.take(chosen)[:, None]
            solid, cosine = canvas.solid.take(chosen), canvas.light.take(chosen)
            surface = Surface(points, solid, cosine, soft.take(places))
            image.ravel()[places] = shade(surface, maps, scene.outfit, scene.room.light)
            views.append(image.view(np.uint8).reshape(*image.shape, 4))
            other = parts[1] != parts[0]
            image, wanted = np.where(other, background, image), other & (parts[1] > 0)
        mean = cv2.cvtColor(cv2.addWeighted(views[0], 0.5, views[1], 0.5, 0), cv2.COLOR_BGRA2BGR)
        half = develop(np.asarray(mean, np.uint8), scene.exposure, self._grains)
        lit = cv2.resize(half, (_LIT.stop - _LIT.start, _HEIGHT), interpolation=cv2.INTER_LINEAR)
        lit = np.bitwise_and(lit, 256 - LEAST)
        color = np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)
        cv2.copyTo(lit, self._inside[:, _LIT], color[:, _LIT])
        return color

    def world(self, images: Images, world_to_camera: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Return the world position x, y, z of every pixel (H, W, 3), as `WORLD_STEPS_PER_CM` says."""
        rotation = world_to_camera[:3, :3].T
        offset = WORLD_STEPS_PER_CM * (-rotation @ world_to_camera[:3, 3]) + WORLD_ORIGIN + 0.5
        matrix = np.column_stack([WORLD_STEPS_PER_CM * rotation, offset]).astype(np.float32)
        result = np.zeros((_HEIGHT, _WIDTH, 3), np.uint16)
        for top in range(0, _HEIGHT, _TILE_ROWS):
            rows = slice(top, top + _TILE_ROWS)
            distance = np.ascontiguousarray(images.distance[rows, _LIT])
            points = cv2.multiply(self._rays[rows, _LIT], cv2.merge([distance, distance, distance]))
            steps = cv2.transform(points, matrix).astype(np.uint16)
            np.multiply(steps, self._inside_world[rows], out=result[rows, _LIT])
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
