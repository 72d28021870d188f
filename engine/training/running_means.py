"""Means over steps, kept on the device until they are asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.distributed import Process


class RunningMeans:
    """Sums values step by step without waiting for the device; remembers each step's loss and samples."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
        self._samples: list[Tensor] = []

    @property
    def steps(self) -> int:
        """Steps since the last `clear`."""
        return len(self._samples)

    def add(self, values: dict[str, Tensor], samples: Tensor) -> None:
        """Add one step's values, "loss" among them, over ``samples``, positions in the split."""
        for name, value in values.items():
            before = self._sums.get(name)
            self._sums[name] = value if before is None else before + value
        self._losses.append(values["loss"])
        self._samples.append(samples)

    def read(self, process: Process) -> dict[str, float]:
        """Return the means over steps and processes. Waits for the device; every process must call it.

        All processes have batches of the same size, so this is the mean over samples.
        """
        if not self._sums:
            return {}
        sums = process.sum(torch.stack(list(self._sums.values()))) / process.world_size
        # from here on every process holds the mean of all: a checkpoint of one speaks for them
        self._sums = dict(zip(self._sums, sums.unbind(), strict=True))
        return dict(zip(self._sums, (sums / self.steps).tolist(), strict=True))

    def first_spoilt(self) -> tuple[int, list[int]] | None:
        """Return the first step whose loss here is no finite number: steps before it since `clear`, and its samples."""
        for number, loss in enumerate(self._losses):
            if not bool(torch.isfinite(loss)):
                return number, self._samples[number].tolist()
        return None

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._losses, self._samples = {}, [], []

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to log the same means; `read` it before."""
        return {"sums": self._sums, "losses": self._losses, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from ``state``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._losses, self._samples = list(state["losses"]), list(state["samples"])
