"""torch.compile: in which mode, what it cannot be combined with, and what it needs of the machine."""

from __future__ import annotations

import logging
from typing import Final

import torch
from torch import nn

from engine.config import CompileMode, TrainConfig
from engine.device import compiler_fault
from engine.distributed import Process
from loaders.errors import InputError, warn_once

logger = logging.getLogger(__name__)

GRAPH_MODES: Final = frozenset({"reduce-overhead", "max-autotune"})
"""Modes that record a step as CUDA graphs: each replay writes into the memory of the one before."""


def choose_mode(config: TrainConfig, device: torch.device) -> CompileMode:
    """Return the mode of torch.compile that a run takes on a device; "auto" is resolved, and warns where it cannot be.

    Raises:
        InputError: the mode was asked for, and cannot be combined with gradient accumulation or lacks a compiler.
    """
    mode = config.compile
    if mode == "auto":
        if device.type != "cuda":
            return "off"
        # train3d's kernels are so short that starting them one by one takes longer
        graphs = config.stage == "train3d" and config.optim.grad_accum_steps == 1
        mode = "reduce-overhead" if graphs else "default"
    if mode == "off" or not (fault := _fault(config, mode) or compiler_fault(device)):
        return mode
    if config.compile != "auto":
        raise InputError(f"compile is {mode}, and {fault}, or take --compile off")
    warn_once("torch.compile", f"training without torch.compile, which is slower: {fault}")
    return "off"


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
