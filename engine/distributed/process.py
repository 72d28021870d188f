"""One process among several: exchanges with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from loaders.ranges import Range, check_ranges

T = TypeVar("T")

STARTED: Final = "started"
"""Key in the store that outlives a restart: the run has started."""


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How processes work together; their number comes from torchrun."""

    timeout: float = 600.0
    """How long a process waits for the others before the run fails and names those that are missing (seconds)."""
    sync_batchnorm: bool = False
    """Normalize over the batches of all processes; for small batches per GPU. On GPUs only."""
    compress_gradients: bool = False
    """Exchange gradients as bfloat16: half the bytes."""

    def __post_init__(self) -> None:
        check_ranges(self, "distributed.", timeout=Range(0, 1e9, inside=True))


@dataclass(frozen=True)
class Process:
    """This process among all."""

    rank: int
    world_size: int
    device: torch.device
    restarted: bool = False
    """Whether torchrun started the processes again after `begin`."""
    host_group: Any = None
    """Gloo group for exchanges of CPU data; None takes the default group."""
    store: Any = None
    """Torchrun's store, which outlives a restart; None without torchrun."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def begin(self) -> None:
        """Tell processes that torchrun starts in place of these that the run has started."""
        if self.store is not None:
            self.store.set(STARTED, "")

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes. Waits for all of them; every process must call it."""
        if self.world_size > 1:
            # the barrier goes over gloo: where NCCL waits, a missing process cannot be named
            self.barrier()
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: T) -> list[T]:
        """Return every process's value, by rank; every process must call it."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value, group=self.host_group)
        return gathered

    def everyones_keys(self, values: Mapping[str, object]) -> list[str]:
        """Return the sorted union of the keys on all processes; every process must call it."""
        return sorted(set().union(*self.gather(list(values))))

    def from_main(self, value: T) -> T:
        """Return the main process's value; every process must call it."""
        if self.world_size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, 0, group=self.host_group)
        received: T = values[0]
        return received

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world_size > 1:
            dist.barrier(group=self.host_group)

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the main one's buffers, so that all evaluate the same network."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def parallel(self, model: nn.Module, config: DistributedConfig) -> nn.Module:
        """Return the model wrapped for data-parallel training; itself if this process is alone.

        Statistics of norms stay each process's own until `same_buffers`: no training step reads them.
        """
        if self.world_size == 1:
            return model
        wrapped = DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
        )
        if config.compress_gradients:
            from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook  # noqa: PLC0415

            wrapped.register_comm_hook(None, bf16_compress_hook)
        return wrapped
