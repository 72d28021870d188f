"""What all processes agree on once per step: whether to stop, and whether a checkpoint is due."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from types import FrameType

import torch
import torch.distributed as dist

from engine.distributed import Process


@dataclass(frozen=True)
class Agreed:
    """The same on all processes."""

    signal: int = 0
    """The signal that stops the run, 0 for none."""
    checkpoint: bool = False
    """Whether some process wished for a checkpoint."""


class Heartbeat:
    """SIGTERM and SIGINT, noted, not obeyed at once; all processes learn of one at the same step.

    Wishes travel in the background: what is sent in one step is read in the next, so no step waits for them. A process
    that does not come leaves the others waiting here, where the time-out tells.
    """

    def __init__(self, process: Process) -> None:
        self._signal = 0
        self._process = process
        self._wishes = torch.zeros(2, dtype=torch.int32)
        self._sent: dist.Work | None = None
        self._previous = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}

    def beat(self, *, checkpoint: bool = False) -> Agreed:
        """Tell the others, and return what was agreed; every process must call it once per step.

        Args:
            checkpoint: whether this process wishes for one.
        """
        if self._process.world_size == 1:
            return Agreed(self._signal, checkpoint)
        agreed = Agreed()
        if self._sent is not None:
            self._sent.wait()
            number, wished = self._wishes.tolist()
            agreed = Agreed(number, bool(wished))
        self._wishes = torch.tensor([self._signal, checkpoint], dtype=torch.int32)
        self._sent = dist.all_reduce(self._wishes, dist.ReduceOp.MAX, group=self._process.host_group, async_op=True)
        return agreed

    def close(self) -> None:
        """Hand the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._sent is not None:
            with contextlib.suppress(RuntimeError):  # the others are gone: that has been said
                self._sent.wait()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number
