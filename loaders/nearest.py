"""Values that are no colors, moved with the image: each pixel takes the stored one under its center.

OpenCV and DALI round positions in ways of their own; here all backends take the same pixels, of any type and depth.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Warp = NDArray[np.float64]
"""(2, 3), or (n, 2, 3): from the cropped and resized image's pixels to the augmented image's."""

_OUTSIDE: Final = -1
"""Column or row of a pixel outside the stored image, where all is zero."""


@dataclass(frozen=True)
class NearestPixels:
    """Crop, resize and warp in one, by nearest neighbor."""

    window: tuple[int, int, int]
    """Left, top and side of the crop, in pixels of the stored images."""
    size: int
    """Side of the loaded images (pixels)."""

    @property
    def stay(self) -> bool:
        """Whether a stored image is a loaded one, unless it is warped."""
        return self.window == (0, 0, self.size)

    def move(self, image: NDArray[Any], warp: Warp | None, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return a stored image (H, W, C) as a loaded one (S, S, C); in ``out`` if that is given."""
        sources = self._unwarped if warp is None else self._sources(self._inverse(warp[None]))[0]
        moved: NDArray[Any] = np.empty((self.size, self.size, image.shape[2]), image.dtype) if out is None else out
        # OpenCV writes gray without a last axis
        cv2.remap(image, sources, None, cv2.INTER_NEAREST, moved.squeeze(2) if moved.shape[2] == 1 else moved)  # type: ignore[call-overload]
        return moved

    def move_batch(self, images: Tensor, warps: Warp | None) -> Tensor:
        """Return stored images (n, H, W, C) as loaded ones (n, S, S, C), on their device; the same pixels as `move`."""
        if images.device.type == "cpu":
            stored = images.numpy()
            moved = np.empty((len(stored), self.size, self.size, stored.shape[3]), stored.dtype)
            for i, image in enumerate(stored):
                self.move(image, None if warps is None else warps[i], moved[i])
            return torch.from_numpy(moved)
        n, height, width, channels = images.shape
        if warps is None:
            columns, rows = torch.from_numpy(self._unwarped).to(images.device).long().unbind(-1)
        else:
            ramp = torch.arange(self.size, dtype=torch.float64, device=images.device)
            inverse = torch.from_numpy(self._inverse(warps)).to(images.device)
            columns, rows = _positions(inverse, ramp).floor().long().unbind(1)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        places = torch.where(inside, rows * width + columns, 0).reshape(-1, self.size**2, 1)
        # torch knows few operations of uint16, and none here looks at values
        signed = images.view(torch.int16) if images.dtype == torch.uint16 else images
        taken = signed.reshape(n, -1, channels).gather(1, places.expand(n, -1, channels))
        taken = torch.where(inside.reshape(-1, self.size**2, 1), taken, 0)
        return taken.reshape(n, self.size, self.size, channels).view(images.dtype)

    @functools.cached_property
    def _unwarped(self) -> NDArray[np.int16]:
        """(S, S, 2): column and row of the stored pixel under each center."""
        left, top, side = self.window
        # whole numbers: a center between two pixels takes the later one
        under = (2 * np.arange(self.size) + 1) * side // (2 * self.size)
        return np.stack(np.meshgrid(left + under, top + under), axis=-1).astype(np.int16)

    def _inverse(self, warps: Warp) -> Warp:
        """Return (n, 2, 3): from loaded pixels to places in the stored image, whose pixel i covers i to i + 1."""
        left, top, side = self.window
        scale = side / self.size
        linear = np.linalg.inv(warps[:, :, :2])
        shift = -(linear @ warps[:, :, 2:])
        return np.concatenate([linear * scale, (shift + 0.5) * scale + [[left], [top]]], axis=2)

    def _sources(self, inverse: Warp) -> NDArray[np.int16]:
        """Return (n, S, S, 2): column and row of the stored pixel under each center, for OpenCV."""
        places = np.floor(_positions(inverse, np.arange(self.size, dtype=np.float64)))
        return np.moveaxis(places.clip(_OUTSIDE, np.iinfo(np.int16).max).astype(np.int16), 1, -1)


def _positions(inverse: Any, ramp: Any) -> Any:
    """Return (n, 2, S, S): where pixels come from; each number the same on NumPy and torch, CPU and GPU."""
    along = inverse[:, :, 0, None] * ramp + inverse[:, :, 2, None]
    across = inverse[:, :, 1, None] * ramp
    return along[:, :, None, :] + across[:, :, :, None]
