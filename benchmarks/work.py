"""Operations and bytes of training, counted, and what a GPU needs for them at least: ``python -m benchmarks.work``."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine
from benchmarks.harness import RESULTS, at_least
from benchmarks.results import heading, table, write_result
from engine.cli.command import OK, Command, command
from engine.stages import STAGES, Backbone, ModelConfig, Stage, StageName
from loaders import PoseBatch
from models.skeleton import JOINTS

_PRODUCTS: Final = ("convolution", "mm", "addmm", "bmm")
"""Operators whose results cannot be made on the fly while another reads them."""
_READ_TWICE: Final = {"native_batch_norm": (0,), "native_batch_norm_backward": (0, 1), "convolution_backward": (0,)}
"""Arguments that an operator passes over twice: BatchNorm for its statistics and for its result, a convolution's
backward for the gradients of its input and of its weights."""
_ADAM: Final = 28
"""Bytes of fused Adam per parameter: weight, gradient and two moments read, weight and moments written, in float32."""


@dataclass(frozen=True, kw_only=True)
class WorkFlags(Command):
    """Flags of ``benchmarks.work``; the GPU's numbers are an H200's."""

    image_size: int = 368
    """Side of the images (pixels)."""
    batch_size: int = 128
    """Samples of a step, which share the reading of weights and the optimizer (samples)."""
    backbones: tuple[Backbone, ...] = ("resnet50", "resnet101")
    """Trunks of the heatmap network."""
    peak: float = 989.0
    """Most multiply-and-add rate of the GPU, dense bfloat16 (TFLOP/s)."""
    bandwidth: float = 4.8
    """Most of what the GPU's memory delivers (TB/s)."""
    output: Path = RESULTS
    """Folder for the result: json and md."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(self, image_size=32, batch_size=1)


@dataclass(frozen=True)
class Work:
    """Of one image, forward and backward, in bfloat16."""

    stage: StageName
    backbone: Backbone | None
    parameters: int
    operations: float
    """Of matrix products and convolutions; a multiplication and an addition are two (FLOP)."""
    traffic: float
    """Bytes that all operators read and write, each by itself."""
    product_traffic: float
    """Bytes of matrix products and convolutions alone: all else done while those read and write."""
    optimizer_traffic: float
    """Bytes of the optimizer's share."""


class Traffic(TorchDispatchMode):
    """Sums the bytes that operators read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0.0
        self.products = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator and note its bytes; views and questions move none."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view and any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            name = func.overloadpacket.__name__
            again = [args[place] for place in _READ_TWICE.get(name, ())]
            moved = sum(leaf.nbytes for leaf in tree_leaves((args, kwargs, result, again)) if isinstance(leaf, Tensor))
            self.total += moved
            if name.removesuffix("_backward") in _PRODUCTS:
                self.products += moved
        return result


@command("benchmarks.work", "Count operations and bytes of training, and the least time a GPU needs for them.")
def main(flags: WorkFlags) -> int:
    """Count and publish."""
    works = [
        count(stage, backbone, flags.image_size, flags.batch_size)
        for stage in STAGES.values()
        for backbone in (flags.backbones if stage.outputs else flags.backbones[:1])
    ]
    content = {
        "benchmark": "work",
        **machine.origin("benchmarks.work"),
        "configuration": {"image_size": flags.image_size, "batch_size": flags.batch_size},
        "gpu": {"peak_tflops": flags.peak, "bandwidth_tb_s": flags.bandwidth},
        "works": [dataclasses.asdict(work) for work in works],
    }
    shown = work_table(works, flags)
    page = [
        *heading("Work of training", content),
        f"Counted, not measured: per image of {flags.image_size} pixels, forward and backward, bfloat16, batches of "
        f"{flags.batch_size}. Floors: images/s that {flags.peak:g} TFLOP/s and {flags.bandwidth:g} TB/s allow.",
        "",
        shown,
    ]
    write_result(flags.output, content, "\n".join(page))
    sys.stdout.write(shown)
    return OK


def count(stage: type[Stage], backbone: Backbone, image_size: int, batch_size: int) -> Work:
    """Return the work of a stage; nothing is computed, so it needs neither time nor memory."""
    _learn(STAGES["train3d"], backbone, 64, 1)  # real constants are made before any that are not there
    with FakeTensorMode(allow_non_fake_inputs=True):
        operations, traffic, parameters = _learn(stage, backbone, image_size, batch_size)
    return Work(
        stage.name,
        backbone if stage.outputs else None,
        parameters,
        operations / batch_size,
        traffic.total / batch_size,
        traffic.products / batch_size,
        _ADAM * parameters / batch_size,
    )


def _learn(stage: type[Stage], backbone: Backbone, image_size: int, batch_size: int) -> tuple[int, Traffic, int]:
    """Return the operations, the bytes and the parameters of a step."""
    built = stage(ModelConfig(backbone=backbone), image_size)
    # as autocast has it on a GPU; on a CPU it leaves more in float32
    with _default_dtype(torch.bfloat16):
        model = built.build_model()
    model.register_forward_pre_hook(lambda _, given: tuple(_in_bfloat16(tensor) for tensor in given))
    batch = PoseBatch(
        image=torch.zeros(batch_size, 3, image_size, image_size, dtype=torch.uint8) if built.outputs else None,
        joints_2d=torch.zeros(batch_size, len(JOINTS), 2),
        joints_3d=torch.zeros(batch_size, len(JOINTS), 3),
        meta=torch.zeros(batch_size, 4, dtype=torch.int32),
        index=torch.zeros(batch_size, dtype=torch.int64),
    )
    with FlopCounterMode(display=False) as operations, Traffic() as traffic:
        terms = built.learn(model, batch)[1]
        torch.stack([term.float() for term in terms.values()]).sum().backward()
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return operations.get_total_flops(), traffic, parameters


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


def work_table(works: Sequence[Work], flags: WorkFlags) -> str:
    """Return the counts and the floors as a table."""
    head = (
        "stage",
        "parameters (M)",
        "GFLOP",
        "MB, each operator by itself",
        "MB, products alone",
        "MB, optimizer",
        "floor: arithmetic",
        "floor: traffic",
        "floor: traffic of products",
    )
    return table(head, [_row(work, flags) for work in works])


def _row(work: Work, flags: WorkFlags) -> tuple[str, ...]:
    bandwidth = flags.bandwidth * 1e12
    floors = (
        flags.peak * 1e12 / work.operations,
        bandwidth / (work.traffic + work.optimizer_traffic),
        bandwidth / (work.product_traffic + work.optimizer_traffic),
    )
    return (
        f"{work.stage} {work.backbone or ''}".strip(),
        f"{work.parameters / 1e6:.1f}",
        f"{work.operations / 1e9:.3g}",
        *(f"{moved / 1e6:,.1f}" for moved in (work.traffic, work.product_traffic, work.optimizer_traffic)),
        *(f"{floor:,.0f}" for floor in floors),
    )


if __name__ == "__main__":
    sys.exit(main())
