"""What all camera models share: the image's size, the angle that the lens shows, crops, and what is visible.

Pixels and the camera frame are those of `models.camera`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

Crop = Literal["square", "lens", "full"]
"""Which square of a frame is cut out: the center square, all that the lens shows, or the whole frame. It may reach
beyond the frame, where it is black."""

UNSEEN: Final = 0
"""Visibility of a joint that the lens does not show: its position in the image means nothing."""
IN_LENS: Final = 1
"""Visibility of a joint that the lens shows, outside the image."""
IN_IMAGE: Final = 2
"""Visibility of a joint in the image."""


@dataclass(frozen=True)
class Camera(ABC):
    """A camera of any model: a frozen dataclass of plain values, among them those named here."""

    width: int
    """Width of the image (pixels)."""
    height: int
    """Height of the image (pixels)."""

    if TYPE_CHECKING:  # fields of the models, which have them in other orders; or derived from fields

        @property
        def model(self) -> str:
            """Word for the model, the key of `models.camera.CAMERAS`."""

        @property
        def fx(self) -> float:
            """Horizontal focal length: pixels per radian on the optical axis."""

        @property
        def fy(self) -> float:
            """Vertical focal length: pixels per radian on the optical axis."""

        @property
        def cx(self) -> float:
            """Where the optical axis meets the image, horizontal (pixels)."""

        @property
        def cy(self) -> float:
            """Where the optical axis meets the image, vertical (pixels)."""

        @property
        def lens_angle(self) -> float:
            """Largest angle to the optical axis that the lens shows (degrees)."""

    @cached_property
    def focal(self) -> NDArray[np.float64]:
        """(2, 2): pixels from the principal point, of a position in a plane in which the model is symmetric about it.

        A pinhole camera with tangential distortion has no such plane, see `asymmetry`; its matrix is that without.
        """
        return np.diag([self.fx, self.fy])

    def turned(self, linear: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the affine maps (..., 2, 3) of pixels that turn or flip the image as the scene does.

        ``linear`` (..., 2, 2) is what turns or flips the scene's x and y.
        """
        matrix = self.focal @ linear @ self._inverse_focal
        center = np.array([self.cx, self.cy])
        return np.concatenate([matrix, (center - matrix @ center)[..., None]], axis=-1)

    @cached_property
    def _inverse_focal(self) -> NDArray[np.float64]:
        return np.asarray(np.linalg.inv(self.focal), np.float64)

    def asymmetry(self) -> float:
        """Return by how much `turned` can be wrong within the image (pixels): 0 but for tangential distortion."""
        u, v = np.meshgrid(np.linspace(0, self.width - 1, 33), np.linspace(0, self.height - 1, 33))
        pixels, largest = np.stack([u, v], axis=-1).reshape(-1, 2), 0.0
        rays = self.back_project(pixels)
        shown = rays[:, 2] >= np.cos(np.radians(self.lens_angle))
        pixels, rays = pixels[shown], rays[shown]
        for linear in (np.array([[-1.0, 0.0], [0.0, 1.0]]), np.array([[0.0, -1.0], [1.0, 0.0]]), -np.eye(2)):
            moved = self.turned(linear)
            seen = self.project(np.concatenate([rays[..., :2] @ linear.T, rays[..., 2:]], axis=-1))
            off = np.linalg.norm(pixels @ moved[:, :2].T + moved[:, 2] - seen, axis=-1)
            largest = max(largest, float(off.max(initial=0.0)))
        return largest

    @abstractmethod
    def project(self, points: Floats) -> NDArray[np.float64]:
        """Project camera-frame points (..., 3), any unit, to pixels (..., 2), finite also where nothing is seen."""

    @abstractmethod
    def back_project(self, pixels: Floats) -> NDArray[np.float64]:
        """Return the unit rays (..., 3) in the camera frame that meet the pixels (..., 2); NaN where none does."""

    @abstractmethod
    def _largest_angle(self) -> float:
        """Return the largest angle to the optical axis up to which the model is one to one (radians)."""

    def crop_and_resize(self, left: float, top: float, crop: int, size: int) -> Self:
        """Return the camera of an image whose square crop was resized to ``size`` x ``size`` pixels."""
        scale = size / crop
        changes = self._scaled(scale) | {
            "width": size,
            "height": size,
            "cx": (self.cx - left + 0.5) * scale - 0.5,
            "cy": (self.cy - top + 0.5) * scale - 0.5,
        }
        return replace(self, **changes)

    def _scaled(self, scale: float) -> dict[str, Any]:
        """Return the fields, other than size and center, that change when an image is resized."""
        return {"fx": self.fx * scale, "fy": self.fy * scale}

    def transfer(self, pixels: Floats, other: Camera) -> NDArray[np.float64]:
        """Carry pixels (..., 2) of this camera over to a crop or resize of its image, taken by ``other``.

        Cropping and resizing change focal lengths and principal point, nothing else.
        """
        focal = np.array([other.fx / self.fx, other.fy / self.fy])
        return np.asarray((pixels - np.array([self.cx, self.cy])) * focal + [other.cx, other.cy], np.float64)

    def window(self, crop: Crop) -> tuple[int, int, int]:
        """Return left, top and side of a crop, in pixels of the frame that this camera takes."""
        if crop == "lens":
            # pixel i covers i - 0.5 to i + 0.5; whatever the edge of the lens touches is inside
            low, high = self._lens_bounds
            first, last = np.floor(low + 0.5).astype(int), np.ceil(high - 0.5).astype(int)
            left, top = first.tolist()
            return left, top, int((last - first).max()) + 1
        side = (min if crop == "square" else max)(self.width, self.height)
        return (self.width - side) // 2, (self.height - side) // 2, side

    def window_in(self, width: int, height: int, crop: Crop) -> tuple[int, int, int]:
        """Return left, top and side of a crop in an image of any size (pixels), of which this camera's are one.

        It lies about the image's center as it does in a frame whose shorter side is the image's.
        """
        left, top, side = self.window(crop)
        # in whole numbers, which are exact
        unit, units = min(width, height), min(self.width, self.height)
        return (
            (width * units + (2 * left - self.width) * unit) // (2 * units),
            (height * units + (2 * top - self.height) * unit) // (2 * units),
            -(-side * unit // units),
        )

    def cropped(self, crop: Crop, size: int) -> Self:
        """Return the camera of a crop of the frame, resized to ``size`` x ``size`` pixels."""
        return self.crop_and_resize(*self.window(crop), size)

    def visibility(self, pixels: Floats, points: Floats) -> NDArray[np.uint8]:
        """Return of each joint (...,) whether it can be seen: `UNSEEN`, `IN_LENS` or `IN_IMAGE`.

        What stands in the way, the wearer's own body above all, is not considered.

        Args:
            pixels: (..., 2), where the joints are in this camera's image.
            points: (..., 3), the joints in the camera frame, any unit.
        """
        # the cosine of the angle to the axis, times the distance
        distance = np.sqrt(np.einsum("...i,...i", points, points))
        in_lens = points[..., 2] >= float(np.cos(np.radians(self.lens_angle))) * distance
        u, v = pixels[..., 0], pixels[..., 1]
        in_image = (u >= -0.5) & (v >= -0.5) & (u <= self.width - 0.5) & (v <= self.height - 0.5)
        # in bytes from the start: labels are made by the thousand
        return np.asarray(in_lens * (np.uint8(IN_LENS) + in_image.astype(np.uint8)), np.uint8)

    @cached_property
    def _lens_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest pixels (2,) of the box around all that the lens shows."""
        angle, around = np.radians(self.lens_angle), np.linspace(0.0, 2 * np.pi, 4097)
        ring = np.sin(angle) * np.stack([np.cos(around), np.sin(around)], axis=-1)
        edge = self.project(np.insert(ring, 2, np.cos(angle), axis=-1))
        # between two of the directions the edge may reach 3e-7 of its radius farther
        margin = 1e-6 * np.ptp(edge, axis=0)
        return edge.min(axis=0) - margin, edge.max(axis=0) + margin

    def _settle_lens_angle(self) -> None:
        """Let the lens show all of the image where ``lens_angle`` is 0; for ``__post_init__``.

        Raises:
            ValueError: the model has no image at ``lens_angle``.
        """
        largest = self._largest_angle()
        if self.lens_angle == 0:
            right, bottom = self.width - 0.5, self.height - 0.5
            corners = np.array([[-0.5, -0.5], [right, -0.5], [-0.5, bottom], [right, bottom]])
            x, y, z = self.back_project(corners).T
            angles = np.arctan2(np.hypot(x, y), z)
            angle = np.where(np.isnan(angles), largest, angles).max()
            object.__setattr__(self, "lens_angle", float(np.degrees(angle)))
        # a crop's largest angle may be another one by rounding
        elif not 0 < self.lens_angle <= np.degrees(largest) + 1e-6:
            raise ValueError(
                f"lens_angle is {self.lens_angle}, but this {self.model} camera has an image only up to "
                f"{np.degrees(largest):.2f} degrees: give less, or 0 for all that the image shows"
            )


def first_root(coefficients: Sequence[float] | Floats, limit: float) -> float:
    """Return the smallest positive root of ``1 + c1 x + c2 x^2 + ...``, or ``limit`` where none is smaller."""
    # read backwards they are the polynomial of 1 / x, which has no leading coefficient near 0 to divide by
    inverse = np.roots(coefficients)
    real = inverse.real[np.abs(inverse.imag) <= 1e-9 * np.abs(inverse)]
    return float(1 / real.max(initial=1 / limit))
