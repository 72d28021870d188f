"""Input images: reading them and preparing them for the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import cv2
import numpy as np
import PIL.Image

from engine.inference.view import View
from loaders.codecs import Image, decode
from loaders.errors import InputError
from loaders.preprocessing import Circle, Preprocessing

_CANVAS_SIDE: Final = 1600
"""Longest side of a drawn image (pixels); larger ones are drawn on a reduced copy, which bounds the memory."""
_MOST_PIXELS: Final = 100_000_000
_MOST_BYTES: Final = 1 << 30
"""Larger images are refused before they are decoded: a header may claim anything."""


@dataclass(frozen=True)
class Unreadable:
    """A file, or the rest of a video, that could not be read."""

    name: str
    reason: str


@dataclass(frozen=True)
class InputImage:
    """An image that was read, or a frame of a video."""

    name: str
    """Of the file, below the folder that all inputs have in common."""
    view: View
    square: Image
    """(S, S, 3): the network's input."""
    canvas: Image | None
    """The image to draw on, perhaps reduced; None if nothing will be drawn."""
    timing: dict[str, float]
    """Of a video's frame: its number, from 0, and its time (seconds)."""

    @property
    def sequence(self) -> str:
        """What it may be a frame of: its video, or its folder."""
        return self.name if self.timing else f"{PurePosixPath(self.name).parent}/"


@dataclass(frozen=True)
class Preparation:
    """What is done to each image before the network gets it."""

    preprocess: Callable[[Image], Image]
    """Makes the network's input of a square: `PoseModel.preprocess`."""
    view_of: Callable[[Image], View]
    """Returns how an image becomes that square: `PoseModel.view`."""
    circle_of: Callable[[View], Circle | None]
    """Returns the circle outside which an image is made black, in its pixels; None keeps all of it."""
    keep_canvas: bool
    """Keep the image to draw on."""

    def __call__(self, image: Image, name: str, timing: dict[str, float] | None = None) -> InputImage:
        """Return the image (H, W, 3) as the network takes it."""
        view = self.view_of(image)
        if circle := self.circle_of(view):
            image = circle.cut(image)
        canvas = _reduced(image) if self.keep_canvas else None
        return InputImage(name, view, self.preprocess(view.cut(image)), canvas, timing or {})


def mask_circle(text: str | None, preprocessing: Preprocessing | None) -> Callable[[View], Circle | None]:
    """Return `Preparation.circle_of`: the function from a view to the circle outside which its image is made black.

    Args:
        text: "auto" for the circle of the training images, "x,y,r" in pixels of the input; None keeps all.
        preprocessing: of the training images.

    Raises:
        InputError: it is no circle, or that of the training images is not known.
    """
    if text is None:
        return lambda view: None
    if text != "auto":
        given = Circle.parse(text)
        return lambda view: given
    if preprocessing is None or preprocessing.image_circle is None:
        raise InputError(
            "mask_circle is auto, but the checkpoint does not hold the circle of its training images: give x,y,r"
        )
    circle, size = preprocessing.image_circle, preprocessing.image_size

    def scaled(view: View) -> Circle:
        x, y = view.to_image(np.array([circle.x, circle.y]), size)
        return Circle(x, y, circle.radius * view.side / size)

    return scaled


def read_image(path: Path) -> Image | str:
    """Return a file's image (H, W, 3) RGB, or why there is none.

    Orientation in EXIF is applied; gray becomes RGB, alpha is dropped, 16 bit become 8.
    """
    if not path.is_file():
        return "a folder" if path.is_dir() else "no regular file"
    try:
        if reason := _refusal(path):
            return reason
        data = path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    image = decode(np.frombuffer(data, np.uint8))
    return "not an image, or damaged" if image is None else image


def _refusal(path: Path) -> str:
    """Return why a file is not worth decoding, by its size and its header alone; empty if it is."""
    size = path.stat().st_size
    if size == 0:
        return "empty"
    if size > _MOST_BYTES:
        return f"{size >> 20} MiB: images of up to {_MOST_BYTES >> 20} MiB are read"
    try:
        with PIL.Image.open(path) as header:
            width, height = header.size
    except PIL.Image.DecompressionBombError:
        return f"too large: images of up to {_MOST_PIXELS // 1_000_000} megapixels are read"
    except Exception:  # bytes that are no image can raise anything
        return "not an image, or damaged"
    if width * height > _MOST_PIXELS:
        return f"{width}x{height}: images of up to {_MOST_PIXELS // 1_000_000} megapixels are read"
    return ""


def _reduced(image: Image) -> Image:
    factor = _CANVAS_SIDE / max(image.shape[:2])
    if factor >= 1:
        return image
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
