"""How fast training is: images per second, the share of time spent waiting for data, a trace of some steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile, record_function, schedule

T = TypeVar("T")

TRACE: Final = "profile.json.gz"
"""Opens in Perfetto and in Chrome's tracing page."""
_SKIPPED: Final = 5
"""First steps, in which memory is found and kernels are chosen."""
_WARMUP: Final = 1
_STEPS: Final = 5


@dataclass(frozen=True)
class Rate:
    """Images, and the time that they took, between two readings."""

    images: int
    seconds: float
    """Of training, pauses excluded."""
    waited: float
    """Of these, waiting for the loader (seconds)."""
    saving: float = 0.0
    """Beside these, standing still for checkpoints (seconds)."""

    @property
    def images_per_second(self) -> float:
        """Images over the time of training."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time spent waiting for the loader (0 to 1)."""
        return self.waited / self.seconds if self.seconds > 0 else 0.0

    @property
    def checkpoint_share(self) -> float:
        """Share that checkpoints take of the time of training and checkpoints (0 to 1)."""
        return self.saving / (self.seconds + self.saving) if self.saving > 0 else 0.0

    def figures(self) -> dict[str, float]:
        """Return what is logged of it."""
        return {
            "images_per_second": self.images_per_second,
            "data_wait_share": self.wait_share,
            "checkpoint_share": self.checkpoint_share,
        }


def waiting_for(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the steps queued on the device are done; a CPU queues none.

    It does not wait for what a loader prepares there meanwhile, in streams of its own.
    """
    if device.type != "cuda":
        return lambda: None
    return lambda: torch.cuda.current_stream(device).synchronize()


class Stopwatch:
    """Times training steps; validation and checkpoints are pauses, the first reading is warm-up."""

    def __init__(self, wait: Callable[[], None]) -> None:
        """Begin; ``wait`` returns when the steps that were queued are done, see `waiting_for`."""
        self._wait = wait
        self._images = 0
        self._waited = self._saving = 0.0
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
        """Return the rate since the last reading. Waits for the device."""
        self._wait()
        now = time.perf_counter()
        rate = Rate(self._images, now - self._started, self._waited, self._saving)
        if rate.images or (self._rates and rate.saving):
            self._rates.append(rate)
        self._images, self._waited, self._saving, self._started = 0, 0.0, 0.0, now
        return rate

    @contextlib.contextmanager
    def paused(self, *, saving: bool = False) -> Iterator[None]:
        """Exclude the time spent inside, but for what was queued before; not nested. Waits for the device.

        Args:
            saving: the time inside is a checkpoint's.
        """
        self._wait()
        before = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            pause = time.perf_counter() - before
            self._started += pause
            if saving:
                self._saving += pause

    def overall(self) -> Rate:
        """Return the rate over all readings but the first, which holds the warm-up, unless no other holds images."""
        rates = self._rates[1:] if any(rate.images for rate in self._rates[1:]) else self._rates
        return Rate(
            sum(rate.images for rate in rates),
            sum(rate.seconds for rate in rates),
            sum(rate.waited for rate in rates),
            sum(rate.saving for rate in rates),
        )


class StepProfile:
    """Traces some steps after the first ones; off, it costs nothing."""

    def __init__(self, run_dir: Path, *, on: bool) -> None:
        """Write into ``run_dir``."""
        self._path = run_dir / TRACE
        self._profile: profile | None = None
        self.done = False
        """Whether the trace is written."""
        if on:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._profile = profile(
                activities=activities,
                schedule=schedule(wait=_SKIPPED, warmup=_WARMUP, active=_STEPS, repeat=1),
                on_trace_ready=self._export,
                acc_events=True,
            )
            self._profile.start()

    def step(self) -> None:
        """Note that a step is over."""
        if self._profile is not None and not self.done:
            self._profile.step()

    @property
    def missed(self) -> bool:
        """Whether there was no step yet to trace, though it is on."""
        return self._profile is not None and self._profile.step_num <= _SKIPPED + _WARMUP

    def close(self) -> None:
        """Stop; a run that ends in the midst of the trace leaves what there is."""
        if self._profile is not None:
            self._profile.stop()

    def _export(self, traced: profile) -> None:
        if not self.done:
            traced.export_chrome_trace(str(self._path))
            self.done = True
