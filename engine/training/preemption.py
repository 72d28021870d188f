"""What all processes agree on at every step: whether to stop, and whether a checkpoint is due."""

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
class Agreed:
    """The same on all processes."""

    signal: int = 0
    """The signal that stops the run, 0 for none."""
    checkpoint: bool = False
    """Whether some process wished for a checkpoint."""
    working: bool = False
    """Whether some process has batches left."""


class Preemption:
    """Signals, noted, not obeyed at once; all processes learn of one at the same step.

    Wishes travel in the background: what is sent in one step is read in the next, so no step waits for them. A process
    that does not come leaves the others waiting here, where the time-out tells.
    """

    def __init__(self, process: Process, answer: Callable[[str], None]) -> None:
        """Listen to signals until `close`; ``answer`` takes the first one's name, in another thread."""
        self._process = process
        self._signals = Signals(answer)
        self._wishes = torch.zeros(3, dtype=torch.int32)
        self._sent: dist.Work | None = None

    def beat(self, *, checkpoint: bool = False) -> Agreed:
        """Tell the others, and return what was agreed; every process must call it once per step.

        Args:
            checkpoint: whether this process wishes for one.
        """
        return self._exchange(Agreed(self._signals.number, checkpoint))

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """Yield a loader's batches, whose number may differ between processes; every process must exhaust it.

        Raises Stopped, on all processes, when a signal came to one of them.
        """
        self._forget()
        batches = iter(loader)
        agreed = Agreed(working=True)
        while agreed.working:
            batch = next(batches, None)
            agreed = self._exchange(Agreed(self._signals.number, working=batch is not None))
            if agreed.signal:
                raise Stopped(agreed.signal)
            if batch is not None:
                yield batch
        self._forget()

    def close(self) -> None:
        """Hand the signals back."""
        self._signals.close()
        with contextlib.suppress(RuntimeError):  # the others are gone: that has been said
            self._forget()

    def _exchange(self, own: Agreed) -> Agreed:
        """Send what this process wishes, and return what all wished at the call before."""
        if self._process.world_size == 1:
            return own
        agreed = Agreed(working=True)
        if self._sent is not None:
            self._sent.wait()
            number, checkpoint, working = self._wishes.tolist()
            agreed = Agreed(number, bool(checkpoint), bool(working))
        if agreed.signal:
            self._signals.note(agreed.signal)
        self._wishes = torch.tensor([own.signal, own.checkpoint, own.working], dtype=torch.int32)
        self._sent = dist.all_reduce(self._wishes, dist.ReduceOp.MAX, group=self._process.host_group, async_op=True)
        return agreed

    def _forget(self) -> None:
        """Drop what was sent last, on all processes alike: signals and wishes that stand are sent again."""
        sent, self._sent = self._sent, None
        if sent is not None:
            sent.wait()
