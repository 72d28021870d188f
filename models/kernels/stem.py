"""Triton kernels of a ResNet's stem: what it convolves, and batch normalization, ReLU and maximum pooling behind it.

The large normalized tensor is never stored.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import triton
import triton.language as tl
from torch import Tensor

_LAUNCH: Final[dict[str, Any]] = {"BM": 32, "BC": 64, "num_warps": 8, "enable_fp_fusion": True}
"""Tiles of 32 rows: 8 elements for each thread, which waits for the loads of all nine places at a time."""
_SQUARES: Final = 128
"""A tile of bytes, in squares: as many elements."""


@triton.jit
def _normalize_squares(
    image, y, M, sample_step, channel_step, row_step, column_step, H: tl.constexpr, W: tl.constexpr, BM: tl.constexpr
):
    """Write squares of 2x2 pixels as 16 channels, 4 of them zero, with 2 zero squares before and 1 behind."""
    square = tl.program_id(0) * BM + tl.arange(0, BM)[:, None]
    channel = tl.arange(0, 16)[None, :]
    height: tl.constexpr = H // 2 + 3
    width: tl.constexpr = W // 2 + 3
    row = (square // width % height - 2) * 2 + channel // 6
    column = (square % width - 2) * 2 + channel // 3 % 2
    inside = (square < M) & (channel < 12) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
    start = image + (square // (width * height)).to(tl.int64) * sample_step
    source = start + channel % 3 * channel_step + row * row_step + column * column_step
    # the factor is rounded, but in 16 bits the values are those of a division
    value = (tl.load(source, mask=inside, other=0).to(tl.float32) - 127.5) * (1 / 127.5)
    target = y + square.to(tl.int64) * 16 + channel
    tl.store(target, tl.where(inside, value, 0.0).to(y.dtype.element_ty), mask=square < M)


@triton.jit
def _pool(
    x,
    y,
    largest,
    places,
    stats,
    weight,
    bias,
    M,
    C,
    H: tl.constexpr,
    W: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    """Write the pooled y, the x that it was made of, and where that is: 4 row + column, 16 behind ReLU's zero."""
    tiles = C // BC
    columns = (tl.program_id(0) % tiles * BC + tl.arange(0, BC))[None, :]
    row = tl.program_id(0) // tiles * BM + tl.arange(0, BM)
    inside = (row < M)[:, None]
    row = tl.minimum(row, M - 1)
    height: tl.constexpr = (H + 1) // 2
    width: tl.constexpr = (W + 1) // 2
    top = row // width % height * 2 - 1
    left = row % width * 2 - 1
    sample = row // (width * height) * H
    mean = tl.load(stats + columns)
    scale = tl.load(stats + C + columns) * tl.load(weight + columns)
    shift = tl.load(bias + columns)
    best = tl.full([BM, BC], float("-inf"), tl.float32)
    source = tl.zeros([BM, BC], tl.float32)
    place = tl.zeros([BM, BC], tl.int32)
    # the middle first: what lies outside is replaced by the middle's row or column, and never larger
    for down in tl.static_range(3):
        h = tl.minimum(tl.maximum(top + (down + 1) % 3, 0), H - 1)
        for right in tl.static_range(3):
            w = tl.minimum(tl.maximum(left + (right + 1) % 3, 0), W - 1)
            value = tl.load(x + ((sample + h) * W + w).to(tl.int64)[:, None] * C + columns).to(tl.float32)
            normal = (value - mean) * scale + shift
            kept = normal <= best
            best = tl.where(kept, best, normal)
            source = tl.where(kept, source, value)
            place = tl.where(kept, place, 4 * ((down + 1) % 3) + (right + 1) % 3)
    offsets = row.to(tl.int64)[:, None] * C + columns
    tl.store(y + offsets, tl.where(best < 0.0, 0.0, best).to(y.dtype.element_ty), mask=inside)
    tl.store(largest + offsets, source.to(largest.dtype.element_ty), mask=inside)
    tl.store(places + offsets, tl.where(best <= 0.0, 16, place).to(tl.int8), mask=inside)


