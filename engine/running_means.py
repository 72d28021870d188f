"""Means over steps, kept on the device until they are asked for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.distributed import Process


class RunningMeans:
    """Sums values step by step without waiting for the device; remembers which samples went in."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples: list[Tensor] = []

    @property
    def steps(self) -> int:
        """Steps since the last `clear`."""
        return len(self._samples)

    @property
    def last_samples(self) -> list[int]:
        """Positions in the split of the last step's samples on this process."""
        return self._samples[-1].tolist() if self._samples else []

    def add(self, values: dict[str, Tensor]) -> None:
        """Add values; several times in a step if it is computed in parts."""
        for name, value in values.items():
            before = self._sums.get(name)
            self._sums[name] = value.detach() if before is None else before + value.detach()

    def end_step(self, samples: Tensor) -> None:
        """Note that a step over ``samples`` is complete."""
        self._samples.append(samples)

    def read(self, process: Process) -> dict[str, float]:
        """Return the means over steps and processes. Waits for the device; every process must call it."""
        if not self._sums:
            return {}
        sums = process.sum(torch.stack(list(self._sums.values()))) / process.world_size
        # from here on every process holds the mean of all: a checkpoint of one speaks for them
        self._sums = dict(zip(self._sums, sums.unbind(), strict=True))
        return dict(zip(self._sums, (sums / self.steps).tolist(), strict=True))

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._samples = {}, []

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to log the same means; `read` it before."""
        return {"sums": self._sums, "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from ``state``."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._samples = list(state["samples"])
