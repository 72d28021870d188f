"""Operations and bytes of a training step, counted without computing it: what a device needs for it at least."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.profiling.flops import fake_step, flop_per_image
from engine.stages import STAGES, ModelConfig, StageName
from models.heatmap_net import Backbone

_PRODUCTS: Final = ("convolution", "mm", "addmm", "bmm")
"""Operators whose results cannot be made on the fly while another one reads them."""
_ADAM: Final = 28
"""Bytes of fused Adam per parameter: weight, gradient and two moments read, weight and moments written, in float32."""


def count(stage: StageName, backbone: Backbone, image_size: int, batch_size: int) -> dict[str, float]:
    """Return per image, forward and backward in bfloat16, the GFLOP of matrix products and the MB at least.

    A multiplication and an addition are two operations. The bytes are those that products and optimizer read and write:
    all else could be done while those do.
    """
    built = STAGES[stage](ModelConfig(backbone=backbone), image_size)
    moved = _ProductBytes()
    model = fake_step(built, batch_size, [moved], torch.bfloat16)
    optimizer = _ADAM * sum(parameter.numel() for parameter in model.parameters())
    return {
        "GFLOP per image": flop_per_image(built) / 1e9,
        "MB per image at least": (moved.total + optimizer) / batch_size / 1e6,
    }


class _ProductBytes(TorchDispatchMode):
    """Sums the bytes that matrix products read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name.removesuffix("_backward") in _PRODUCTS:
            # the gradients of a convolution's input and of its weights each need the gradient of its result
            again = args[:1] if name == "convolution_backward" else ()
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result, again)) if isinstance(leaf, Tensor)]
            self.total += sum(math.prod(tensor.shape) * tensor.itemsize for tensor in tensors)
        return result
