"""Ray casting of rounded cones in the camera's frame, where all rays start at the origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.xr_egopose import CAMERA

Floats = NDArray[np.float32]
Box = tuple[slice, slice]

_STRIP: Final = 32768
"""Rays computed at once, so that their arrays stay in the processor's cache."""

_SAMPLES: Final = np.linspace(0.0, 1.0, 6)


@dataclass(frozen=True)
class Canvas:
    """The nearest surface of each pixel so far."""

    distance: Floats
    """(H, W), along the pixel's ray (cm)."""
    solid: NDArray[np.uint8]
    """(H, W), number of the solid, 0 for none."""
    light: Floats
    """(H, W), cosine between the solid's surface and the light."""


def solid_strips(
    starts: NDArray[np.float64], ends: NDArray[np.float64], radii: NDArray[np.float64], angle: float
) -> list[list[Box]]:
    """Return the image regions, as strips (rows, columns), that each solid can cover.

    Args:
        starts: (S, 3), first ends of the solids (cm).
        ends: (S, 3), second ends of the solids (cm).
        radii: (S, 2), at start and end (cm).
        angle: largest visible angle to the optical axis (degrees).
    """
    share = _SAMPLES[:, None, None]
    centers = starts + share * (ends - starts)
    distance = np.linalg.norm(centers, axis=-1, keepdims=True)
    middle = centers / distance
    sine = (radii[:, 0] + _SAMPLES[:, None] * (radii[:, 1] - radii[:, 0])) / distance[..., 0]
    # each sphere's outline is a circle of rays around its middle; from inside a sphere everything is visible
    spread = np.where(sine < 1, np.arcsin(np.minimum(sine, 1)), np.pi / 2)[..., None]
    # two unit vectors across, the first perpendicular to whichever axis is far from parallel
    across = np.cross(middle, np.where(np.abs(middle[..., :1]) < 0.7, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None, None, None]
    circle = np.cos(turn) * across + np.sin(turn) * np.cross(middle, across)
    outline = _project_within(np.cos(spread) * middle + np.sin(spread) * circle, np.radians(angle))
    low, high = outline.min(axis=0), outline.max(axis=0)
    # the outline bulges between its points
    margin = 0.04 * (high - low) + 2
    low = np.floor(low - margin).clip(0).astype(int)
    high = np.ceil(high + margin).clip(0, [CAMERA.width, CAMERA.height]).astype(int)
    # the part between two samples lies in the box around both
    low, high = np.minimum(low[:-1], low[1:]), np.maximum(high[:-1], high[1:])
    visible = (np.arccos(middle[..., 2]) - spread[..., 0]).min(axis=0) < np.radians(angle)
    hull = np.hstack([low.min(axis=0), high.max(axis=0)])
    visible &= (hull[:, 2:] > hull[:, :2]).all(axis=-1)
    boxes = np.concatenate([low, high], axis=-1).swapaxes(0, 1).tolist()
    return [_strips(box, parts) if seen else [] for box, parts, seen in zip(hull.tolist(), boxes, visible, strict=True)]


def _strips(hull: list[int], boxes: list[list[int]]) -> list[Box]:
    """Cut the hull of boxes (left, top, right, bottom) into strips as narrow as the boxes allow."""
    left, top, right, bottom = hull
    rows = max(1, _STRIP // max(1, right - left))
    if top + rows >= bottom:
        return [(slice(top, bottom), slice(left, right))]
    strips = []
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        here = [box for box in boxes if box[1] < last and box[3] > first]
        columns = slice(min(box[0] for box in here), max(box[2] for box in here))
        if columns.stop > columns.start:
            strips.append((slice(first, last), columns))
    return strips


def _project_within(rays: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """Project unit rays (..., 3); rays farther than ``edge`` (radians) from the axis are moved to that angle."""
    theta = np.minimum(np.arccos(rays[..., 2].clip(-1, 1)), edge)
    scale = np.sin(theta) / np.hypot(rays[..., 0], rays[..., 1]).clip(1e-9)
    return CAMERA.project(np.stack([rays[..., 0] * scale, rays[..., 1] * scale, np.cos(theta)], axis=-1))


class RoundedCone:
    """A rounded cone: the hull of two spheres (after Inigo Quilez, "Rounded cone - intersection")."""

    def __init__(self, start: NDArray[Any], end: NDArray[Any], radii: NDArray[Any], light: NDArray[np.float64]) -> None:
        """Take the ends (3,) and the radii at them (2,), in cm, and the direction (3,) of the light, a unit vector."""
        axis = end - start
        first, second = (float(radius) for radius in radii)
        self._matrix = np.stack([axis, -start, light]).astype(np.float32)
        self._length = float(axis @ axis)
        self._taper = first - second
        self._along = float(-axis @ start)
        self._first = float(start @ start) - first**2
        self._second = float(end @ end) - second**2
        self._radius = first
        self._side = self._length - self._taper**2
        self._light = (float(light @ start), float(light @ axis), 2 / (first + second))

    def intersect(self, rays: Floats) -> tuple[Floats, Callable[[], Floats]]:
        """Return the distances (h, w) at which rays (h, w, 3) hit the surface, and a function that returns the light.

        The distance of a ray that misses is NaN: call this where numpy does not warn of NaN. The light is the cosine
        (h, w) between surface and light, not clipped.
        """
        forward, near, lit = cv2.split(cv2.transform(rays, self._matrix))
        side, along, taper = self._side, self._along, self._taper
        square = side - forward * forward
        linear = side * near + forward * (taper * self._radius - along)
        constant = side * (self._first + self._radius**2) - along**2
        constant += taper * self._radius * along * 2 - self._length * self._radius**2
        root = np.sqrt(linear * linear - square * constant)
        distance = (linear + root) / -square
        height = (along - self._radius * taper) + distance * forward
        on_side = (height > 0) & (height < side)
        # beyond the cone's side, the nearer one of its two spheres
        far = near - forward
        first = near + np.sqrt(near * near - self._first)
        second = far + np.sqrt(far * far - self._second)
        distance = np.where(on_side, distance, -np.fmax(first, second))

        def light() -> Floats:
            share = np.fmin(np.fmax(height * (1 / side), 0), 1)
            start, axis, scale = self._light
            return np.asarray((distance * lit - start - share * axis) * scale)

        return distance, light


@np.errstate(invalid="ignore", divide="ignore")
def cast(cone: RoundedCone, rays: Floats, strips: Sequence[Box], number: int, canvas: Canvas) -> None:
    """Draw a solid into the canvas where it is nearer than the surfaces drawn before.

    ``rays`` (H, W, 3) are unit vectors, zero outside the image circle; ``strips`` are the solid's image regions.
    """
    for strip in strips:
        distance, light = cone.intersect(rays[strip])
        nearer = (distance < canvas.distance[strip]) & (distance > 0)
        if nearer.any():
            np.copyto(canvas.distance[strip], distance, where=nearer)
            np.copyto(canvas.light[strip], light(), where=nearer)
            np.copyto(canvas.solid[strip], np.uint8(number), where=nearer)
