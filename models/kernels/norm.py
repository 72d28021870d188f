"""Triton kernels of batch normalization, addition and ReLU over rows of channels; `models.fused_norm` differentiates.

A GPU's memory sets how fast they can be, so each reads and writes every activation once, and sums are shifted sums of
squares: Welford's recurrence divides at every element, and instructions become the limit. Activations are (M, C) rows,
the memory of a channels_last tensor. Parameters, statistics and sums are float32. C must be a multiple of `CHANNELS`.
"""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

CHANNELS: Final = 64
"""Channels come in multiples of it."""

Params = tuple[Tensor, Tensor, Tensor]
"""Statistics, weight and bias."""

_ELEMENTS: Final = 8192
"""Of a tile: 32 for each of 256 threads, so that a thread waits for four loads of 16 bytes at a time."""
_WARPS: Final = 8
_PROGRAMS: Final = 8
"""Of summing kernels, per multiprocessor: it holds two or four at a time, and the later ones even out the ends."""


@triton.jit
def _sum_values(x, partial, M, C, D: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr):
    """Sum x - k and (x - k)^2 over rows, where k is row 0: a large mean does not cancel."""
    tiles = C // BC
    splits = tl.num_programs(0) // tiles
    split = tl.program_id(0) // tiles
    columns = tl.program_id(0) % tiles * BC + tl.arange(0, BC)
    rows = tl.arange(0, BM)[:, None]
    offsets = rows * C + columns[None, :]
    k = tl.load(x + columns)[None, :]
    shift = k.to(tl.float32)
    start = x + split.to(tl.int64) * (D * BM) * C  # offsets within a tile fit 32 bits, those of tiles need not
    left = M - split * (D * BM)
    total = tl.zeros([BM, BC], tl.float32)
    square = tl.zeros([BM, BC], tl.float32)
    for _ in range(split, tl.cdiv(M, D * BM), splits):
        for d in tl.static_range(D):
            value = tl.load(start + d * BM * C + offsets, mask=rows < left - d * BM, other=k).to(tl.float32) - shift
            total += value
            square += value * value
        start += splits.to(tl.int64) * (D * BM) * C
        left -= splits * (D * BM)
    tl.store(partial + split * C + columns, tl.sum(total, axis=0))
    tl.store(partial + (splits + split) * C + columns, tl.sum(square, axis=0))


