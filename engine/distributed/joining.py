"""How the processes that torchrun started find each other, and what is said when they part."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler
from torch.distributed.rendezvous import rendezvous

from engine.cli.error_log import ErrorLog
from engine.device import choose_device
from engine.distributed.failures import Answers, is_broken_exchange, unconnected
from engine.distributed.process import STARTED, Process
from loaders.errors import Failure, InputError

_NCCL_EXTRA: Final = 60.0
"""NCCL times out so much later than the exchanges over gloo, whose errors lead to the missing process (seconds)."""
_ATTEMPT: Final = "attempt"
"""Key in the store that outlives a restart: name of the newest start of the processes."""
_LOOK: Final = 0.5
"""Interval at which a process looks whether there is a newer start (seconds)."""


@contextlib.contextmanager
def join_processes(device: str, timeout: float, errors: ErrorLog | None = None) -> Iterator[Process]:
    """Join the processes that torchrun started, or be alone; leave them in the end.

    Where an exchange breaks off, every process raises a Failure that names those that failed or did not answer.

    Args:
        device: see `choose_device`.
        timeout: how long exchanges wait (seconds).
        errors: is told how this process fails, if it does.

    Raises:
        InputError: there is no such device, or something else than torchrun started several processes.
        Failure: the processes cannot connect to each other.
    """
    errors = errors or ErrorLog(None)
    try:
        if "RANK" in os.environ:
            with _joined(device, timeout, errors) as process:
                yield process
        else:
            _check_alone()
            yield Process(0, 1, choose_device(device))
    except Exception as error:
        errors.write(error)
        if "RANK" in os.environ:  # the last step: torchrun takes the first one recorded for the cause
            ErrorHandler().record_exception(error)
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        errors.close()


@contextlib.contextmanager
def _joined(device: str, timeout: float, errors: ErrorLog) -> Iterator[Process]:
    chosen = choose_device(device)
    torchrun_store, rank, world_size = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
    restarted = torchrun_store.check([STARTED])
    attempt, hosts = _meet(torchrun_store, rank, world_size, timeout)
    # torchrun's store still holds the addresses of processes that ran before a restart
    store = dist.PrefixStore(attempt, torchrun_store)  # type: ignore[attr-defined]
    cuda = chosen.type == "cuda"
    if cuda:
        errors.trace_nccl()
    try:
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=timeout + _NCCL_EXTRA if cuda else timeout),
            device_id=chosen if cuda else None,
        )
        host_group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        if not is_broken_exchange(error):
            raise
        raise Failure(unconnected(error, rank, world_size)) from error
    try:
        yield Process(rank, world_size, chosen, restarted, host_group, torchrun_store)
    except Exception as error:
        answers = Answers(store, rank, hosts)
        if not is_broken_exchange(error):
            answers.give(f"{type(error).__name__}: {error}")
            raise
        answers.give("")
        raise Failure(answers.reason(timeout)) from error


def _meet(store: Any, rank: int, world_size: int, timeout: float) -> tuple[str, list[str]]:
    """Return a name for this start of the processes, the same on all, and the name of each one's host, by rank.

    Torchrun's count of restarts is no such name: each node counts those alone that its own processes caused. So process
    0 makes one up. A process that still finds the name of an earlier start is not among those that met under it, and
    looks again.

    Raises:
        Failure: names the processes that did not come in time.
    """
    own = f"{socket.gethostname()} {uuid.uuid4()}"
    give_up = time.monotonic() + timeout
    with contextlib.suppress(dist.DistStoreError):
        if rank == 0:
            store.set(_ATTEMPT, own)
            keys = [f"{own}/came/{other}" for other in range(1, world_size)]
            if keys:
                store.wait(keys, timedelta(seconds=timeout))
            met = [own, *(store.get(key).decode() for key in keys)]
            store.set(f"{own}/met", "\n".join(met))
            return own, [each.partition(" ")[0] for each in met]
        while time.monotonic() < give_up:
            attempt = store.get(_ATTEMPT).decode()
            store.set(f"{attempt}/came/{rank}", own)
            with contextlib.suppress(dist.DistStoreError):
                store.wait([f"{attempt}/met"], timedelta(seconds=_LOOK))
                met = store.get(f"{attempt}/met").decode().split("\n")
                if own in met:
                    return attempt, [each.partition(" ")[0] for each in met]
                time.sleep(_LOOK)
    absent = [other for other in range(1, world_size) if not store.check([f"{own}/came/{other}"])] if rank == 0 else [0]
    raise Failure(
        f"{' and '.join(f'process {other}' for other in absent)} of {world_size} did not come within {timeout:g} s: "
        "look at its output and its machine; more patience is distributed.timeout"
    )


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
