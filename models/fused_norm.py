"""Batch normalization with the addition and ReLU behind it: one differentiable step on a GPU, plain torch elsewhere."""

from __future__ import annotations

import functools
import warnings
from typing import Any, cast

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


def norm_add_relu(
    norm: nn.Module, x: Tensor, residual: Tensor, residual_norm: nn.Module | None = None, *, twins: bool = False
) -> Tensor | Twins:
    """Return relu(norm(x) + residual), which may have a norm too: a tensor, or on request twins where it is fused."""
    y: Twins
    if residual_norm and _is_fused(norm, x, residual) and _is_fused(residual_norm, residual):
        params = norm.weight, norm.bias, residual_norm.weight, residual_norm.bias
        y = _FusedNorms.apply(x, residual, *params, norm, residual_norm)
        return y if twins else y[0]
    if residual_norm:
        residual = norm_relu(residual_norm, residual, relu=False)
    if not _is_fused(norm, x, residual):
        x = norm(x)
        x += residual
        return F.relu(x, inplace=True)
    y = _FusedNorm.apply(x, norm.weight, norm.bias, residual, norm, True)
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
        and runs_kernels(x)
    )


def _is_rows(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def runs_kernels(x: Tensor) -> bool:
    """Return whether Triton's kernels can be started for a tensor: on the current GPU, and not by torch.compile."""
    if not x.is_cuda or torch.compiler.is_compiling() or x.get_device() != torch.cuda.current_device():
        return False
    return has_kernels(x.device)


@functools.cache
def has_kernels(device: torch.device) -> bool:
    """Return whether Triton is there for a GPU and finds what it compiles with; warns if not."""
    try:
        from models.kernels.norm import try_out  # noqa: PLC0415 - slow to import, and not everywhere

        try_out(device)
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
        from models.kernels.norm import compute_statistics, normalize  # noqa: PLC0415

        stats = compute_statistics(x, norm)
        y, signs = normalize(x, (stats, weight, bias), residual, relu=relu)
        ctx.save_for_backward(x, signs, stats, weight, bias)
        ctx.relu = relu
        ctx.set_materialize_grads(False)
        return y if residual is None else (y, y.view_as(y))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from models.kernels.norm import input_gradient, sum_gradients  # noqa: PLC0415

        dy, twin = _dense(gradients)
        if dy is None:
            return (None,) * 6
        x, signs, *params = ctx.saved_tensors
        sums = sum_gradients(dy, twin, x, signs, params, relu=ctx.relu)
        # a residual's gradient is behind ReLU already
        masked, g = (ctx.relu, dy) if sums.residual is None else (False, sums.residual)
        dx = input_gradient(g, x, sums.means, params, relu=masked)
        return dx, sums.weight, sums.bias, sums.residual, None, None


class _FusedNorms(torch.autograd.Function):
    """Normalization of two tensors, addition and ReLU; it returns twins."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as torch calls it
        ctx: Any,
        x: Tensor,
        residual: Tensor,
        weight: Tensor,
        bias: Tensor,
        residual_weight: Tensor,
        residual_bias: Tensor,
        norm: nn.BatchNorm2d,
        residual_norm: nn.BatchNorm2d,
    ) -> Twins:
        from models.kernels.norm import compute_statistics, normalize  # noqa: PLC0415

        params = compute_statistics(x, norm), weight, bias
        residual_params = compute_statistics(residual, residual_norm), residual_weight, residual_bias
        y, signs = normalize(x, params, residual, residual_params, relu=True)
        ctx.save_for_backward(signs, x, residual, *params, *residual_params)
        ctx.set_materialize_grads(False)
        return y, y.view_as(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from models.kernels.norm import input_gradient, sum_gradients  # noqa: PLC0415

        dy, twin = _dense(gradients)
        if dy is None:
            return (None,) * 8
        signs, x, residual, *params = ctx.saved_tensors
        own, other = params[:3], params[3:]
        sums = sum_gradients(dy, twin, x, signs, own, relu=True)
        g = cast(Tensor, sums.residual)
        others = sum_gradients(g, None, residual, None, other, relu=False)
        dx = input_gradient(g, x, sums.means, own, relu=False)
        dresidual = input_gradient(g, residual, others.means, other, relu=False)
        return dx, dresidual, sums.weight, sums.bias, others.weight, others.bias, None, None


def _dense(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, Tensor | None]:
    """Return a gradient and its twin, as far as they are given, in channels_last."""
    given = [g.contiguous(memory_format=torch.channels_last) for g in gradients if g is not None]
    return given[0] if given else None, given[1] if len(given) > 1 else None


class _FusedPool(torch.autograd.Function):
    """Normalization, ReLU and pooling."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        from models.kernels.norm import compute_statistics  # noqa: PLC0415
        from models.kernels.stem import normalize_and_pool  # noqa: PLC0415

        stats = compute_statistics(x, norm)
        y, largest, places = normalize_and_pool(x, stats, weight, bias)
        ctx.save_for_backward(x, largest, places, stats, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        from models.kernels.norm import sum_gradients  # noqa: PLC0415
        from models.kernels.stem import pooled_input_gradient  # noqa: PLC0415

        x, largest, places, stats, weight, bias = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        rows = x.numel() // x.shape[1]
        sums = sum_gradients(dy, None, largest, None, (stats, weight, bias), relu=True, rows=rows)
        dx = pooled_input_gradient(dy, places, x, sums.means, stats, weight)
        return dx, sums.weight, sums.bias, None
