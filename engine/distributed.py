"""Processes: who I am among the others, what we agree on, and how a run is asked to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loaders.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How processes work together; their number comes from torchrun."""

    timeout: float = 600.0
    """How long a process waits for the others before the run fails (seconds)."""
    sync_batchnorm: bool = False
    """Normalise over the batches of all processes; for small batches per GPU."""
    compress_gradients: bool = False
    """Exchange gradients as bfloat16: half the bytes."""


@dataclass(frozen=True)
class Process:
    """This process among all."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes; every process must call it."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def everyones_keys(self, values: Mapping[str, object]) -> list[str]:
        """Return the sorted union of the keys on all processes; every process must call it."""
        if self.world_size == 1:
            return sorted(values)
        gathered: list[list[str]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(gathered, list(values))
        return sorted(set().union(*gathered))

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier()

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers, so that all evaluate the same network."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def parallel(self, model: nn.Module, config: DistributedConfig) -> nn.Module:
        """Return the model wrapped for data-parallel training; itself if this process is alone."""
        if self.world_size == 1:
            return model
        wrapped = DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
        if config.compress_gradients:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook  # noqa: PLC0415

            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped


def choose_device(device: str) -> torch.device:
    """Return "auto" (the GPU of this process if there is one), "cpu" or "cuda" as a device, made the current one."""
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if not cuda:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no GPU: check the driver, or take --device cpu")
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


@contextlib.contextmanager
def join_processes(device: str, timeout: float) -> Iterator[Process]:
    """Join the processes that torchrun started, or be alone; leave them in the end.

    Args:
        device: see `choose_device`.
        timeout: how long collectives wait (seconds).
    """
    chosen = choose_device(device)
    if "RANK" not in os.environ:
        yield Process(0, 1, chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout))
    try:
        yield Process(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()


class StopRequest:
    """SIGTERM and SIGINT, noted, not obeyed at once; all processes learn of one at the same step.

    The flag travels in the background: what is sent in one step is read in the next, so no step waits for it.
    """

    def __init__(self, process: Process) -> None:
        self._signal = 0
        self._process = process
        self._flag = torch.zeros(1, dtype=torch.int32)
        self._group: Any = dist.new_group(backend="gloo") if process.world_size > 1 else None
        self._sent: dist.Work | None = None
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}

    def received(self) -> int:
        """Return the signal that stops the run, 0 for none; every process must call it once per step."""
        if self._group is None:
            return self._signal
        agreed = 0
        if self._sent is not None:
            self._sent.wait()
            agreed = int(self._flag)
        self._flag = torch.tensor([self._signal], dtype=torch.int32)
        self._sent = dist.all_reduce(self._flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        return agreed

    def close(self) -> None:
        """Hand the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._sent is not None:
            self._sent.wait()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
