"""Stopping by a signal: all processes stop, and save, at the same step, whichever of them was signalled."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

from engine.cli.signals import Signals, Stopped
from engine.distributed import Process

T = TypeVar("T")


@dataclass(frozen=True)
class Requests:
    """What a process requests, or any of all."""

    signal: int = 0
    """The signal that stops the run, 0 for none."""
    checkpoint: bool = False
    """Whether to save a checkpoint."""
    working: bool = False
    """Whether there are batches left."""


class Preemption:
    """Notes signals, and exchanges requests among the processes once per step.

    The exchange runs in the background: what is sent in one step is read in the next, so no step waits for it. Where a
    process does not take part, the others wait here until the time-out.
    """

    def __init__(self, process: Process, answer: Callable[[str], None]) -> None:
        """Listen to signals until `close`; ``answer`` takes the first one's name, in another thread."""
        self._process = process
        self._signals = Signals(answer)
        self._requests = torch.zeros(3, dtype=torch.int32)
        self._sent: dist.Work | None = None

    def exchange(self, *, checkpoint: bool = False, working: bool = False) -> Requests:
        """Send this process's requests, and return those of all at the call before; every process must call it."""
        own = Requests(self._signals.number, checkpoint, working)
        if self._process.world_size == 1:
            return own
        requests = Requests(working=True)
        if self._sent is not None:
            self._sent.wait()
            number, checkpoint, working = self._requests.tolist()
            requests = Requests(number, bool(checkpoint), bool(working))
        if requests.signal:
            self._signals.note(requests.signal)
        self._requests = torch.tensor([own.signal, own.checkpoint, own.working], dtype=torch.int32)
        self._sent = dist.all_reduce(self._requests, dist.ReduceOp.MAX, group=self._process.host_group, async_op=True)
        return requests

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """Yield a loader's batches, whose number may differ between processes; every process must exhaust it.

        Raises Stopped, on all processes, when a signal came to one of them.
        """
        self.drop_sent()
        batches = iter(loader)
        requests = Requests(working=True)
        while requests.working:
            batch = next(batches, None)
            requests = self.exchange(working=batch is not None)
            if requests.signal:
                raise Stopped(requests.signal)
            if batch is not None:
                yield batch
        self.drop_sent()

    def drop_sent(self) -> None:
        """Drop what was sent last, on all processes alike: requests that still hold are sent again."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.wait()

    def close(self) -> None:
        """Hand the signals back."""
        self._signals.close()
        with contextlib.suppress(RuntimeError):  # the others are gone: that has been said
            self.drop_sent()
