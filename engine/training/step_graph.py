"""A step's forward and backward pass as one CUDA graph: recorded once, and then started by a single call."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from loaders import PoseBatch

_WARMUP: Final = 3
"""Steps before the recording, in which kernels are chosen and compiled (steps)."""
_AHEAD: Final = 2
"""Most replays that the host is ahead of the device (steps); it could start hundreds, each of which keeps a batch."""


class StepGraph:
    """Computes losses and gradients as the function it records, whose kernels the host then starts by one call.

    Gradients are written, not added, always into the same memory: they must not be set to None between steps.
    """

    def __init__(self, compute: Callable[[PoseBatch], Tensor]) -> None:
        """Record ``compute``, which makes gradients and returns losses, once it has run a few times."""
        self._compute = compute
        self._graph = torch.cuda.CUDAGraph()
        self._calls = 0
        self._batch: PoseBatch | None = None
        self._losses: Tensor | None = None
        self._begun: deque[torch.cuda.Event] = deque()

    @property
    def recorded(self) -> bool:
        """Whether the gradients lie where the graph writes them."""
        return self._losses is not None

    def __call__(self, batch: PoseBatch) -> Tensor:
        """Return the losses of a batch, all of whose tensors have the shapes of the first one's."""
        self._calls += 1
        if self._calls <= _WARMUP:
            return self._run_apart(batch)
        if self._batch is None or self._losses is None:
            self._batch = batch.map(torch.clone)
            # other threads prepare batches meanwhile, and may ask for memory
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._losses = self._compute(self._batch)
        else:
            self._batch.copy_(batch)
        self._graph.replay()
        losses = self._losses.clone()
        done = torch.cuda.Event(blocking=True)
        done.record()
        self._begun.append(done)
        if len(self._begun) > _AHEAD:
            self._begun.popleft().synchronize()
        return losses

    def _run_apart(self, batch: PoseBatch) -> Tensor:
        """Compute on another stream, as a recording does, so that autograd holds nothing of the stream in use."""
        stream, current = torch.cuda.Stream(), torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            losses = self._compute(batch)
        current.wait_stream(stream)
        return losses
