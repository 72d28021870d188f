"""The square of an image that a network gets, and the way back to the image."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Image
from loaders.preprocessing import cut_window
from models.camera import Camera, Crop
from models.xr_egopose import CAMERA

Rotation = Literal[0, 90, 180, 270]
"""Clockwise (degrees)."""


@dataclass(frozen=True)
class View:
    """How an image becomes the network's square, and how positions are mapped back.

    The image is taken for a copy of the dataset's frames of another size, and the crop of training is cut out of it: it
    is never squeezed, and what lies beyond the image is black.
    """

    width: int
    """Width of the image (pixels)."""
    height: int
    """Height of the image (pixels)."""
    rotate: Rotation = 0
    """How far the image is rotated clockwise before the network gets it (degrees)."""
    crop: Crop = "square"
    """What is cut out of the image, once it is rotated."""
    stored_size: int | None = None
    """Side of images that are taken for the square itself, since shards store it so (pixels); None if none are."""

    frame: Camera = CAMERA
    """The camera of the dataset's frames."""

    @functools.cached_property
    def window(self) -> tuple[int, int, int]:
        """Left, top and side of the square in the rotated image (pixels)."""
        width, height = self._upright
        if width == height == self.stored_size:
            return 0, 0, width
        return self.frame.window_in(width, height, self.crop)

    @property
    def side(self) -> int:
        """Side of the square (pixels)."""
        return self.window[2]

    def cut(self, image: Image) -> Image:
        """Return the square (side, side, 3) of ``image`` (height, width, 3), upright."""
        return cut_window(np.rot90(image, -self.rotate // 90), self.window)

    def to_image(self, joints_2d: NDArray[np.floating[Any]], size: int) -> NDArray[np.float64]:
        """Map pixels (..., 2) of the network's image back to the image."""
        left, top, side = self.window
        upright = (joints_2d + 0.5) * (side / size) - 0.5 + [left, top]
        center, upright_center = (np.array([self.width, self.height]) - 1) / 2, (np.array(self._upright) - 1) / 2
        return np.asarray((upright - upright_center) @ self._rotation_back().T + center)

    def to_camera(self, joints_3d: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Rotate a pose (..., 3) back about the camera's axis."""
        return np.asarray(np.concatenate([joints_3d[..., :2] @ self._rotation_back().T, joints_3d[..., 2:]], axis=-1))

    @property
    def _upright(self) -> tuple[int, int]:
        """Width and height of the rotated image (pixels)."""
        return (self.height, self.width) if self.rotate % 180 else (self.width, self.height)

    def _rotation_back(self) -> NDArray[np.float64]:
        cos, sin = {0: (1.0, 0.0), 90: (0.0, 1.0), 180: (-1.0, 0.0), 270: (0.0, -1.0)}[self.rotate]
        return np.array([[cos, sin], [-sin, cos]])