@triton.jit
def _finish_statistics(
    x,
    partial,
    stats,
    running_mean,
    running_var,
    tracked,
    M,
    C,
    splits,
    eps,
    momentum,
    S: tl.constexpr,
    BC: tl.constexpr,
):
    """Make mean and 1 / standard deviation of the sums, and follow them with the running statistics."""
    columns = tl.program_id(0) * BC + tl.arange(0, BC)
    split = tl.arange(0, S)[:, None]
    sums = partial + split * C + columns[None, :]
    total = tl.sum(tl.load(sums, mask=split < splits, other=0.0), axis=0)
    square = tl.sum(tl.load(sums + splits * C, mask=split < splits, other=0.0), axis=0)
    count = M.to(tl.float32)
    offset = total / count
    mean = tl.load(x + columns).to(tl.float32) + offset
    var = tl.maximum(square / count - offset * offset, 0.0)
    tl.store(stats + columns, mean)
    tl.store(stats + C + columns, 1.0 / tl.sqrt(var + eps))
    old_mean = tl.load(running_mean + columns)
    old_var = tl.load(running_var + columns)
    tl.store(running_mean + columns, old_mean + momentum * (mean - old_mean))
    tl.store(running_var + columns, old_var + momentum * (var * (count / (count - 1.0)) - old_var))
    if tl.program_id(0) == 0:
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit
def _bytes(start, C, BM: tl.constexpr, BC: tl.constexpr):
    """Return where the signs lie of a tile whose rows start at an element."""
    columns = tl.program_id(0) % (C // BC) * (BC // 8) + tl.arange(0, BC // 8)
    return start // 8 + tl.arange(0, BM)[:, None] * (C // 8) + columns[None, :]


@triton.jit
def _normalize(
    x,
    residual,
    y,
    signs,
    stats,
    weight,
    bias,
    other_stats,
    other_weight,
    other_bias,
    M,
    C,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    BOTH: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    """Write y; with ADD also a bit for each of its values that ReLU let through, of eight channels in a byte.

    With BOTH, what is added is normalized too.
    """
    tiles = C // BC
    # the last rows first: they were summed last, and are still in the cache
    tile = tl.cdiv(M, BM) - 1 - tl.program_id(0) // tiles
    columns = tl.program_id(0) % tiles * BC + tl.arange(0, BC)
    offsets = tl.arange(0, BM)[:, None] * C + columns[None, :]
    inside = tl.arange(0, BM)[:, None] < M - tile * BM
    start = tile.to(tl.int64) * BM * C
    value = tl.load(x + start + offsets, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        added = tl.load(residual + start + offsets, mask=inside, other=0.0).to(tl.float32)
    mean = tl.load(stats + columns)[None, :]
    scale = (tl.load(stats + C + columns) * tl.load(weight + columns))[None, :]
    value = (value - mean) * scale + tl.load(bias + columns)[None, :]
    if BOTH:
        added -= tl.load(other_stats + columns)[None, :]
        added *= (tl.load(other_stats + C + columns) * tl.load(other_weight + columns))[None, :]
        added += tl.load(other_bias + columns)[None, :]
    if ADD:
        value += added
    if RELU:
        value = tl.where(value <= 0.0, 0.0, value)  # unlike a maximum, it keeps what is no number
    if ADD:
        # a float above zero is an integer above zero, which takes fewer registers than comparing once more
        bits = tl.minimum(value.to(tl.uint32, bitcast=True), 1) << (tl.arange(0, BC) % 8)[None, :]
        byte = tl.sum(tl.reshape(bits, [BM, BC // 8, 8]), axis=2).to(tl.uint8)
        tl.store(signs + _bytes(start, C, BM, BC), byte, mask=inside)
    tl.store(y + start + offsets, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _sum_gradients(
    dy,
    twin,
    x,
    signs,
    g,
    stats,
    weight,
    bias,
    partial,
    M,
    C,
    RELU: tl.constexpr,
    ADD: tl.constexpr,
    TWIN: tl.constexpr,
    D: tl.constexpr,
    BM: tl.constexpr,
    BC: tl.constexpr,
):
    """Sum g and g (x - mean) over rows, where g = dy behind ReLU; with ADD, also write g.

    With ADD, ReLU is known from signs, else computed again from x: each reads least.
    """
    tiles = C // BC
    splits = tl.num_programs(0) // tiles
    split = tl.program_id(0) // tiles
    columns = tl.program_id(0) % tiles * BC + tl.arange(0, BC)
    rows = tl.arange(0, BM)[:, None]
    offsets = rows * C + columns[None, :]
    mean = tl.load(stats + columns)[None, :]
    scale = (tl.load(stats + C + columns) * tl.load(weight + columns))[None, :]
    shift = tl.load(bias + columns)[None, :]
    start = split.to(tl.int64) * (D * BM) * C
    left = M - split * (D * BM)
    total = tl.zeros([BM, BC], tl.float32)
    product = tl.zeros([BM, BC], tl.float32)
    for _ in range(split, tl.cdiv(M, D * BM), splits):
        for d in tl.static_range(D):
            tile = start + d * BM * C
            inside = rows < left - d * BM
            gradient = tl.load(dy + tile + offsets, mask=inside, other=0.0)
            value = tl.load(x + tile + offsets, mask=inside, other=0.0).to(tl.float32) - mean
            if TWIN:
                other = tl.load(twin + tile + offsets, mask=inside, other=0.0)
                # rounded as a sum that is stored
                gradient = (gradient.to(tl.float32) + other.to(tl.float32)).to(dy.dtype.element_ty)
            if ADD:
                byte = tl.load(signs + _bytes(tile, C, BM, BC), mask=inside, other=0)
                byte = tl.reshape(tl.broadcast_to(byte[:, :, None], [BM, BC // 8, 8]), [BM, BC])
                gradient = tl.where((byte >> tl.arange(0, BC) % 8) & 1 == 0, 0.0, gradient)
                tl.store(g + tile + offsets, gradient, mask=inside)
            elif RELU:
                gradient = tl.where(value * scale + shift <= 0.0, 0.0, gradient)
            gradient = gradient.to(tl.float32)
            total += gradient
            product += gradient * value
        start += splits.to(tl.int64) * (D * BM) * C
        left -= splits * (D * BM)
    tl.store(partial + split * C + columns, tl.sum(total, axis=0))
    tl.store(partial + (splits + split) * C + columns, tl.sum(product, axis=0))


@triton.jit
def _finish_gradients(partial, stats, dweight, dbias, means, M, C, splits, S: tl.constexpr, BC: tl.constexpr):
    """Make gradients of weight and bias of the sums, and the means of g and, by standard deviation, of g x^."""
    columns = tl.program_id(0) * BC + tl.arange(0, BC)
    split = tl.arange(0, S)[:, None]
    sums = partial + split * C + columns[None, :]
    total = tl.sum(tl.load(sums, mask=split < splits, other=0.0), axis=0)
    product = tl.sum(tl.load(sums + splits * C, mask=split < splits, other=0.0), axis=0)
    inverse = tl.load(stats + C + columns)
    product *= inverse
    count = M.to(tl.float32)
    tl.store(dweight + columns, product)
    tl.store(dbias + columns, total)
    tl.store(means + columns, total / count)
    tl.store(means + C + columns, product * inverse / count)


@triton.jit
def _input_gradient(g, x, dx, stats, weight, bias, means, M, C, RELU: tl.constexpr, BM: tl.constexpr, BC: tl.constexpr):
    """Write dx = scale (g - mean of g - (x - mean) / standard deviation * mean of g x^)."""
    tiles = C // BC
    tile = tl.cdiv(M, BM) - 1 - tl.program_id(0) // tiles
    columns = tl.program_id(0) % tiles * BC + tl.arange(0, BC)
    offsets = tl.arange(0, BM)[:, None] * C + columns[None, :]
    inside = tl.arange(0, BM)[:, None] < M - tile * BM
    start = tile.to(tl.int64) * BM * C
    gradient = tl.load(g + start + offsets, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(x + start + offsets, mask=inside, other=0.0).to(tl.float32)
    value -= tl.load(stats + columns)[None, :]
    scale = (tl.load(stats + C + columns) * tl.load(weight + columns))[None, :]
    if RELU:
        gradient = tl.where(value * scale + tl.load(bias + columns)[None, :] <= 0.0, 0.0, gradient)
    gradient -= tl.load(means + columns)[None, :] + value * tl.load(means + C + columns)[None, :]
    tl.store(dx + start + offsets, (gradient * scale).to(dx.dtype.element_ty), mask=inside)


class _Launch(NamedTuple):
    """How the kernels are started for rows of some size."""

    values: dict[str, Any]
    """Constants of the kernel that sums values; below, of those that sum gradients, finish sums, treat each element."""
    gradients: dict[str, Any]
    residual_gradients: dict[str, Any]
    finish: dict[str, Any]
    each: dict[str, Any]
    splits: int
    """How many parts the rows are summed in."""
    grids: tuple[tuple[int], tuple[int], tuple[int]]
    """How many programs sum, finish, or treat each element."""


@functools.cache
def _launch(rows: int, channels: int, device: torch.device) -> _Launch:
    # Triton's interpreter, on a CPU, runs one program after the other
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    width = 128 if channels % 128 == 0 else CHANNELS
    height = _ELEMENTS // width
    columns, tiles = channels // width, -(-rows // height)
    splits = min(max(_PROGRAMS * processors // columns, 1), tiles)
    parts = triton.next_power_of_2(splits)
    narrow = min(max(_ELEMENTS // parts, 8), CHANNELS)
    options = {"num_warps": _WARPS, "enable_fp_fusion": True}
    # D parts of a tile: all their loads should be under way at once, in registers that leave room for other programs
    return _Launch(
        {"D": 4, "BM": height // 4, "BC": width, **options},
        {"D": 2, "BM": height // 2, "BC": width, **options},
        {"D": 2, "BM": height // 4, "BC": width, **options},
        {"S": parts, "BC": narrow, **options},
        {"BM": height, "BC": width, **options},
        splits,
        ((splits * columns,), (channels // narrow,), (tiles * columns,)),
    )


def compute_statistics(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Return (2, C) of (N, C, H, W): mean and 1 / standard deviation, which the norm's running statistics follow."""
    channels = x.shape[1]
    rows = x.numel() // channels
    launch = _launch(rows, channels, x.device)
    partial = torch.empty(2, launch.splits, channels, device=x.device)
    stats = torch.empty(2, channels, device=x.device)
    running = (norm.running_mean, norm.running_var, norm.num_batches_tracked)
    sums, finish, _ = launch.grids
    _sum_values[sums](x, partial, rows, channels, **launch.values)
    _finish_statistics[finish](
        x, partial, stats, *running, rows, channels, launch.splits, norm.eps, norm.momentum, **launch.finish
    )
    return stats


def normalize(
    x: Tensor, params: Params, residual: Tensor | None = None, residual_params: Params | None = None, *, relu: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the normalized tensor (N, C, H, W), plus the residual, and without what is negative if ``relu``.

    A residual is normalized too if it has parameters. With one there also are signs: bits of what is above zero,
    (N H W, C / 8) bytes.
    """
    channels = x.shape[1]
    rows = x.numel() // channels
    launch = _launch(rows, channels, x.device)
    y = torch.empty_like(x)
    add = residual is not None
    signs = torch.empty(rows, channels // 8, dtype=torch.uint8, device=x.device) if add else None
    both = residual_params is not None
    _normalize[launch.grids[2]](
        *(x, residual, y, signs, *params, *(residual_params or params), rows, channels),
        **{"RELU": relu, "ADD": add, "BOTH": both},
        **launch.each,
    )
    return y, signs


def try_out(device: torch.device) -> None:
    """Compile and run what computes statistics, so that whatever Triton lacks shows here."""
    compute_statistics(torch.zeros(1, CHANNELS, 2, 2, device=device), nn.BatchNorm2d(CHANNELS, device=device))


class Sums(NamedTuple):
    """What sums over gradients give."""

    weight: Tensor
    """Gradient (C,) of the weight, and below of the bias."""
    bias: Tensor
    means: Tensor
    """(2, C), of which the gradient of the input is made."""
    residual: Tensor | None
    """Gradient (N, C, H, W) of the residual, if there was one."""


def sum_gradients(
    dy: Tensor,
    twin: Tensor | None,
    x: Tensor,
    signs: Tensor | None,
    params: Params,
    *,
    relu: bool,
    rows: int | None = None,
) -> Sums:
    """Return gradients of weight, bias and residual.

    Args:
        dy: gradient of the result (N, C, H, W).
        twin: another one, to be added; only with a residual.
        x: what was normalized.
        signs: those of the result if a residual was added.
        params: what x was normalized with.
        relu: whether what is negative was taken away.
        rows: how many rows were normalized, if x is a selection of them, outside of which the gradient is zero.
    """
    stats, weight, bias = params
    channels = x.shape[1]
    given = x.numel() // channels
    launch = _launch(given, channels, x.device)
    partial = torch.empty(2, launch.splits, channels, device=x.device)
    means, dweight, dbias = torch.empty_like(stats), torch.empty_like(weight), torch.empty_like(bias)
    g = None if signs is None else torch.empty_like(x)
    sums, finish, _ = launch.grids
    _sum_gradients[sums](
        *(dy, twin, x, signs, g, stats, weight, bias, partial, given, channels),
        **{"RELU": relu, "ADD": g is not None, "TWIN": twin is not None},
        **(launch.gradients if g is None else launch.residual_gradients),
    )
    _finish_gradients[finish](
        partial, stats, dweight, dbias, means, rows or given, channels, launch.splits, **launch.finish
    )
    return Sums(dweight, dbias, means, g)


def input_gradient(g: Tensor, x: Tensor, means: Tensor, params: Params, *, relu: bool) -> Tensor:
    """Return the gradient of x, given that of the normalized tensor; of what is behind ReLU if ``relu``."""
    channels = x.shape[1]
    rows = x.numel() // channels
    launch = _launch(rows, channels, x.device)
    dx = torch.empty_like(x)
    _input_gradient[launch.grids[2]](g, x, dx, *params, means, rows, channels, RELU=relu, **launch.each)
    return dx
