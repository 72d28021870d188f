"""The same function over many jobs, in processes or on a Dask cluster, with one progress bar."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for_sentinels
from multiprocessing.context import SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, TypeVar

from engine.cli.command import end_unguarded_worker
from engine.cli.progress import progress_bar
from loaders.errors import Failure, InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

_GUARD: Final = 'a main guard (`if __name__ == "__main__":`)'
_POLL_SECONDS = 0.2
_CLUSTER_SECONDS = 15
"""How long a scheduler may take to answer."""


class CancelledJobError(Exception):
    """Ends a job at its next report when another job has failed, so that nobody waits for it."""


class Progress:
    """Where a job reports what it has done; this one counts nothing."""

    def add(self, units: int, written: int = 0) -> None:
        """Count finished units, and bytes written. Raises CancelledJobError where another job failed."""


class Meter(Progress):
    """A progress bar that also shows megabytes per second."""

    def __init__(self, total: int, unit: str, description: str, *, scale: bool = False) -> None:
        """Start the bar; ``scale`` shows thousands as k, millions as M."""
        self._bar = progress_bar(total=total, unit=unit, desc=description, unit_scale=scale, smoothing=0.05)
        self._start = time.monotonic()
        self.units = 0
        self.bytes = 0

    @property
    def seconds(self) -> float:
        """Time since the start (seconds)."""
        return max(time.monotonic() - self._start, 1e-9)

    def add(self, units: int, written: int = 0) -> None:
        """Count finished units, and bytes written."""
        self.units += units
        self.bytes += written
        if written:
            self._bar.set_postfix_str(f"{self.bytes / 1e6 / self.seconds:.1f} MB/s", refresh=False)
        self._bar.update(units)

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()


class _Shared(Progress):
    """Counters that a pool's processes share."""

    def __init__(self, context: SpawnContext) -> None:
        self._counters: Any = context.Array("q", 3)
        """Units, bytes, and whether the jobs are cancelled."""

    def add(self, units: int, written: int = 0) -> None:
        counters = self._counters.get_obj()
        if counters[2]:
            raise CancelledJobError
        with self._counters.get_lock():
            counters[0] += units
            counters[1] += written

    def totals(self) -> tuple[int, int]:
        """Return units and bytes, without the lock: a worker that was killed may hold it for ever."""
        units, written = self._counters.get_obj()[:2]
        return units, written

    def cancel(self) -> None:
        """Let the next `add` of every job end it."""
        self._counters.get_obj()[2] = 1


def over_processes(
    function: Callable[[Job, Progress], Result], jobs: Sequence[Job], workers: int, meter: Meter
) -> list[Result]:
    """Return the results in the order of the jobs; the first exception of a job ends all of them.

    The function takes a job and reports to its second argument, which the meter shows. With one worker, everything
    happens in this process. Workers end with their parent, even if that was killed.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        return [function(job, meter) for job in jobs]
    end_unguarded_worker()
    _check_importable()
    context = multiprocessing.get_context("spawn")
    shared = _Shared(context)
    processes: list[BaseProcess] = []
    try:
        with ProcessPoolExecutor(workers, context, _start_worker, (shared,)) as pool:
            try:
                with _interrupts_deferred():
                    futures = [pool.submit(_work, function, job) for job in jobs]
                    processes = multiprocessing.active_children()
                _follow(futures, shared, meter)
                return [future.result() for future in futures]
            finally:
                shared.cancel()  # jobs still run only if one has failed
                pool.shutdown(wait=True, cancel_futures=True)
    except BrokenExecutor:
        raise _why_broken(processes) from None


def over_cluster(
    function: Callable[[Job, Progress], Result], jobs: Sequence[Job], address: str
) -> Iterator[tuple[int, Result]]:
    """Yield (index of the job, result) as a Dask cluster finishes them; a lost worker's jobs go to the others.

    What jobs report is not counted.
    """
    try:
        from distributed import Client, KilledWorker, as_completed  # noqa: PLC0415 - only clusters need it
    except ImportError:
        raise InputError(
            "--scheduler needs Dask distributed, which is not installed: pip install 'dask[distributed]', "
            "or leave --scheduler out to use this machine alone"
        ) from None
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost scheduler is told in one line below
    remedy = f"start `dask scheduler`, and `dask worker {address} --nworkers -1 --nthreads 1` on every machine"
    try:
        client = Client(address, timeout=_CLUSTER_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(f"no Dask scheduler answers at {address} ({error}): {remedy}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=2 * _CLUSTER_SECONDS)
        except TimeoutError:
            raise InputError(f"the Dask scheduler at {address} has no workers: {remedy}") from None
        futures = client.map(function, jobs, progress=Progress(), pure=False)
        indices = {future.key: index for index, future in enumerate(futures)}
        try:
            for future, result in as_completed(futures, with_results=True):
                if future.cancelled():
                    raise Failure(f"the Dask scheduler at {address} was lost: {remedy}, then run again")
                yield indices[future.key], result
        except KilledWorker as error:
            raise Failure(
                f"the cluster gave a job up ({error}): see its workers' memory and logs, then run again"
            ) from None
        except RuntimeError as error:
            if "deserialization" not in str(error):
                raise
            raise InputError(
                f"the Dask scheduler at {address} and its workers cannot import this project: install it there "
                "(`pip install .`), or start them with PYTHONPATH set to its folder"
            ) from None


def _check_importable() -> None:
    """Raise InputError if workers could not import the script that is running, as they do when they start."""
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if main.__spec__ is None and path is not None and not Path(path).exists():
        raise InputError(
            f"worker processes must read the script that starts them, and {path} is no file: save it as one, with "
            f"{_GUARD} around the call, or give --workers 1"
        )


def _why_broken(processes: Sequence[BaseProcess]) -> Exception:
    """Return what to raise when a worker died, by the way in which it died."""
    if any(process.exitcode is not None and process.exitcode >= 0 for process in processes):
        # nobody killed it: the script ended it, which each worker imports when it starts
        script = getattr(sys.modules["__main__"], "__file__", "it")
        return InputError(
            f"worker processes import the script that starts them, and {script} does not let them: "
            f"put the call below {_GUARD}, or give --workers 1"
        )
    return Failure("a worker process died, perhaps for want of memory: run the same command again with fewer --workers")


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Raise a Ctrl-C that comes meanwhile in the end: in the midst of starting a worker it leaves that in disorder.

    A worker inherits that the signal is blocked, so that it does not get it before `_start_worker`. Here another thread
    may still take the signal, and the main thread would be interrupted.
    """
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


def _follow(futures: Sequence[Future[Any]], shared: _Shared, meter: Meter) -> None:
    pending: Iterable[Future[Any]] = futures
    while pending:
        done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
        units, written = shared.totals()
        meter.add(units - meter.units, written - meter.bytes)
        for future in done:
            future.result()


_progress: Progress
"""A worker's: shared memory reaches it only when it starts."""


def _start_worker(progress: Progress) -> None:
    """Prepare a worker process: leave Ctrl-C to the parent, end with it."""
    global _progress  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _progress = progress


def _work(function: Callable[[Job, Progress], Result], job: Job) -> Result:
    return function(job, _progress)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for_sentinels([parent.sentinel])
        os._exit(1)
