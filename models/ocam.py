"""The camera model of Scaramuzza's OCamCalib toolbox, and its calibration files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from models.camera_base import Camera, Floats, first_root

_FARTHEST: Final = 100.0
"""Distance from the center, in units of the focal length, at which a model ends that never folds back."""


@dataclass(frozen=True)
class OcamCamera(Camera):
    """The polynomial of Scaramuzza et al., "A Toolbox for Easily Calibrating Omnidirectional Cameras", IROS 2006.

    The pixel ``(x + e y + cx, d x + c y + cy)`` is met by the ray ``(x, y, -f(rho))``, with ``rho^2 = x^2 + y^2`` and
    the toolbox's direct polynomial ``f(rho) = a0 + a1 rho + a2 rho^2 + ...``. Projection inverts this numerically; the
    toolbox's inverse polynomial, an approximation, is not needed. The model ends where the angle of the ray ceases to
    grow with rho.

    The toolbox counts rows first and turns z backwards: its x, y, z are our y, x, -z, its xc and yc our cy and cx. Its
    MATLAB files count pixels from 1, and the files that it exports, like us, from 0.
    """

    cx: float
    """Center, horizontal (pixels)."""
    cy: float
    """Center, vertical (pixels)."""
    polynomial: tuple[float, ...]
    """a0, a1, ... of the direct polynomial (pixels to the powers 1, 0, ...); a0 is negative."""
    affine: tuple[float, float, float] = (1.0, 0.0, 0.0)
    """c, d, e."""
    lens_angle: float = 0.0
    """Largest angle to the optical axis that the lens shows (degrees); 0: that of the farthest corner."""
    model: Literal["ocam"] = field(default="ocam", kw_only=True)
    """The model's word."""

    def __post_init__(self) -> None:
        if not (self.polynomial and self.polynomial[0] < 0):
            raise ValueError(
                f"polynomial is {list(self.polynomial)}, but the toolbox's begins with a negative number: negate all "
                "of it where it is turned towards the scene"
            )
        self._settle_lens_angle()

    @classmethod
    def read(cls, path: Path, lens_angle: float | None = None) -> OcamCamera:
        """Read a calibration: the toolbox's ``calib_results.txt``, or the JSON that EgoPW, SceneEgo and UnrealEgo ship.

        Of the JSON it takes ``polynomialC2W``, ``size`` (width, height), ``image_center`` (x, y) or the center in
        ``intrinsic``, and where they are there ``affine`` and ``imageCircleRadius``.

        Args:
            path: of the file.
            lens_angle: in degrees, 0 for the farthest corner; None for the image circle that the file names, or the
                farthest corner where it names none.

        Raises:
            ValueError: the file is none of these, or the model has no image at ``lens_angle``; the message says what.
        """
        try:
            text = path.read_text(encoding="utf-8")
            camera, radius = _of_json(text) if text.lstrip().startswith("{") else _of_text(text)
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): give a calibration file") from None
        except ValueError as error:
            raise ValueError(
                f"{path} is no calibration of OCamCalib ({error}): give a calib_results.txt, or a JSON file with "
                "polynomialC2W, image_center and size"
            ) from None
        return replace(camera, lens_angle=camera._angle_at(radius) if lens_angle is None else lens_angle)

    @property
    def fx(self) -> float:
        """Horizontal focal length: pixels per radian on the optical axis."""
        return -self.polynomial[0]

    @property
    def fy(self) -> float:
        """Vertical focal length: pixels per radian on the optical axis."""
        return -self.polynomial[0] * self.affine[0]

    @cached_property
    def focal(self) -> NDArray[np.float64]:
        """(2, 2): pixels from the principal point, of a position in the plane of the polynomial."""
        c, d, e = self.affine
        return self.fx * np.array([[1.0, e], [d, c]])

    def project(self, points: Floats) -> NDArray[np.float64]:
        """Project camera-frame points (..., 3), any unit, to pixels (..., 2).

        Inverts the direct polynomial by Newton's method, to 1e-9 rad. A point where the model has ended is projected to
        where it ends, in its direction.
        """
        x, y, z = np.moveaxis(np.asarray(points, np.float64), -1, 0)
        distance = np.hypot(x, y)
        rho = self.fx * self._radius(np.arctan2(distance, z))
        # on the axis the direction is undefined and the distance zero
        scale = np.divide(rho, distance, out=np.zeros_like(distance), where=distance > 0)
        c, d, e = self.affine
        return np.stack([scale * (x + e * y) + self.cx, scale * (d * x + c * y) + self.cy], axis=-1)

    def back_project(self, pixels: Floats) -> NDArray[np.float64]:
        """Return the unit rays (..., 3) in the camera frame that meet the pixels (..., 2).

        NaN where the model has ended, so that no ray meets the pixel.
        """
        u, v = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
        c, d, e = self.affine
        u, v = (u - self.cx) / self.fx, (v - self.cy) / self.fx
        x, y = (c * u - e * v) / (c - d * e), (v - d * u) / (c - d * e)
        radius = np.hypot(x, y)
        z = -polyval(radius, self._shape)
        length = np.where(radius <= self._farthest, np.sqrt(radius * radius + z * z), np.nan)
        return np.stack([x / length, y / length, z / length], axis=-1)

    def _scaled(self, scale: float) -> dict[str, Any]:
        return {"polynomial": tuple(a * scale ** (1 - i) for i, a in enumerate(self.polynomial))}

    @cached_property
    def _shape(self) -> NDArray[np.float64]:
        """The polynomial in units of the focal length, which no resize changes; it begins with -1."""
        return np.array([a * self.fx ** (i - 1) for i, a in enumerate(self.polynomial)], np.float64)

    @cached_property
    def _farthest(self) -> float:
        """Distance from the center, in focal lengths, at which the model ends."""
        # where the slope of the angle is 0: rho f'(rho) = f(rho)
        return first_root(self._shape * (np.arange(len(self._shape)) - 1), _FARTHEST)

    @cached_property
    def _table(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distances from the center, in focal lengths, and the angles (radians) of their rays."""
        radii = np.tan(np.linspace(0.0, np.arctan(self._farthest), 1024))
        return radii, np.arctan2(radii, -polyval(radii, self._shape))

    def _largest_angle(self) -> float:
        return float(self._table[1][-1])

    def _angle_at(self, radius: float) -> float:
        """Return the angle (degrees) of what is that far from the center (pixels), at most the largest; 0 for 0."""
        radius = min(radius / self.fx, self._farthest)
        return float(np.degrees(np.arctan2(radius, -polyval(radius, self._shape))))

    def _radius(self, theta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far from the center, in focal lengths, a ray at an angle (radians) is seen."""
        radii, angles = self._table
        theta = np.minimum(theta, angles[-1])
        cell = np.clip(np.searchsorted(angles, theta), 1, len(angles) - 1)
        low, high = radii[cell - 1], radii[cell]
        radius = np.interp(theta, angles, radii)
        slopes = self._shape * (np.arange(len(self._shape)) - 1)
        for _ in range(30):
            before, f = radius, polyval(radius, self._shape)
            # d angle / d radius, which is 0 only where the model ends
            slope = np.maximum(polyval(radius, slopes), 1e-12) / (radius * radius + f * f)
            radius = np.clip(radius - (np.arctan2(radius, -f) - theta) / slope, low, high)
            if np.abs(radius - before).max(initial=0.0) < 1e-14:
                break
        return np.asarray(radius, np.float64)


def _of_text(text: str) -> tuple[OcamCamera, float]:
    """Return the camera of a ``calib_results.txt``, and 0 for its image circle, which it does not name."""
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    try:
        records = [[float(word) for word in line] for line in lines[:5]]
    except ValueError as error:
        raise ValueError(f"it has lines of other things than numbers: {error}") from None
    # the inverse polynomial, behind the direct one, may be absent
    if len(records) == 5 and len(records[1]) != 2:
        del records[1]
    if len(records) < 4:
        raise ValueError("it has fewer lines of numbers than polynomial, center, affine and size")
    direct, center, affine, size = records[:4]
    if len(direct) - 1 != direct[0]:
        raise ValueError("its first line of numbers does not begin with how many follow")
    return _camera(direct[1:], center[::-1], affine, size[::-1]), 0.0


def _of_json(text: str) -> tuple[OcamCamera, float]:
    """Return the camera of a ``fisheye.calibration.json``, and the radius of its image circle (pixels), 0 if absent."""
    content = json.loads(text)
    if absent := [key for key in ("polynomialC2W", "size") if key not in content]:
        raise ValueError(f"it has no {' and no '.join(absent)}")
    try:
        center = content["image_center"] if "image_center" in content else [row[2] for row in content["intrinsic"][:2]]
    except (KeyError, IndexError, TypeError):
        raise ValueError("it has neither image_center nor intrinsic") from None
    camera = _camera(content["polynomialC2W"], center, content.get("affine", [1.0, 0.0, 0.0]), content["size"])
    (radius,) = _numbers("imageCircleRadius", [content.get("imageCircleRadius", 0.0)], 1)
    return camera, radius


def _camera(polynomial: Any, center: Any, affine: Any, size: Any) -> OcamCamera:
    """Return the camera of what a file says; size and center with the horizontal first."""
    c, d, e = _numbers("affine", affine, 3)
    width, height = _numbers("size", size, 2)
    cx, cy = _numbers("center", center, 2)
    if not (width >= 1 and height >= 1 and width % 1 == height % 1 == 0):
        raise ValueError(f"its size is {width:g} x {height:g}")
    return OcamCamera(int(width), int(height), cx, cy, tuple(_numbers("polynomial", polynomial)), (c, d, e))


def _numbers(name: str, values: Any, count: int | None = None) -> Sequence[float]:
    """Return a file's list of numbers. Raises ValueError if it is none, or has not ``count`` of them."""
    is_list = isinstance(values, list) and all(type(value) in (int, float) and np.isfinite(value) for value in values)
    if not is_list or count not in (None, len(values)):
        raise ValueError(f"its {name} is {values!r}")
    return [float(value) for value in values]
