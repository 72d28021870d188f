"""Means over steps, kept on the device until they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engine.distributed import Process
from loaders.errors import Failure


class RunningMeans:
    """Sums losses step by step without waiting for the device; remembers each step's loss and samples."""

    def __init__(self, process: Process, key: Callable[[int], str]) -> None:
        """Begin with nothing.

        Args:
            process: this one; means are over all.
            key: returns the name of a sample, given its position in the split.
        """
        self._process = process
        self._key = key
        self._sums: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._samples: list[Tensor] = []

    def add(self, losses: dict[str, Tensor], samples: Tensor) -> None:
        """Add one step's losses, "loss" among them, over ``samples``, positions in the split."""
        for name, value in losses.items():
            before = self._sums.get(name)
            self._sums[name] = value if before is None else before + value
        self._losses.append(losses["loss"])
        self._samples.append(samples)

    def read(self, step: int, remedy: Callable[[int], str]) -> dict[str, float]:
        """Return the means over steps and processes. Waits for the device; every process must call it.

        All processes have batches of the same size, so this is the mean over samples.

        Args:
            step: the step that was added last.
            remedy: says what to do about a loss that is not finite, given its step.

        Raises:
            Failure: a loss is not finite; names the first step and its samples.
        """
        if not self._sums:
            return {}
        sums = self._process.sum(torch.stack(list(self._sums.values()))) / self._process.world_size
        # from here on every process holds the mean of all: a checkpoint of one speaks for them
        self._sums = dict(zip(self._sums, sums.unbind(), strict=True))
        means = dict(zip(self._sums, (sums / len(self._losses)).tolist(), strict=True))
        if not all(map(math.isfinite, means.values())):
            first, where = self._first_non_finite(step)
            raise Failure(f"the loss is not finite {where}; {remedy(first)}")
        return means

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._losses, self._samples = {}, [], []

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to log the same means; `read` them before."""
        return {"sums": self._sums, "losses": self._losses, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self._sums = {name: value.to(self._process.device) for name, value in state["sums"].items()}
        self._losses, self._samples = list(state["losses"]), list(state["samples"])

    def _first_non_finite(self, step: int) -> tuple[int, str]:
        """Return the first step whose loss is not finite on a process, and a description."""
        own = None
        for number, (loss, samples) in enumerate(zip(self._losses, self._samples, strict=True)):
            if not bool(torch.isfinite(loss)):
                own = number, self._process.rank, [*map(self._key, samples.tolist())]
                break
        first = min((each for each in self._process.gather(own) if each is not None), default=None)
        earliest = step - len(self._losses) + 1
        if first is None:
            return earliest, f"within the {len(self._losses)} steps to {step}"
        number, rank, keys = first
        names = ", ".join(keys[:8]) + (f" and {len(keys) - 8} more" if len(keys) > 8 else "")
        return earliest + number, f"at step {earliest + number}, process {rank}, samples {names}"
