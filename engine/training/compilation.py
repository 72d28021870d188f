"""torch.compile: in which mode, what it cannot be combined with, and what it needs of the machine."""

from __future__ import annotations

import logging
from typing import Final

import torch
from torch import nn

from engine.config import CompileMode, TrainConfig
from engine.device import compiler_fault
from engine.distributed import Process
from engine.stages import is_own
from loaders.errors import InputError, warn_once
from models.fused_norm import has_kernels
from models.timm_backbone import is_timm

logger = logging.getLogger(__name__)

GRAPH_MODES: Final = frozenset({"reduce-overhead", "max-autotune"})
"""Modes that record a step as CUDA graphs: each replay writes into the memory of the one before."""


def choose_mode(config: TrainConfig, process: Process) -> CompileMode:
    """Return the mode of torch.compile that a run takes; "auto" is resolved, and warns where it cannot be.

    Raises:
        InputError: the mode was asked for, and cannot be combined with gradient accumulation or lacks a compiler.
    """
    device, mode = process.device, config.compile
    if mode == "auto":
        mode = _best_mode(config, process)
    if mode == "off" or not (fault := _fault(config, mode) or compiler_fault(device)):
        return mode
    if config.compile != "auto":
        raise InputError(f"compile is {mode}, and {fault}, or take --compile off")
    warn_once("torch.compile", f"training without torch.compile, which is slower: {fault}")
    return "off"


def _best_mode(config: TrainConfig, process: Process) -> CompileMode:
    """Return the mode that measured fastest, see benchmarks/README.md."""
    if process.device.type != "cuda" or not _is_measured(config):  # what others compute may not compile
        return "off"
    if config.stage != "train3d":
        # our own kernels of batch normalization are faster than compiled ones; a norm over processes has none
        fused = not config.distributed.sync_batchnorm and has_kernels(process.device)
        return "off" if fused else "default"
    # its kernels are so short that starting them one by one takes longer: they are recorded, here or by the compiler
    recorded = config.cuda_graph != "never" and not _graph_fault(config, process)
    return "default" if recorded or config.optim.grad_accum_steps > 1 else "reduce-overhead"


def choose_graph(config: TrainConfig, process: Process) -> bool:
    """Return whether a run records its steps as a CUDA graph; ``config.compile`` is resolved.

    Raises:
        InputError: it was asked for, and cannot be.
    """
    fault = _graph_fault(config, process)
    if config.cuda_graph == "always" and fault:
        raise InputError(f"cuda_graph is always, and {fault}, or leave --cuda-graph out")
    wanted = config.cuda_graph == "always" or (config.cuda_graph == "auto" and _is_measured(config))
    return wanted and not fault


def _is_measured(config: TrainConfig) -> bool:
    """Return whether benchmarks/README.md has a run's network: no user's own, and none with a backbone of timm."""
    has_timm = config.stage != "train3d" and is_timm(config.model.backbone)
    return not has_timm and not is_own(config.stage, config.model)


def _graph_fault(config: TrainConfig, process: Process) -> str:
    """Return why a run cannot record its steps, and the remedy; or nothing."""
    if process.device.type != "cuda":
        return "graphs are for GPUs"
    if process.world_size > 1:
        return "processes exchange gradients, which a graph does not: start one process"
    if config.optim.grad_accum_steps > 1:
        return "a graph writes the gradients of a part over those of the part before: take --optim.grad-accum-steps 1"
    if config.compile in GRAPH_MODES:
        return f"compile {config.compile} records graphs of its own: take --compile default"
    return ""


def _fault(config: TrainConfig, mode: CompileMode) -> str:
    """Return why a mode cannot be combined with the parts that a batch is computed in, and the remedy; or nothing."""
    count, size = config.optim.grad_accum_steps, config.data.batch_size
    if mode in GRAPH_MODES and count > 1:
        return (
            f"optim.grad_accum_steps is {count}: a CUDA graph writes the gradients of a part over those of the part "
            "before; take --compile default"
        )
    if size % count:
        below = size // count * count
        return (
            f"data.batch_size {size} is no multiple of optim.grad_accum_steps {count}: the code is compiled for parts "
            f"of one size; take --data.batch-size {below} or {below + count}"
        )
    return ""


def compiled(objective: nn.Module, mode: CompileMode, process: Process) -> nn.Module:
    """Return a module that is compiled when it is first called; itself if the mode is "off"."""
    if mode == "off":
        return objective
    if process.is_main:
        logger.info("compiling the network and its loss (%s): the first steps take minutes", mode)
    # torch's cache ignores the instruction set: code compiled for AVX-512 would crash a process limited to AVX2
    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
    module: nn.Module = torch.compile(objective, mode=mode)  # type: ignore[assignment]
    return module
