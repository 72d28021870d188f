"""Operations and bytes of a training step, counted without computing it: what a device needs for it at least."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from engine.stages import STAGES, ModelConfig, StageName
from loaders import PoseBatch
from models.camera import IN_IMAGE
from models.heatmap_net import Backbone
from models.skeleton import JOINTS

_PRODUCTS: Final = ("convolution", "mm", "addmm", "bmm")
"""Operators whose results cannot be made on the fly while another one reads them."""
_ADAM: Final = 28
"""Bytes of fused Adam per parameter: weight, gradient and two moments read, weight and moments written, in float32."""


def count(stage: StageName, backbone: Backbone, image_size: int, batch_size: int) -> dict[str, float]:
    """Return per image, forward and backward in bfloat16, the GFLOP of matrix products and the MB at least.

    A multiplication and an addition are two operations. The bytes are those that products and optimizer read and write:
    all else could be done while those do.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        built = STAGES[stage](ModelConfig(backbone=backbone), image_size)
        with _default_dtype(torch.bfloat16):
            model = built.build_model()
        batch = PoseBatch(
            image=torch.zeros(batch_size, 3, image_size, image_size, dtype=torch.uint8) if built.outputs else None,
            joints_2d=torch.zeros(batch_size, len(JOINTS), 2),
            joints_3d=torch.zeros(batch_size, len(JOINTS), 3),
            visible=torch.full((batch_size, len(JOINTS)), IN_IMAGE, dtype=torch.uint8),
            meta=torch.zeros(batch_size, 4, dtype=torch.int32),
            index=torch.zeros(batch_size, dtype=torch.int64),
        )
        # as autocast has it on a GPU; on a CPU it leaves more in float32
        model.register_forward_pre_hook(lambda _, given: tuple(map(_in_bfloat16, given)))
        with FlopCounterMode(display=False) as operations, _ProductBytes() as moved:
            terms = built.forward_and_loss(model, batch)[1]
            torch.stack([term.float() for term in terms.values()]).sum().backward()
    optimizer = _ADAM * sum(parameter.numel() for parameter in model.parameters())
    return {
        "GFLOP per image": operations.get_total_flops() / batch_size / 1e9,
        "MB per image at least": (moved.total + optimizer) / batch_size / 1e6,
    }


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _in_bfloat16(tensor: Tensor) -> Tensor:
    return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor


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
