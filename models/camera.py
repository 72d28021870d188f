"""Cameras: the fisheye, and every model by its word.

Pixel coordinates have their centers at integers: the top left pixel covers [-0.5, 0.5] x [-0.5, 0.5].
The camera frame is OpenCV's: x right, y down, z along the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.camera_base import IN_IMAGE, IN_LENS, UNSEEN, Camera, Crop, Floats
from models.ocam import OcamCamera
from models.pinhole import PinholeCamera

__all__ = [
    "CAMERAS",
    "IN_IMAGE",
    "IN_LENS",
    "UNSEEN",
    "Camera",
    "Crop",
    "FisheyeCamera",
    "Floats",
    "OcamCamera",
    "PinholeCamera",
]


@dataclass(frozen=True)
class FisheyeCamera(Camera):
    """Kannala-Brandt fisheye model as in OpenCV's ``cv2.fisheye``.

    A ray at angle theta from the optical axis meets the image at the distance
    ``theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)`` from the principal point,
    in units of the focal lengths.
    """

    fx: float
    """Horizontal focal length (pixels)."""
    fy: float
    """Vertical focal length (pixels)."""
    cx: float
    """Principal point, horizontal (pixels)."""
    cy: float
    """Principal point, vertical (pixels)."""
    distortion: tuple[float, float, float, float]
    """k1..k4 (radians to the powers -2, -4, -6, -8)."""
    lens_angle: float = 90.0
    """Largest angle to the optical axis that the lens shows (degrees); beyond it images are black."""
    model: Literal["kannala-brandt"] = field(default="kannala-brandt", kw_only=True)
    """The model's word."""

    def project(self, points: Floats) -> NDArray[np.float64]:
        """Project camera-frame points (..., 3), any unit, to pixels (..., 2). Behind the camera is fine."""
        x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        radius = np.hypot(x, y)
        distorted = self._distort(np.arctan2(radius, z))
        # on the axis the direction is undefined and the distance zero
        scale = np.divide(distorted, radius, out=np.zeros_like(radius), where=radius > 0)
        return np.stack([self.fx * scale * x + self.cx, self.fy * scale * y + self.cy], axis=-1)

    def back_project(self, pixels: Floats) -> NDArray[np.float64]:
        """Return the unit rays (..., 3) in the camera frame that meet the pixels (..., 2).

        Inverts the distortion by Newton's method to 1e-10 rad. NaN beyond the largest angle up to pi at which the
        model still grows, where no ray meets the pixel.
        """
        u, v = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
        x, y = (u - self.cx) / self.fx, (v - self.cy) / self.fy
        distorted = np.hypot(x, y)
        largest = self._largest_angle()
        theta = np.clip(distorted, 0.0, largest)
        for _ in range(20):
            before = theta
            step = (self._distort(theta) - distorted) / self._distort_slope(theta)
            theta = np.clip(theta - step, 0.0, largest)
            if np.abs(theta - before).max(initial=0.0) < 1e-12:
                break
        theta = np.where(distorted <= self._distort(largest), theta, np.nan)
        scale = np.divide(np.sin(theta), distorted, out=np.ones_like(theta), where=distorted > 0)
        return np.stack([scale * x, scale * y, np.cos(theta)], axis=-1)

    @cached_property
    def _lens_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        center, reach = np.array([self.cx, self.cy]), self._distort(np.radians(self.lens_angle))
        reach = reach * np.array([self.fx, self.fy])
        return center - reach, center + reach

    def _distort(self, theta: Any) -> NDArray[np.float64]:
        k1, k2, k3, k4 = self.distortion
        t2 = theta * theta
        return np.asarray(theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4)))), np.float64)

    def _distort_slope(self, theta: Any) -> NDArray[np.float64]:
        k1, k2, k3, k4 = self.distortion
        t2 = theta * theta
        return np.asarray(1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4))), np.float64)

    def _largest_angle(self) -> float:
        angles = np.linspace(0.0, np.pi, 3142)
        falling = np.flatnonzero(self._distort_slope(angles) <= 1e-3)
        return float(angles[falling[0] - 1] if falling.size else angles[-1])


CAMERAS: Final[dict[str, type[Camera]]] = {
    camera.model: camera for camera in (FisheyeCamera, PinholeCamera, OcamCamera)
}
"""Every camera model by its word."""
