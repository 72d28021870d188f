"""The image circle: what a fisheye lens throws onto the sensor; images are black outside."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from loaders.codecs import Image
from loaders.errors import InputError

_DARK: Final = 16
"""What is no brighter in any image lies outside the circle; JPEG leaves some light near the edge (gray levels)."""


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


def find_circle(images: Iterable[Image]) -> Circle | None:
    """Return the circle outside which images are black; None if all of them are black everywhere.

    Of images without black corners it is the circle around them, which cuts nothing.

    Args:
        images: (H, W, 3) each, of one camera; many, for what is dark in one image may be the scene.
    """
    dark: Image = np.zeros((1, 1), np.uint8)
    brightest = functools.reduce(np.maximum, (image.max(axis=2) for image in images), dark)
    outlines, _ = cv2.findContours((brightest > _DARK).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    (x, y), radius = cv2.minEnclosingCircle(max(outlines, key=cv2.contourArea))
    return Circle(x, y, radius)
