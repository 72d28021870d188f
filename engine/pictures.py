"""Pictures that people hand in: found, read whatever their form, and drawn on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.drawing import encode_image, overlay, rescale
from engine.pose_model import Turn, View
from loaders.errors import InputError
from loaders.pictures import decode

Image = NDArray[np.uint8]

SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Endings of file names, in any case, that are taken for pictures."""

_SHOWN: Final = 1600
"""Longest side of a drawn picture (pixels); larger ones are drawn on a reduced copy, which bounds the memory."""


@dataclass(frozen=True)
class Circle:
    """What a camera sees of the world, in pixels of its picture."""

    x: float
    y: float
    radius: float

    @classmethod
    def parse(cls, text: str | None) -> Circle | None:
        """Return the circle "x,y,r"; None for None. Raises InputError if the text is no circle."""
        if text is None:
            return None
        try:
            circle = cls(*(float(number) for number in text.split(",")))
        except (ValueError, TypeError):
            circle = None
        if circle is None or not circle.radius > 0 or not np.isfinite([circle.x, circle.y, circle.radius]).all():
            raise InputError(f"mask_circle is {text!r}: give x,y,r in pixels, such as 640,400,390")
        return circle

    def cut(self, image: Image) -> Image:
        """Return a copy of a picture (H, W, 3), black outside the circle."""
        rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
        inside = np.square(columns - self.x) + np.square(rows - self.y) <= self.radius**2
        return image * inside[:, :, None].astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """A picture that was read."""

    file: Path
    view: View
    square: Image
    """(S, S, 3): what the network sees."""
    shown: Image | None
    """The picture to draw on, perhaps reduced; None if none is wanted."""


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read."""

    file: Path
    reason: str


def list_pictures(folder: Path) -> list[Path]:
    """Return what has a picture's name in a folder, by name. Raises InputError if there is nothing."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give one with pictures")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder} has no pictures: expected files that end in {', '.join(SUFFIXES)}")
    return files


def read_picture(file: Path, size: int, *, turn: Turn, circle: Circle | None, keep: bool) -> Picture | Unreadable:
    """Read a picture for a network that takes ``size`` x ``size`` pixels.

    Orientation in EXIF is applied; grey becomes RGB, alpha is dropped, 16 bit become 8.

    Args:
        file: a picture.
        size: side of the network's picture (pixels).
        turn: turn the picture clockwise (degrees).
        circle: what to keep of the picture, in its pixels.
        keep: keep the picture to draw on.
    """
    if file.is_dir():
        return Unreadable(file, "a folder")
    try:
        data = file.read_bytes()
    except OSError as error:
        return Unreadable(file, error.strerror or str(error))
    image = decode(np.frombuffer(data, np.uint8)) if data else None
    if image is None:
        return Unreadable(file, "not a picture, or damaged" if data else "empty")
    picture = np.asarray(image, np.uint8)
    if circle is not None:
        picture = circle.cut(picture)
    view = View(picture.shape[1], picture.shape[0], turn)
    return Picture(file, view, view.square(picture, size), _reduced(picture) if keep else None)


def draw(picture: Picture, joints_2d: NDArray[np.floating[Any]]) -> bytes:
    """Return a picture with a prediction (15, 2), in pixels of the picture, drawn; in its own file format."""
    assert picture.shown is not None
    scale = picture.shown.shape[1] / picture.view.width
    drawn = overlay(picture.shown, rescale(joints_2d, scale))
    return encode_image(picture.file.suffix.lower(), drawn)


def _reduced(image: Image) -> Image:
    factor = _SHOWN / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
