"""The pinhole camera with OpenCV's distortion."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.camera_base import Camera, Floats, first_root

_STEEPEST: Final = float(np.tan(np.radians(89.9)))
"""Distance from the axis, at depth 1, from which on rays are too near the plane of the pinhole to be computed with."""


@dataclass(frozen=True)
class PinholeCamera(Camera):
    """Perspective projection and OpenCV's distortion, as in ``cv2.projectPoints``.

    With x and y at depth 1, and r their distance from the axis, the image shows

    ``x' = x (1 + k1 r^2 + k2 r^4 + k3 r^6) + 2 p1 x y + p2 (r^2 + 2 x^2)``
    ``y' = y (1 + k1 r^2 + k2 r^4 + k3 r^6) + p1 (r^2 + 2 y^2) + 2 p2 x y``

    in units of the focal lengths. The model ends where the radial part ceases to grow.
    """

    fx: float
    """Horizontal focal length (pixels)."""
    fy: float
    """Vertical focal length (pixels)."""
    cx: float
    """Principal point, horizontal (pixels)."""
    cy: float
    """Principal point, vertical (pixels)."""
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    """k1, k2, p1, p2, k3, in OpenCV's order (at depth 1)."""
    lens_angle: float = 0.0
    """Largest angle to the optical axis that the lens shows (degrees, below 90); 0: that of the farthest corner."""
    model: Literal["pinhole"] = field(default="pinhole", kw_only=True)
    """The model's word."""

    def __post_init__(self) -> None:
        self._settle_lens_angle()

    def project(self, points: Floats) -> NDArray[np.float64]:
        """Project camera-frame points (..., 3), any unit, to pixels (..., 2).

        A point behind the camera, or where the model has ended, is projected to where the model ends, in its direction.
        """
        x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        depth = np.maximum(z, np.hypot(x, y) / self._steepest)
        depth = np.where(depth > 0, depth, 1.0)  # straight behind, all directions are the same
        x, y = self._distort(x / depth, y / depth)
        return np.stack([self.fx * x + self.cx, self.fy * y + self.cy], axis=-1)

    def back_project(self, pixels: Floats) -> NDArray[np.float64]:
        """Return the unit rays (..., 3) in the camera frame that meet the pixels (..., 2).

        Inverts the distortion by Newton's method, to 1e-10 at depth 1. NaN where no ray meets the pixel, or none before
        the model ends.
        """
        u, v = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
        true_x, true_y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
        x, y = self._without_radial(true_x, true_y)
        with np.errstate(all="ignore"):  # what diverges has no answer
            for _ in range(30):
                distorted = self._distort(x, y)
                off_x, off_y = distorted[0] - true_x, distorted[1] - true_y
                xx, xy, yy = self._slopes(x, y)
                determinant = xx * yy - xy * xy
                x, y = x - (yy * off_x - xy * off_y) / determinant, y - (xx * off_y - xy * off_x) / determinant
                if max(np.abs(off_x).max(initial=0.0), np.abs(off_y).max(initial=0.0)) < 1e-14:
                    break
            distorted = self._distort(x, y)
            off = np.hypot(distorted[0] - true_x, distorted[1] - true_y)
            radius = np.hypot(x, y)
            is_ray = (off < 1e-10 * (1 + np.hypot(true_x, true_y))) & (radius < self._steepest * (1 + 1e-9))
        length = np.where(is_ray, np.sqrt(1 + radius * radius), np.nan)
        return np.stack([x / length, y / length, 1 / length], axis=-1)

    @cached_property
    def _steepest(self) -> float:
        """Distance from the axis, at depth 1, at which the model ends."""
        k1, k2, _, _, k3 = self.distortion
        # where the slope of r (1 + k1 r^2 + k2 r^4 + k3 r^6) is 0, in r^2
        return float(np.sqrt(first_root([1, 3 * k1, 5 * k2, 7 * k3], _STEEPEST**2)))

    def _largest_angle(self) -> float:
        return float(np.arctan(self._steepest))

    def _radial(self, squared: NDArray[np.float64]) -> NDArray[np.float64]:
        k1, k2, _, _, k3 = self.distortion
        return 1 + squared * (k1 + squared * (k2 + squared * k3))

    def _distort(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        _, _, p1, p2, _ = self.distortion
        squared = x * x + y * y
        radial = self._radial(squared)
        return (
            x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x),
            y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y,
        )

    def _slopes(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return how the distorted x grows with x, with y (and so y with x), and y with y."""
        k1, k2, p1, p2, k3 = self.distortion
        squared = x * x + y * y
        radial, bend = self._radial(squared), 2 * (k1 + squared * (2 * k2 + squared * 3 * k3))
        return (
            radial + bend * x * x + 2 * p1 * y + 6 * p2 * x,
            bend * x * y + 2 * p1 * x + 2 * p2 * y,
            radial + bend * y * y + 6 * p1 * y + 2 * p2 * x,
        )

    def _without_radial(
        self, x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Invert the radial part by a table: near enough for Newton's method to find the ray before the fold."""
        radii = np.tan(np.linspace(0.0, self._largest_angle(), 1024))
        distorted = np.hypot(x, y)
        radius = np.interp(distorted, radii * self._radial(radii * radii), radii)
        scale = np.divide(radius, distorted, out=np.ones_like(distorted), where=distorted > 0)
        return scale * x, scale * y
