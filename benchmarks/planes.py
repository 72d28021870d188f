"""Bytes to normalised float32 planes, as users of other loaders have them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ToPlanes:
    """Turns uint8 channels_last batches into float32 (B, 3, H, W) in [-1, 1], contiguous.

    On the CPU threads fill one buffer, again and again: torch's own operations need several passes over the floats.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._levels = (np.arange(256) / 127.5 - 1).astype(np.float32)
        self._out = torch.empty(0)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the planes; the next call overwrites them."""
        if image.device.type != "cpu":
            return image.contiguous().float().mul_(1 / 127.5).sub_(1)
        if self._out.shape != image.shape:
            self._out = torch.empty(image.shape)
        out = self._out
        list(self._pool.map(self._fill, image.permute(0, 2, 3, 1).numpy(), out.numpy()))
        return out

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def _fill(self, pixels: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
        for plane, channel in zip(planes, cv2.split(pixels), strict=True):
            cv2.LUT(channel, self._levels, dst=plane)
