"""The circle that a fisheye lens throws onto the sensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.preprocessing import Image

_DARK: Final = 16
"""What is no brighter in any image lies outside the lens; JPEG leaves some light near the edge (gray levels)."""


@dataclass(frozen=True)
class Circle:
    """What a camera sees of the world, in pixels of its image."""

    x: float
    y: float
    radius: float

    @classmethod
    def parse(cls, text: str) -> Circle:
        """Return the circle "x,y,r". Raises InputError if the text is no circle."""
        try:
            circle = cls(*(float(number) for number in text.split(",")))
        except (ValueError, TypeError):
            circle = None
        if circle is None or not circle.radius > 0 or not np.isfinite([circle.x, circle.y, circle.radius]).all():
            raise InputError(f"mask_circle is {text!r}: give auto, or x,y,r in pixels, such as 640,400,390")
        return circle

    def cut(self, image: Image) -> Image:
        """Return a copy of an image (H, W, 3), black outside the circle."""
        rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
        inside = np.square(columns - self.x) + np.square(rows - self.y) <= self.radius**2
        return image * inside[:, :, None].astype(np.uint8)


def find_circle(images: torch.Tensor) -> Circle | None:
    """Return the circle outside which images are black; None if all of them are black everywhere.

    Of images without black corners it is the circle around them, which cuts nothing.

    Args:
        images: (B, 3, H, W) uint8 of one camera; many, for what is dark in one image may be the scene.
    """
    brightest: NDArray[Any] = images.amax((0, 1)).cpu().numpy()
    outlines, _ = cv2.findContours((brightest > _DARK).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    (x, y), radius = cv2.minEnclosingCircle(max(outlines, key=cv2.contourArea))
    return Circle(x, y, radius)
