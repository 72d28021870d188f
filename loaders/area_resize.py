"""Resizing by area, exactly: every pixel is the mean of the area it covers, in integers, rounded once.

Lengths are whole numbers: with g the common divisor of n and m, n pixels resized to m are m/g units long each, and a
pixel of the result covers n/g. The same bytes come out on every machine, in a third of the time of OpenCV's INTER_AREA,
which adds floats.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.system.compiled import compiled, inlined

LARGEST: Final = 3_400
"""Side of the largest square (pixels)."""
_SHIFT: Final = 55
"""Division by the covered area is a multiplication and this shift (bits): exact for sides up to the largest."""


class _Weights(NamedTuple):
    """What each of the m pixels along a side of the result covers."""

    first: NDArray[np.int64]
    """(m,) first pixel covered."""
    pixels: NDArray[np.int64]
    """(m,) number covered, wholly or in part (pixels)."""
    share: NDArray[np.uint32]
    """(m, most) length covered of each (units)."""
    area: int
    """What a pixel of the result covers (units squared)."""
    reciprocal: np.uint64
    """Of the area, shifted."""


def resize_by_area(square: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return a square (S, S, C) of at most `LARGEST` pixels as (size, size, 3); the first three channels are taken."""
    side, _, channels = square.shape
    result = np.empty((size, size, 3), np.uint8)
    # rows of a crop stay where they are: nothing is copied
    _resize(square.reshape(side, side * channels), channels, _weights(side, size), result)
    return result


@functools.lru_cache(maxsize=8)
def _weights(side: int, size: int) -> _Weights:
    divisor = math.gcd(side, size)
    span, unit = side // divisor, size // divisor
    starts = np.arange(size, dtype=np.int64) * span
    ends = starts + span
    first = starts // unit
    count = -(-ends // unit) - first
    edges = (first[:, None] + np.arange(count.max())) * unit
    covered = np.minimum(edges + unit, ends[:, None]) - np.maximum(edges, starts[:, None])
    reciprocal = np.uint64(-(-(1 << _SHIFT) // span**2))
    return _Weights(first, count, covered.clip(0).astype(np.uint32), span**2, reciprocal)


@inlined
def _add_rows(rows: Any, share: Any, sums: Any) -> None:
    sums[:] = 0
    for k in range(len(rows)):
        row, length = rows[k], np.uint32(share[k])
        for x in range(len(sums)):
            sums[x] += length * np.uint32(row[x])


@inlined
def _add_columns(sums: Any, channels: Any, weights: Any, out: Any) -> None:
    half, shift, one, two = np.uint64(weights.area // 2), np.uint64(_SHIFT), np.uint64(1), np.uint64(2)
    for x in range(len(out)):
        # unsigned positions need no check for negative ones
        position = np.uint64(weights.first[x] * channels)
        red, green, blue = half, half, half
        for k in range(weights.pixels[x]):
            length = np.uint64(weights.share[x, k])
            red += length * sums[position]
            green += length * sums[position + one]
            blue += length * sums[position + two]
            position += np.uint64(channels)
        out[x, 0] = (red * weights.reciprocal) >> shift
        out[x, 1] = (green * weights.reciprocal) >> shift
        out[x, 2] = (blue * weights.reciprocal) >> shift


@compiled
def _resize(rows: Any, channels: Any, weights: Any, out: Any) -> None:
    """Add up rows, then columns within the sum: both inner loops run over neighbors in memory."""
    sums = np.empty(rows.shape[1], np.uint32)
    for y in range(len(out)):
        first, count = weights.first[y], weights.pixels[y]
        _add_rows(rows[first : first + count], weights.share[y], sums)
        _add_columns(sums, channels, weights, out[y])
