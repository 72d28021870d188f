"""Several processes: joining them, exchanges between them, and naming the one that failed or hangs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from engine.device import choose_device
from loaders.errors import Failure, InputError
from loaders.ranges import Range, check_ranges

T = TypeVar("T")

_ANSWER_TIMEOUT: Final = 10.0
"""How long the other processes have to say how they ended, once an exchange broke off (seconds)."""
_NCCL_EXTRA: Final = 60.0
"""NCCL times out so much later than the exchanges over gloo, whose errors lead to the missing process (seconds)."""
_GLOO_ERRORS: Final = ("gloo", "pair closure")
"""Gloo raises plain RuntimeErrors. They name its source file, or, after a time-out, only that a pair was closed."""
_STARTED: Final = "started"
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
            self.store.set(_STARTED, "")

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


@contextlib.contextmanager
def join_processes(device: str, timeout: float) -> Iterator[Process]:
    """Join the processes that torchrun started, or be alone; leave them in the end.

    Where an exchange breaks off, every process raises a Failure that names those that failed or did not answer.

    Args:
        device: see `choose_device`.
        timeout: how long exchanges wait (seconds).

    Raises:
        InputError: there is no such device, or something else than torchrun started several processes.
    """
    if "RANK" not in os.environ:
        _check_alone()
        yield Process(0, 1, choose_device(device))
        return
    chosen = choose_device(device)
    torchrun_store, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
    restarted = torchrun_store.check([_STARTED])
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    # torchrun's store still holds the addresses of processes that ran before a restart
    store = dist.PrefixStore(f"attempt-{restarts}", torchrun_store)  # type: ignore[attr-defined]
    cuda = chosen.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout + _NCCL_EXTRA if cuda else timeout),
    )
    try:
        host_group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        yield Process(rank, world_size, chosen, restarted, host_group, torchrun_store)
    except Exception as error:
        broken = _is_broken_exchange(error)
        store.set(f"ended/{rank}", "" if broken else f"{type(error).__name__}: {error}")
        reason = _reason(store, rank, world_size, timeout) if broken else ""
        ErrorHandler().record_exception(error)  # the last step: torchrun takes the first one recorded for the cause
        if reason:
            raise Failure(reason) from error
        raise
    finally:
        dist.destroy_process_group()


def _check_alone() -> None:
    """Raise InputError if another launcher than torchrun started several processes: each would take itself for all."""
    names = ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"]
    if os.environ.get("SLURM_PROCID", "0") != "0":  # what sbatch runs is task 0 of many, without a step that started it
        names.append("SLURM_NTASKS")
    for name in names:
        if (count := os.environ.get(name, "1")) != "1":
            raise InputError(
                f"srun or mpirun started {count} of these processes, and each would be a run of its own: let it start "
                "torchrun, once per node, and torchrun a process for each GPU: srun --ntasks-per-node=1 torchrun "
                "--nnodes NODES --nproc-per-node gpu --rdzv-backend c10d --rdzv-endpoint NODE0:29500 and then this "
                "command (docs/multi-node.md has the whole script); if they are to be runs of their own, unset "
                f"{name}"
            )


def _is_broken_exchange(error: Exception) -> bool:
    """Whether an error says that an exchange with another process broke off."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _GLOO_ERRORS)


def _reason(store: Any, rank: int, world_size: int, timeout: float) -> str:
    """Return which processes failed, and why, or did not answer; empty if none did.

    `monitored_barrier` does not suffice: it tells rank 0 alone who is missing, nobody if that is rank 0, and it needs a
    group whose exchanges have not timed out.
    """
    keys = {other: f"ended/{other}" for other in range(world_size) if other != rank}
    with contextlib.suppress(dist.DistStoreError):  # not all have come
        store.wait(list(keys.values()), timedelta(seconds=_ANSWER_TIMEOUT))
    errors = {other: store.get(key).decode() for other, key in keys.items() if store.check([key])}
    reasons = [f"process {other} failed: {error}" for other, error in errors.items() if error]
    if missing := " and ".join(f"process {other}" for other in keys if other not in errors):
        reasons.append(
            f"{missing} of {world_size} did not answer within {timeout:g} s or was killed: look at its output and its "
            "machine; more patience is distributed.timeout"
        )
    return "; ".join(reasons)
