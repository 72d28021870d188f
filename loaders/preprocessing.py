"""Preprocessing: what is done to a frame before it is stored in a shard, and so before a network sees it.

``tools.shard`` does it to the dataset's frames, ``engine.infer`` to the images that users give. A network trained on
JPEGs has learned their artifacts: shown the same frames without them, the demo's network moves joints by 5 mm.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Image, decode, encode, encode_array
from loaders.errors import InputError
from models import xr_egopose
from models.camera import Camera, Crop

Format = Literal["jpeg", "png", "raw", "source"]

_DARK: Final = 16
"""What is no brighter in any image lies outside the circle; JPEG leaves some light near the edge (gray levels)."""


@dataclass(frozen=True)
class Circle:
    """The image circle of a fisheye lens, outside which images are black, in pixels."""

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


@dataclass(frozen=True)
class Preprocessing:
    """How a shard set stores its images."""

    crop: Crop
    """Which square of the frame a network sees, see `models.camera.Crop`."""
    image_size: int
    """Side of the stored images (pixels); of the crop, where the whole frame is stored and loaders cut it."""
    format: Format
    """raw: pixels without encoding; source: the dataset's own files, unchanged and whole."""
    quality: int | None
    """JPEG quality (1 to 100); None for the other formats."""
    image_circle: Circle | None = None
    """The circle outside which the images are black, in pixels of a square of that size; None if it is not known."""
    frame: Camera = xr_egopose.CAMERA
    """The camera of the dataset's frames."""

    @classmethod
    def of(cls, format: Format, crop: Crop, image_size: int, quality: int, frame: Camera) -> Preprocessing:
        """Return the preprocessing that the options of ``tools.shard`` ask for, of the frames of a camera."""
        if format == "source":
            return cls(crop, frame.window(crop)[2], format, None, frame=frame)
        return cls(crop, image_size, format, quality if format == "jpeg" else None, frame=frame)

    @functools.cached_property
    def stored(self) -> Camera:
        """The camera of the stored images."""
        return self.frame if self.format == "source" else self.frame.cropped(self.crop, self.image_size)

    @functools.cached_property
    def window(self) -> tuple[int, int, int]:
        """Left, top and side of the square that a network sees, in pixels of the stored images."""
        return self.frame.window(self.crop) if self.format == "source" else (0, 0, self.image_size)

    @functools.cached_property
    def _seen(self) -> Camera:
        """The camera of that square."""
        return self.stored.crop_and_resize(*self.window, self.image_size)

    def visibility(self, pose: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the visibility (J,) of the joints in the square that a network sees.

        ``pose`` (J, 5) is u, v in pixels of the stored image, x, y, z in the camera frame.
        """
        return self._seen.visibility(self.stored.transfer(pose[:, :2], self._seen).astype(np.float32), pose[:, 2:])

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        """Return the crop (S, S, ...) of an image (H, W, ...) of any size, of which the dataset's frames are one.

        See `models.camera.Camera.window_in`.
        """
        return cut_window(image, self.frame.window_in(image.shape[1], image.shape[0], self.crop))

    def apply(self, image: Image) -> Image:
        """Return the crop of an image (H, W, 3) as a loader reads it back: of the dataset's frames, exactly.

        A square of the stored size is taken for a stored image and returned as it is.
        """
        is_stored = self.format != "source" and image.shape[:2] == (self.image_size, self.image_size)
        return image if is_stored else self.as_stored(self.cut(image))

    def as_stored(self, square: Image) -> Image:
        """Return a crop (S, S, 3) as a loader reads it back; one of the stored size is returned as it is."""
        if self.format == "source" or len(square) == self.image_size:
            return square
        stored = self._resize(square)
        if self.quality is None:
            return stored
        read = decode(np.frombuffer(encode(stored, ".jpg", quality=self.quality), np.uint8))
        assert read is not None
        return read

    def encode(self, image: Image) -> bytes:
        """Return an image (H, W, 3 or 4) cropped, resized and encoded. Not for the format source."""
        square = self._resize(self.cut(image))
        if self.quality is not None:
            return encode(square, ".jpg", quality=self.quality)
        return encode_array(square) if self.format == "raw" else encode(square, ".png")

    def _resize(self, square: Image) -> Image:
        """Return a square (S, S, 3 or 4) as (image_size, image_size, 3): by area, exactly, if it shrinks."""
        from loaders.area_resize import LARGEST, resize_by_area  # noqa: PLC0415 - a compiler, slow to import

        if self.image_size < len(square) <= LARGEST:
            return resize_by_area(square, self.image_size)
        return resize(square[:, :, :3], self.image_size)


def upgraded(values: Any) -> Any:
    """Return plain values of `Preprocessing`, mended if format version 2 wrote them.

    There the crop of whole frames was called full, of which a network saw the center square; its side was the image
    size, by which the two are told apart: whole frames have a larger one now.
    """
    height = min(xr_egopose.CAMERA.width, xr_egopose.CAMERA.height)
    if isinstance(values, dict) and (values.get("format"), values.get("image_size")) == ("source", height):
        return {**values, "crop": "square"}
    return values


def cut_window(image: NDArray[Any], window: tuple[int, int, int]) -> NDArray[Any]:
    """Return the square (S, S, ...) at left, top and side of an image (H, W, ...): a view, unless it reaches beyond.

    What lies beyond the image is zero.
    """
    left, top, side = window
    height, width = image.shape[:2]
    inside = image[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    if inside.shape[:2] == (side, side):
        return inside
    borders = max(-top, 0), max(top + side - height, 0), max(-left, 0), max(left + side - width, 0)
    return cv2.copyMakeBorder(inside, *borders, cv2.BORDER_CONSTANT, value=0)


def resize(square: Image, size: int, out: Image | None = None) -> Image:
    """Return a square (S, S, 3) as (size, size, 3), as loaders resize stored images; in ``out`` if that is given."""
    if len(square) == size and out is None:
        return square
    interpolation = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), out, interpolation=interpolation), np.uint8)


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
