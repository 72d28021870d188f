"""Bytes to normalised float planes, in one pass on the CPU."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def fill_planes(pixels: NDArray[np.uint8], planes: NDArray[np.float32]) -> None:
    """Write a picture (H, W, 3 or more), contiguous, 0 to 255, into planes (3, H, W), -1 to 1."""
    count = pixels.shape[0] * pixels.shape[1]
    source = pixels.reshape(count * pixels.shape[2])
    out = planes.reshape(3, count)
    # strides that are constants make vector code
    if pixels.shape[2] == 4:
        _fill(source, out, count, 4)
    else:
        _fill(source, out, count, 3)


@numba.njit(inline="always")
def _fill(source: NDArray[np.uint8], out: NDArray[np.float32], count: int, channels: int) -> None:
    scale = np.float32(1 / 127.5)
    for i in range(count):
        out[0, i] = np.float32(source[channels * i]) * scale - np.float32(1)
        out[1, i] = np.float32(source[channels * i + 1]) * scale - np.float32(1)
        out[2, i] = np.float32(source[channels * i + 2]) * scale - np.float32(1)
