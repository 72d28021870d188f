"""Images per second, and the share of time spent waiting for data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from torch.profiler import record_function

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """What was measured between two readings."""

    images: int
    seconds: float
    waited: float

    @property
    def images_per_second(self) -> float:
        """Images over time, pauses left out."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for the loader (0 to 1)."""
        return self.waited / self.seconds if self.seconds > 0 else 0.0


class Stopwatch:
    """Times training steps; validation and checkpoints are pauses, the first reading is warm-up."""

    def __init__(self) -> None:
        self._images = 0
        self._waited = 0.0
        self._started = time.perf_counter()
        self._rates: list[Rate] = []

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, noting how long each was waited for."""
        iterator = iter(batches)
        while True:
            before = time.perf_counter()
            try:
                with record_function("data"):
                    batch = next(iterator)
            except StopIteration:
                return
            self._waited += time.perf_counter() - before
            yield batch

    def count(self, images: int) -> None:
        """Note that a step over ``images`` was begun."""
        self._images += images

    def read(self) -> Rate:
        """Return the rate since the last reading; the device must have been waited for just before."""
        now = time.perf_counter()
        rate = Rate(self._images, now - self._started, self._waited)
        if rate.images:
            self._rates.append(rate)
        self._images, self._waited, self._started = 0, 0.0, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - before

    def overall(self) -> Rate:
        """Return the rate over all readings but the first, which holds the warm-up, unless it is the only one."""
        rates = self._rates[1:] or self._rates
        return Rate(sum(r.images for r in rates), sum(r.seconds for r in rates), sum(r.waited for r in rates))
