"""Ray casting of rounded cones, in the camera's frame: all rays start at the origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.camera import XR_EGOPOSE, FisheyeCamera

Floats = NDArray[np.float32]
Box = tuple[slice, slice]

_STRIP: Final = 16384
"""Rays worked on at once: their arrays stay in the processor's cache."""

_SAMPLES: Final = np.linspace(0.0, 1.0, 9)


@dataclass(frozen=True)
class Canvas:
    """What the solids are cast into."""

    distance: Floats
    """(H, W), to the nearest thing so far (cm)."""
    solid: NDArray[np.uint8]
    """(H, W), number of the nearest solid, 0 for none."""
    light: Floats
    """(H, W), cosine between the nearest solid's surface and the light."""


def solid_boxes(
    starts: NDArray[np.float64], ends: NDArray[np.float64], radii: NDArray[np.float64], angle: float
) -> list[Box | None]:
    """Return the rows and columns in which each solid can be seen within ``angle`` of the optical axis (degrees).

    ``starts`` and ``ends`` (S, 3), ``radii`` (S, 2), in cm. None for a solid that cannot be seen.
    """
    share = _SAMPLES[:, None, None]
    points = starts + share * (ends - starts)
    reach = (radii[:, 0] + _SAMPLES[:, None] * (radii[:, 1] - radii[:, 0])) / np.linalg.norm(points, axis=-1)
    spread = np.where(reach < 1, np.arcsin(np.minimum(reach, 1)), np.pi)
    edge = np.radians(angle)
    theta = np.arctan2(np.hypot(points[..., 0], points[..., 1]), points[..., 2])
    centres = _at_angle(points, np.minimum(theta, edge))
    outer = np.minimum(np.maximum(theta + spread, 1e-3), edge)
    # a fisheye stretches along the circle around its axis, the more the farther out
    stretch = (_rim(XR_EGOPOSE, outer) / np.sin(np.minimum(outer, np.pi / 2))).clip(1.0)
    margin = (XR_EGOPOSE.fx * spread * stretch + 3)[..., None]
    low = np.floor((centres - margin).min(axis=0)).clip(0).astype(int)
    high = np.ceil((centres + margin).max(axis=0)).clip(0, [XR_EGOPOSE.width, XR_EGOPOSE.height]).astype(int)
    seen = (theta - spread).min(axis=0) < edge
    return [
        (slice(top, bottom), slice(left, right)) if visible and right > left and bottom > top else None
        for (left, top), (right, bottom), visible in zip(low.tolist(), high.tolist(), seen, strict=True)
    ]


def _at_angle(points: NDArray[np.float64], theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Project points turned towards the axis until they are ``theta`` away from it."""
    around = np.arctan2(points[..., 1], points[..., 0])
    sine = np.sin(theta)
    return XR_EGOPOSE.project(np.stack([sine * np.cos(around), sine * np.sin(around), np.cos(theta)], axis=-1))


def _rim(camera: FisheyeCamera, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance from the principal point at an angle, in focal lengths."""
    zero = np.zeros_like(theta)
    pixels = camera.project(np.stack([np.sin(theta), zero, np.cos(theta)], axis=-1))
    return np.asarray((pixels[..., 0] - camera.cx) / camera.fx)


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

    def meet(self, rays: Floats) -> tuple[Floats, Floats]:
        """Return where rays (h, w, 3) meet the surface: distances (h, w) and cosines to the light.

        NaN for rays that pass by; the cosine is not cut to -1..1.
        """
        ahead, near, lit = cv2.split(cv2.transform(rays, self._matrix))
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._meet(ahead, near, lit)

    def _meet(self, ahead: Any, near: Any, lit: Any) -> tuple[Floats, Floats]:
        side, along, taper = self._side, self._along, self._taper
        square = side - ahead * ahead
        linear = side * near + ahead * (taper * self._radius - along)
        constant = side * (self._first + self._radius**2) - along**2
        constant += taper * self._radius * along * 2 - self._length * self._radius**2
        root = np.sqrt(linear * linear - square * constant)
        distance = (-linear - root) / square
        height = (along - self._radius * taper) + distance * ahead
        first = -near - np.sqrt(near * near - self._first)
        far = near - ahead
        second = -far - np.sqrt(far * far - self._second)
        on_side = (height > 0) & (height < side)
        distance = np.where(on_side, distance, np.fmin(first, second))
        share = np.fmin(np.fmax(height / side, 0), 1)
        start, axis, scale = self._light
        cosine = (distance * lit - start - share * axis) * scale
        return distance, cosine


def cast(cone: RoundedCone, rays: Floats, box: Box, number: int, canvas: Canvas) -> None:
    """Cast a solid into the canvas where it is nearer than what is there.

    ``rays`` (H, W, 3), unit, zero outside the lens; ``box``: the rows and columns it can be in.
    """
    rows, columns = box
    step = max(1, _STRIP // (columns.stop - columns.start))
    for top in range(rows.start, rows.stop, step):
        strip = (slice(top, min(top + step, rows.stop)), columns)
        distance, cosine = cone.meet(rays[strip])
        nearer = (distance < canvas.distance[strip]) & (distance > 0)
        np.copyto(canvas.distance[strip], distance, where=nearer)
        np.copyto(canvas.light[strip], cosine, where=nearer)
        np.copyto(canvas.solid[strip], np.uint8(number), where=nearer)
