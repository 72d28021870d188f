"""Batch normalization with the addition and ReLU behind it: one differentiable step on a GPU, plain torch elsewhere."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Twins = tuple[Tensor, Tensor]
"""One tensor twice, for two uses: the gradients of both come to its maker, who adds them while it reads them."""


def norm_relu(norm: nn.Module, x: Tensor, *, relu: bool = True) -> Tensor:
    """Return relu(norm(x)), or norm(x) alone; what it is given may be overwritten."""
    if not _is_fused(norm, x):
        x = norm(x)
        return F.relu(x, inplace=True) if relu else x
    y: Tensor = _FusedNorm.apply(x, norm.weight, norm.bias, None, norm, relu)
    return y


def norm_add_relu(norm: nn.Module, x: Tensor, residual: Tensor, *, twins: bool = False) -> Tensor | Twins:
    """Return relu(norm(x) + residual): a tensor, or on request twins where the step is fused."""
    if not _is_fused(norm, x, residual):
        x = norm(x)
        x += residual
        return F.relu(x, inplace=True)
    y: Twins = _FusedNorm.apply(x, norm.weight, norm.bias, residual, norm, True)
    return y if twins else y[0]


def norm_relu_pool(norm: nn.Module, pool: nn.MaxPool2d, x: Tensor) -> Tensor:
    """Return pool(relu(norm(x))) for windows of 3x3 in steps of 2, padded by 1."""
    if not _is_fused(norm, x):
        y: Tensor = pool(F.relu(norm(x), inplace=True))
    else:
        y = _FusedPool.apply(x, norm.weight, norm.bias, norm)
    return y


def _is_fused(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> bool:
    """Return whether the kernels can do it: training on the current GPU, in channels_last, and not torch.compile."""
    if not (x.is_cuda and norm.training) or torch.compiler.is_compiling():
        return False
    # also a norm that synchronizes processes is one that computes otherwise
    if type(norm) is not nn.BatchNorm2d or not (norm.affine and norm.track_running_stats) or norm.momentum is None:
        return False
    like = residual is None or (residual.shape == x.shape and residual.dtype == x.dtype and _is_rows(residual))
    return (
        like
        and _is_rows(x)
        and x.dtype in (torch.bfloat16, torch.float16, torch.float32)
        and norm.weight.dtype == torch.float32
        and x.shape[1] % 64 == 0
        and x.numel() > x.shape[1]  # torch's error for a single value says it best
        and x.get_device() == torch.cuda.current_device()
        and has_kernels(x.device)
    )


def _is_rows(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Return whether Triton is there for a GPU and finds what it compiles with; warns if not."""
    try:
        from models import norm_kernels  # noqa: PLC0415 - slow to import, and not everywhere

        norm_kernels.try_out(device)
    except Exception as error:  # whatever a compiler, a driver or a GPU may lack
        warnings.warn(f"batch normalization by torch, which is slower: Triton fails: {error}", stacklevel=2)
        return False
    return True


class _FusedNorm(torch.autograd.Function):
    """Normalization, addition and ReLU; with a residual it returns twins."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as torch calls it
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, norm: nn.BatchNorm2d, relu: bool
    ) -> Tensor | Twins:
        from models.norm_kernels import compute_statistics, normalize  # noqa: PLC0415

        stats = compute_statistics(x, norm)
        y, signs = normalize(x, residual, stats, weight, bias, relu=relu)
        ctx.save_for_backward(x, signs, stats, weight, bias)
        ctx.relu = relu
        ctx.set_materialize_grads(False)
        return y if residual is None else (y, y.view_as(y))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from models.norm_kernels import input_gradient, sum_gradients  # noqa: PLC0415

        given = [g.contiguous(memory_format=torch.channels_last) for g in gradients if g is not None]
        if not given:
            return (None,) * 6
        x, signs, *params = ctx.saved_tensors
        twin = given[1] if len(given) > 1 else None
        sums = sum_gradients(given[0], twin, x, signs, params, relu=ctx.relu)
        # a residual's gradient is behind ReLU already
        masked, g = (ctx.relu, given[0]) if sums.residual is None else (False, sums.residual)
        dx = input_gradient(g, x, sums.means, params, relu=masked)
        return dx, sums.weight, sums.bias, sums.residual, None, None


class _FusedPool(torch.autograd.Function):
    """Normalization, ReLU and pooling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        from models.norm_kernels import compute_statistics  # noqa: PLC0415
        from models.pool_kernels import normalize_and_pool  # noqa: PLC0415

        stats = compute_statistics(x, norm)
        y, largest, places = normalize_and_pool(x, stats, weight, bias)
        ctx.save_for_backward(x, largest, places, stats, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from models.norm_kernels import sum_gradients  # noqa: PLC0415
        from models.pool_kernels import pooled_input_gradient  # noqa: PLC0415

        x, largest, places, stats, weight, bias = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        rows = x.numel() // x.shape[1]
        sums = sum_gradients(dy, None, largest, None, (stats, weight, bias), relu=True, rows=rows)
        dx = pooled_input_gradient(dy, places, x, sums.means, stats, weight)
        return dx, sums.weight, sums.bias, None
