"""What training images went through before the network saw them, for other images to go through the same.

A network that learnt from JPEGs has learnt their blurred colors as well: shown the same frames sharper, the demo's
places joints 5 mm elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import decode, encode_jpeg
from loaders.format.manifest import Manifest

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Preprocessing:
    """How ``tools.shard`` stored the images of a shard set."""

    size: int
    """Side (pixels)."""
    quality: int | None
    """Of the JPEG (1 to 100); None for a lossless form."""

    @classmethod
    def of(cls, manifest: Manifest) -> Preprocessing | None:
        """Return a shard set's form; None if it stores the frames as they are."""
        options = manifest.options
        if options["image_format"] == "source":
            return None
        return cls(options["image_size"], options["quality"] if options["image_format"] == "jpeg" else None)

    def apply(self, square: Image) -> Image:
        """Return a square (S, S, 3) as a loader would read it: for the dataset's own frames, to the same bits.

        One that has the stored size already is taken for a stored image, and is not encoded once more.
        """
        if len(square) == self.size:
            return square
        from loaders.area_resize import LARGEST, resize_by_area  # noqa: PLC0415 - a compiler, slow to import

        side = len(square)
        if self.size < side <= LARGEST:
            stored = resize_by_area(np.ascontiguousarray(square), 0, side, self.size)
        else:
            stored = fit(square, self.size)
        if self.quality is None:
            return stored
        read = decode(np.frombuffer(encode_jpeg(stored, self.quality), np.uint8))
        assert read is not None
        return read


def fit(square: Image, size: int) -> Image:
    """Return a square (S, S, 3) resized to ``size`` x ``size`` pixels, as the loaders do it."""
    if len(square) == size:
        return square
    smooth = cv2.INTER_AREA if len(square) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (size, size), interpolation=smooth), np.uint8)
