"""Processes: who I am among the others, what we tell each other, and what is said when one is missing."""

from __future__ import annotations

import contextlib
import glob
import os
import time
import warnings
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

from loaders.errors import Failure, InputError, warn_once
from loaders.ranges import Range, check_ranges
from loaders.system.cores import cores_per_process

T = TypeVar("T")

_ROLL_CALL: Final = 10.0
"""How long the others have to say that they are still there, once something went wrong (seconds)."""
_GRACE: Final = 60.0
"""NCCL gives up so much later than the host's own exchanges, which can tell who is missing (seconds)."""
GPU_FILES: Final = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Where Linux, and Windows' Linux, show NVIDIA GPUs."""
_BROKEN: Final = ("gloo", "pair closure")
"""In gloo's errors: its source file, or, once another exchange has timed out, only that the pair was closed."""
_BEGUN: Final = "begun"
"""In the store that outlives a restart: that the run has begun."""


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
        """Check the ranges."""
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
    """Group for what hosts tell each other, over gloo; None takes the default group."""
    store: Any = None
    """Where torchrun keeps what outlives a restart; None without torchrun."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def begin(self) -> None:
        """Note, for processes that torchrun starts in place of these, that the run has begun."""
        if self.store is not None:
            self.store.set(_BEGUN, "")

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes. Waits for all of them; every process must call it."""
        if self.world_size > 1:
            # a host that waits for a GPU cannot say who is missing; one that waits for hosts can
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
    """Return "auto" (the GPU of this process if there is one), "cpu" or "cuda" as a device, made the current one.

    Raises InputError if "cuda" is asked for and torch cannot use one. "auto" then takes the CPU, and warns if there is
    a GPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own account of an old driver, which follows in one line
        usable = device != "cpu" and torch.cuda.is_available()
    if not usable:
        fault = gpu_fault()
        if device == "cuda":
            raise InputError(f"device is cuda; {fault or 'this machine shows no GPU'}: take --device cpu")
        if device == "auto" and fault:
            warn_once("unusable GPU", f"computing on the CPU: {fault}; --device cpu if that is meant")
        if "OMP_NUM_THREADS" not in os.environ:  # torch counts the cores of the machine, whatever the quota
            torch.set_num_threads(min(torch.get_num_threads(), cores_per_process()))
        return torch.device("cpu")
    chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(chosen)
    return chosen


def gpu_fault() -> str:
    """Return why torch cannot use the GPU of this machine, and the remedy; empty if there is no GPU, or if it can."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not any(map(glob.glob, GPU_FILES)):
        return ""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # the first if torch was built without CUDA
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs alone"
        return (
            f"there is a GPU, but torch {torch.__version__}, built for {built_for}, cannot use it ({reason}); update "
            "the NVIDIA driver, or install a torch that was built for the CUDA version that nvidia-smi shows"
        )
    return ""


@contextlib.contextmanager
def join_processes(device: str, timeout: float) -> Iterator[Process]:
    """Join the processes that torchrun started, or be alone; leave them in the end.

    An error is left where the others can read it. Where an exchange breaks off, Failure names the processes that failed
    or did not come.

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
    lasting, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
    restarted = lasting.check([_BEGUN])
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    # the store outlives a restart, and with it the addresses of processes that are gone
    store = dist.PrefixStore(f"attempt-{restarts}", lasting)  # type: ignore[attr-defined]
    cuda = chosen.type == "cuda"
    dist.init_process_group(
        "nccl" if cuda else "gloo",
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout + _GRACE if cuda else timeout),
    )
    try:
        host_group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        yield Process(rank, world_size, chosen, restarted, host_group, lasting)
    except Exception as error:
        reason = _missing(store, rank, world_size, timeout) if _is_broken_exchange(error) else ""
        store.set(f"failed/{rank}", reason or f"{type(error).__name__}: {error}")
        ErrorHandler().record_exception(error)  # torchrun shows it in its own account
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
    """Whether an error says that another process is gone; gloo's are plain RuntimeErrors."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _BROKEN)


def _missing(store: Any, rank: int, world_size: int, timeout: float) -> str:
    """Return who is missing and why, as far as those know who are left; empty if all are there."""
    store.set(f"present/{rank}", "")
    others = [other for other in range(world_size) if other != rank]
    until = time.monotonic() + _ROLL_CALL
    while silent := [o for o in others if not (store.check([f"present/{o}"]) or store.check([f"failed/{o}"]))]:
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    failed = [o for o in others if store.check([f"failed/{o}"]) and not store.check([f"present/{o}"])]
    found = [f"process {o} failed: {store.get(f'failed/{o}').decode()}" for o in failed]
    if silent:
        names = " and ".join(f"process {o}" for o in silent)
        found.append(
            f"{names} of {world_size} did not answer within {timeout:g} s or was killed: look at its output and its "
            "machine; more patience is distributed.timeout"
        )
    return "; ".join(found)