@triton.jit
def _input_gradient(
    dy,
    places,
    x,
    dx,
    stats,
    weight,
    means,
    M,
    C,
    H: tl.constexpr,
    W: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    """Gather the gradients of the windows, four at most, that an element may be the largest of, and write dx."""
    tiles = C // BC
    columns = (tl.program_id(0) % tiles * BC + tl.arange(0, BC))[None, :]
    row = tl.program_id(0) // tiles * BM + tl.arange(0, BM)
    inside = (row < M)[:, None]
    row = tl.minimum(row, M - 1)
    height: tl.constexpr = (H + 1) // 2
    width: tl.constexpr = (W + 1) // 2
    h = row // W % H
    w = row % W
    sample = row // (W * H) * height
    offsets = row.to(tl.int64)[:, None] * C + columns
    value = tl.load(x + offsets).to(tl.float32) - tl.load(stats + columns)
    gradient = tl.zeros([BM, BC], tl.float32)
    for i in tl.static_range(2):
        for j in tl.static_range(2):
            a = (h + 1) // 2 - i
            b = (w + 1) // 2 - j
            # in a window too far before it, an element would have row or column 3, which no place has
            own = tl.where((a < height) & (b < width), 4 * (h - 2 * a + 1) + w - 2 * b + 1, -1)
            a = tl.minimum(tl.maximum(a, 0), height - 1)
            b = tl.minimum(tl.maximum(b, 0), width - 1)
            window = ((sample + a) * width + b).to(tl.int64)[:, None] * C + columns
            place = tl.load(places + window).to(tl.int32)
            gradient += tl.where(place == own[:, None], tl.load(dy + window).to(tl.float32), 0.0)
    scale = tl.load(stats + C + columns) * tl.load(weight + columns)
    gradient -= tl.load(means + columns) + value * tl.load(means + C + columns)
    tl.store(dx + offsets, (gradient * scale).to(dx.dtype.element_ty), mask=inside)


def normalize_squares(image: Tensor, dtype: torch.dtype) -> Tensor:
    """Return bytes (B, 3, H, W) as -1 to 1 in a type of 16 bits: padded squares (B, 16, H / 2 + 3, W / 2 + 3)."""
    samples, _, height, width = image.shape
    shape = samples, 16, height // 2 + 3, width // 2 + 3
    y = torch.empty(shape, dtype=dtype, device=image.device, memory_format=torch.channels_last)
    squares = y.numel() // 16
    _normalize_squares[(triton.cdiv(squares, _SQUARES),)](
        image, y, squares, *image.stride(), height, width, BM=_SQUARES
    )
    return y


def normalize_and_pool(x: Tensor, stats: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return relu(norm(x)) pooled by windows 3x3 in steps of 2, the x that it was made of, and their places (int8).

    Shapes: (N, C, H, W) -> three of (N, C, ceil(H / 2), ceil(W / 2)).
    """
    samples, channels, height, width = x.shape
    shape = samples, channels, (height + 1) // 2, (width + 1) // 2
    y, largest = (torch.empty_like(x[:, :, ::2, ::2], memory_format=torch.channels_last) for _ in range(2))
    places = torch.empty(shape, dtype=torch.int8, device=x.device, memory_format=torch.channels_last)
    rows = y.numel() // channels
    _pool[_grid(rows, channels)](x, y, largest, places, stats, weight, bias, rows, channels, height, width, **_LAUNCH)
    return y, largest, places


def pooled_input_gradient(
    dy: Tensor, places: Tensor, x: Tensor, means: Tensor, stats: Tensor, weight: Tensor
) -> Tensor:
    """Return the gradient (N, C, H, W) of x, given that of the pooled tensor."""
    _, channels, height, width = x.shape
    dx = torch.empty_like(x)
    rows = x.numel() // channels
    _input_gradient[_grid(rows, channels)](
        dy, places, x, dx, stats, weight, means, rows, channels, height, width, **_LAUNCH
    )
    return dx


def _grid(rows: int, channels: int) -> tuple[int]:
    return (triton.cdiv(rows, _LAUNCH["BM"]) * channels // _LAUNCH["BC"],)
