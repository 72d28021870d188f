"""Ray casting of rounded cones, in the camera's frame: all rays start at the origin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.camera import XR_EGOPOSE

Floats = NDArray[np.float32]
Box = tuple[slice, slice]

_STRIP: Final = 32768
"""Rays worked on at once: their arrays stay in the processor's cache."""

_SAMPLES: Final = np.linspace(0.0, 1.0, 6)


@dataclass(frozen=True)
class Canvas:
    """What the solids are cast into."""

    distance: Floats
    """(H, W), to the nearest thing so far (cm)."""
    solid: NDArray[np.uint8]
    """(H, W), number of the nearest solid, 0 for none."""
    light: Floats
    """(H, W), cosine between the nearest solid's surface and the light."""


def solid_strips(
    starts: NDArray[np.float64], ends: NDArray[np.float64], radii: NDArray[np.float64], angle: float
) -> list[list[Box]]:
    """Return the strips (rows, columns) in which each solid can be seen within ``angle`` of the axis (degrees).

    ``starts`` and ``ends`` (S, 3), ``radii`` (S, 2), in cm. Strips of a solid do not overlap.
    """
    share = _SAMPLES[:, None, None]
    points = starts + share * (ends - starts)
    reach = (radii[:, 0] + _SAMPLES[:, None] * (radii[:, 1] - radii[:, 0])) / np.linalg.norm(points, axis=-1)
    # each sphere's outline is a circle of rays around its middle; from within a sphere everything is in sight
    spread = np.where(reach < 1, np.arcsin(np.minimum(reach, 1)), np.pi / 2)[..., None]
    middle, aside, upwards = _frame(points)
    around = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None, None, None]
    circle = np.cos(around) * aside + np.sin(around) * upwards
    outline = _project_within(np.cos(spread) * middle + np.sin(spread) * circle, np.radians(angle))
    low, high = outline.min(axis=0), outline.max(axis=0)
    # the outline bulges between its points
    margin = 0.04 * (high - low) + 2
    low = np.floor(low - margin).clip(0).astype(int)
    high = np.ceil(high + margin).clip(0, [XR_EGOPOSE.width, XR_EGOPOSE.height]).astype(int)
    # what lies between two samples lies in the box around both
    low, high = np.minimum(low[:-1], low[1:]), np.maximum(high[:-1], high[1:])
    seen = (np.arccos(middle[..., 2]) - spread[..., 0]).min(axis=0) < np.radians(angle)
    left_top, right_bottom = low.min(axis=0), high.max(axis=0)
    seen &= (right_bottom > left_top).all(axis=-1)
    whole = np.hstack([left_top, right_bottom]).tolist()
    return [
        _strips(box, np.hstack([low[:, number], high[:, number]]).tolist()) if seen[number] else []
        for number, box in enumerate(whole)
    ]


def _strips(whole: list[int], boxes: list[list[int]]) -> list[Box]:
    """Cut the hull of boxes (left, top, right, bottom) into strips as narrow as the boxes let them be."""
    left, top, right, bottom = whole
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


def _frame(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the directions of points (..., 3) and two unit vectors across each."""
    middle = points / np.linalg.norm(points, axis=-1, keepdims=True)
    # cross with whichever axis is far from parallel
    helper = np.where(np.abs(middle[..., :1]) < 0.7, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    aside = np.cross(middle, helper)
    aside /= np.linalg.norm(aside, axis=-1, keepdims=True)
    return middle, aside, np.cross(middle, aside)


def _project_within(rays: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """Project unit rays (..., 3); those farther than ``edge`` (radians) from the axis land on that circle."""
    theta = np.minimum(np.arccos(rays[..., 2].clip(-1, 1)), edge)
    across = np.hypot(rays[..., 0], rays[..., 1]).clip(1e-9)
    scale = np.sin(theta) / across
    return XR_EGOPOSE.project(np.stack([rays[..., 0] * scale, rays[..., 1] * scale, np.cos(theta)], axis=-1))


class RoundedCone:
    """A rounded cone: the hull of two spheres (after Inigo Quilez, "Rounded cone - intersection")."""

    def __init__(self, start: NDArray[Any], end: NDArray[Any], radii: NDArray[Any], light: NDArray[np.float64]) -> None:
        """Take the ends (3,), the radii at them (2,), in cm, and the direction (3,) of the light, unit."""
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

    def meet(self, rays: Floats) -> tuple[Floats, Callable[[], Floats]]:
        """Return the distances (h, w) at which rays (h, w, 3) meet the surface, and how to get the light there.

        NaN for rays that pass by: call it where numpy does not warn of them. The light is the cosine (h, w) between
        surface and light, not cut to -1..1.
        """
        ahead, near, lit = cv2.split(cv2.transform(rays, self._matrix))
        side, along, taper = self._side, self._along, self._taper
        square = side - ahead * ahead
        linear = side * near + ahead * (taper * self._radius - along)
        constant = side * (self._first + self._radius**2) - along**2
        constant += taper * self._radius * along * 2 - self._length * self._radius**2
        root = np.sqrt(linear * linear - square * constant)
        distance = (linear + root) / -square
        height = (along - self._radius * taper) + distance * ahead
        on_side = (height > 0) & (height < side)
        # where the cone ends, the nearer of its two spheres
        far = near - ahead
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
    """Cast a solid into the canvas where it is nearer than what is there.

    ``rays`` (H, W, 3), unit, zero outside the lens; ``strips``: the rows and columns it can be in.
    """
    for strip in strips:
        distance, light = cone.meet(rays[strip])
        nearer = (distance < canvas.distance[strip]) & (distance > 0)
        if nearer.any():
            np.copyto(canvas.distance[strip], distance, where=nearer)
            np.copyto(canvas.light[strip], light(), where=nearer)
            np.copyto(canvas.solid[strip], np.uint8(number), where=nearer)
