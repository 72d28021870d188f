"""Operations of a training step, counted without computing it, and what share they are of those a GPU could do."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from engine.config import TrainConfig
from engine.device import MatmulPrecision
from engine.distributed import Process
from engine.precision import Precision
from engine.stages import Stage, build_network, is_own
from loaders import InputError, PoseBatch

_PEAK_TFLOPS: Final = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "GH200 480GB": 989.0,
    "H200": 989.0,
    "H200 NVL": 836.0,
    "H100 80GB HBM3": 989.0,
    "H100 NVL": 836.0,
    "H100 PCIe": 756.0,
    **dict.fromkeys(("A100-SXM4-40GB", "A100-SXM4-80GB", "A100-PCIE-40GB", "A100 80GB PCIe"), 312.0),
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "L40S": 362.0,
    "L40": 181.0,
    "L4": 121.0,
    "RTX 6000 Ada Generation": 364.2,
    "RTX A6000": 154.8,
    "GeForce RTX 5090": 209.5,
    "GeForce RTX 4090": 165.2,
    "GeForce RTX 3090": 71.0,
}
"""Name of a GPU -> dense bfloat16 products with float32 sums on its tensor cores (10^12 operations per second), from
NVIDIA's data sheets and, for GeForce, the white papers of the architectures: half of what they say of sparse matrices.
Of all of these float16 is as fast, and TF32 half as fast. Slices, laptops' and other variants are slower, so names are
whole ones."""


@dataclass(frozen=True)
class Utilization:
    """What a run's network takes to compute, and what its devices could do."""

    flop_per_image: float | None
    """Operations of a training step per image, a multiplication and an addition being two; None if they cannot be
    counted."""
    peak: float | None
    """Operations per second of the devices of all processes; None if that is not known."""
    note: str = ""
    """Why it is not known, and the remedy."""

    @classmethod
    def of(cls, config: TrainConfig, stage: Stage, process: Process, precision: Precision) -> Utilization:
        """Count a run's operations."""
        peak, note = config.peak_tflops, ""
        if peak is None and process.device.type == "cuda":
            name = torch.cuda.get_device_name(process.device)
            peak, note = peak_tflops(name, precision, config.matmul_precision)
        flop = None
        try:
            flop = flop_per_image(stage, config.data.window)
        except Exception as error:  # whatever a user's own cannot do with tensors that hold nothing
            if not is_own(stage.name, config.model) or isinstance(error, InputError):
                raise
            note = f"no MFU: the operations of {stage.name} cannot be counted ({type(error).__name__}: {error})"
        return cls(flop, None if peak is None else peak * 1e12 * process.world_size, note)

    def figures(self, images_per_second: float) -> dict[str, float]:
        """Return the model FLOPs utilization as "mfu" (0 to 1): operations done over operations possible.

        As Chowdhery et al. define it (PaLM, 2022, appendix B): what is computed twice, or beside the network, does not
        count. Empty if the peak is not known.
        """
        if self.peak is None or self.flop_per_image is None:
            return {}
        return {"mfu": images_per_second * self.flop_per_image / self.peak}


def peak_tflops(name: str, precision: Precision, matmul_precision: MatmulPrecision) -> tuple[float | None, str]:
    """Return the peak of a GPU (10^12 operations per second), or None and why it is not known.

    Args:
        name: as `torch.cuda.get_device_name` has it.
        precision: what the network is computed in.
        matmul_precision: how float32 is multiplied.
    """
    remedy = "--peak-tflops takes it from a data sheet"
    if precision.name == "fp32" and matmul_precision == "highest":
        return None, f"no MFU: the peak of products in full float32 is not known here; {remedy}"
    peak = _PEAK_TFLOPS.get(name.removeprefix("NVIDIA "))
    if peak is None:
        return None, f"no MFU: the peak of {name} is not known here; {remedy}"
    return (peak / 2 if precision.name == "fp32" else peak), ""


def flop_per_image(stage: Stage, window: int = 1) -> float:
    """Return the operations of matrix products and convolutions, forward and backward, per image of a window.

    They are counted as torch does them on a CPU: kernels of our own, which a GPU has, do the same.
    """
    counter, batch_size = FlopCounterMode(display=False), 2  # batch normalization wants more than one sample
    fake_step(stage, batch_size, [counter], window=window)
    return counter.get_total_flops() / (batch_size * window)


def fake_step(
    stage: Stage,
    batch_size: int,
    counters: Sequence[AbstractContextManager[Any]],
    dtype: torch.dtype = torch.float32,
    window: int = 1,
) -> nn.Module:
    """Run forward and backward pass of a network like a stage's, without computing anything, and return the network.

    Args:
        stage: whose network is built anew.
        batch_size: samples.
        counters: entered around the passes.
        dtype: of the weights, and of what the network is given.
        window: frames of a sample.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), contextlib.ExitStack() as counting:
        config = dataclasses.replace(stage.config, pretrained=None)
        fake = type(stage)(config, stage.image_size, stage.weights, stage.skeleton)
        with _default_dtype(dtype):
            model = build_network(fake)
        # as autocast has it on a GPU; on a CPU it leaves more in float32
        model.register_forward_pre_hook(
            lambda _, given: tuple(x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x for x in given)
        )
        shape = (batch_size, window) if window > 1 else (batch_size,)
        size = stage.image_size
        image = torch.zeros(*shape, 3, size, size, dtype=torch.uint8) if "image" in fake.outputs else None
        batch = PoseBatch.without_labels(shape, len(fake.skeleton), image=image)
        for counter in counters:
            counting.enter_context(counter)
        terms = fake.run(model, batch)[1]
        torch.stack([term.float() for term in terms.values()]).sum().backward()
    return model


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
