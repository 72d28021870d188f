"""Where the device's time goes in a training step: kernels by kind."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.peers.common import endless
from engine.config import TrainConfig
from engine.distributed import join_processes
from engine.training.run import Run
from engine.training.run_folder import claimed
from loaders import build_loader

_WARMUP: Final = 8
_STEPS: Final = 5
_LONGEST: Final = 25
"""Kernels that are named."""
_KINDS: Final = {
    "copies": r"memcpy|memset",
    "loading": r"dali|nvjpeg|jpeg|nvimgcodec|huffman|idct|warp_?affine|ycbcr|upsampl",
    "fused by the compiler": r"^triton_",
    "layout": r"nchwtonhwc|nhwctonchw|transpose|layout",
    "matrix products": r"conv|gemm|xmma|cutlass|cudnn.*(fprop|dgrad|wgrad)|nvjet|implicit|dgrad|wgrad",
    "batch norm": r"bn_|batch_?norm|^_(sum|finish|normalize|input_gradient|pool)",
    "optimizer": r"multi_tensor|adam|fused_",
    "pooling": r"pool",
    "reductions": r"reduce",
    "elementwise": r"elementwise|cat|fill|copy",
}


def kind_of(kernel: str) -> str:
    """Return the kind of a kernel by its name."""
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, kernel, re.IGNORECASE)), "others")


def profile_step(config: TrainConfig) -> dict[str, Any]:
    """Trace some steps from shards; return milliseconds per step by kind, the longest kernels, and the idle share."""
    gpu = config.device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        process = stack.enter_context(join_processes(config.device, config.distributed.timeout))
        run = Run(dataclasses.replace(config, run_dir=folder), process, claimed, build_loader)
        stack.enter_context(contextlib.closing(run))
        batches = stack.enter_context(contextlib.closing(endless(run.loader)))
        for _ in range(_WARMUP):
            run.update(next(batches))
        wait: Callable[[], None] = torch.cuda.synchronize if gpu else lambda: None
        wait()
        with profile(activities=activities, acc_events=True) as traced:
            began = time.perf_counter()
            for _ in range(_STEPS):
                run.update(next(batches))
            launched = time.perf_counter() - began
            wait()
            seconds = time.perf_counter() - began
    kernels: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in traced.events() or []:
        if event.device_type.name == config.device.upper() and not event.is_user_annotation:
            kernels[event.name] += event.self_device_time_total if gpu else event.self_cpu_time_total
            counts[event.name] += 1
    kinds: Counter[str] = Counter()
    for name, microseconds in kernels.items():
        kinds[kind_of(name)] += microseconds
    per_step = 1e-3 / _STEPS
    return {
        "ms per step": 1e3 * seconds / _STEPS,
        "ms per step, host": 1e3 * launched / _STEPS,
        "ms per step, kernels": per_step * sum(kernels.values()),
        "kernels per step": sum(counts.values()) / _STEPS,
        "ms per step by kind": {kind: per_step * value for kind, value in kinds.most_common()},
        "longest": [
            {"kernel": name[:160], "ms per step": per_step * value, "times": counts[name] / _STEPS}
            for name, value in kernels.most_common(_LONGEST)
        ],
    }
