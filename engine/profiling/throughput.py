"""How fast training is, and what its time goes to: waiting for data, host, device, checkpoints, validation."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch.profiler import record_function

from loaders.stage_times import Crew, LoaderWork, StageTimes

T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """Images, and the time that they took, between two moments."""

    images: int = 0
    seconds: float = 0.0
    """Of training, pauses excluded."""
    waited: float = 0.0
    """Of these, waiting for batches that came when the device had already done all it was given (seconds)."""
    device: float | None = None
    """Of these, in which the host was ahead of the device (seconds); None where both are one."""
    saving: float = 0.0
    """Beside these, standing still for checkpoints (seconds)."""
    validating: float = 0.0
    """Beside these, validating (seconds)."""
    exchanging: float = 0.0
    """Of the time of training, exchanging gradients while nothing was computed (seconds), see
    `Learner.exchange_time`."""
    loader: LoaderWork = field(default_factory=LoaderWork)
    """What the loader did meanwhile."""
    crews: tuple[Crew, ...] = ()
    """The loader's threads."""

    def __sub__(self, earlier: Rate) -> Rate:
        return dataclasses.replace(
            self,
            images=self.images - earlier.images,
            seconds=self.seconds - earlier.seconds,
            waited=self.waited - earlier.waited,
            device=None if self.device is None else self.device - (earlier.device or 0.0),
            saving=self.saving - earlier.saving,
            validating=self.validating - earlier.validating,
            loader=self.loader - earlier.loader,
        )

    @property
    def images_per_second(self) -> float:
        """Images over the time of training."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the time of training spent waiting for the loader (0 to 1)."""
        return _share(self.waited, self.seconds)

    @property
    def whole(self) -> float:
        """Time of training, checkpoints and validation (seconds)."""
        return self.seconds + self.saving + self.validating

    @property
    def host(self) -> float | None:
        """Time of training in which the device waited for the host (seconds); None where both are one."""
        return None if self.device is None else max(0.0, self.seconds - self.waited - self.device)

    def figures(self) -> dict[str, float]:
        """Return what is logged of it: images per second, and shares (0 to 1).

        Those of waiting, host, device and the loader's stages are of the time of training, those of checkpoints and
        validation of the whole.
        """
        shares = {}
        if self.device is not None and self.host is not None:
            shares = {"host_share": self.host, "device_share": self.device}
        busy = {
            f"loader_{stage}_share": self.loader.seconds[stage] / crew.threads
            for crew in self.crews
            for stage in crew.stages
        }
        pauses = {"checkpoint_share": self.saving, "validation_share": self.validating}
        return {
            "images_per_second": self.images_per_second,
            "data_wait_share": self.wait_share,
            **{name: _share(spent, self.seconds) for name, spent in (shares | busy).items()},
            **{name: _share(spent, self.whole) for name, spent in pauses.items()},
            "queue_fill": self.loader.queue_fill,
        }


def _share(part: float, whole: float) -> float:
    # a loader also works in the pauses
    return min(1.0, part / whole) if whole > 0 else 0.0


class StepQueue:
    """The steps that were queued on a device; a CPU queues none. The loader's own streams there are left alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.exists = device.type == "cuda"
        """Whether the host may be ahead."""
        self._last = torch.cuda.Event() if self.exists else None

    def wait(self) -> None:
        """Wait until the steps are done."""
        if self.exists:
            torch.cuda.current_stream(self._device).synchronize()

    def add(self) -> None:
        """Note that a step was queued."""
        if self._last is not None:
            self._last.record(torch.cuda.current_stream(self._device))

    def is_empty(self) -> bool:
        """Whether the steps that were noted are done. Waits for nothing."""
        return self._last is None or self._last.query()


class Stopwatch:
    """Times training steps; validation and checkpoints are pauses, the first reading is warm-up."""

    def __init__(self, queue: StepQueue, stage_times: StageTimes | None = None) -> None:
        """Begin.

        Args:
            queue: where steps are computed.
            stage_times: those of the loader.
        """
        self._queue = queue
        self._stage_times = stage_times or StageTimes(())
        self._images = 0
        self._spent: Counter[str] = Counter()
        """Seconds, by the names that they have in `Rate`."""
        self._began = self._batch_came = time.perf_counter()
        self._last = self._totals()
        """At the last reading."""
        self._warm: Rate | None = None
        """At the first one that holds images."""

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
            self._batch_came = time.perf_counter()
            # a wait at whose end the device still computes costs nothing
            self._add("waited" if self._queue.is_empty() else "device", self._batch_came - before)
            yield batch

    def count(self, images: int) -> None:
        """Note that a step over ``images`` was begun."""
        if not self._queue.is_empty():  # the step before is still computed: the host is ahead
            self._add("device", time.perf_counter() - self._batch_came)
        self._queue.add()
        self._images += images

    def read(self) -> Rate:
        """Return the rate since the last reading. Waits for the device."""
        self._drain()
        totals = self._totals()
        rate, self._last = totals - self._last, totals
        if self._warm is None and rate.images:
            self._warm = totals
        return rate

    @contextlib.contextmanager
    def paused(self, why: Literal["saving", "validating"]) -> Iterator[None]:
        """Exclude the time spent inside, but for what was queued before; not nested. Waits for the device."""
        self._drain()
        before = time.perf_counter()
        try:
            yield
        finally:
            self._queue.wait()
            self._add(why, time.perf_counter() - before)

    def overall(self) -> Rate:
        """Return the rate up to the last reading; without the first one, the warm-up, if others hold images."""
        steady = self._last - self._warm if self._warm else self._last
        return steady if steady.images else self._last

    def _drain(self) -> None:
        """Wait for the device, whose time that is."""
        before = time.perf_counter()
        self._queue.wait()
        self._add("device", time.perf_counter() - before)

    def _add(self, what: Literal["waited", "device", "saving", "validating"], seconds: float) -> None:
        self._spent[what] += seconds  # type: ignore[assignment]

    def _totals(self) -> Rate:
        """Return the rate since the beginning."""
        paused = self._spent["saving"] + self._spent["validating"]
        return Rate(
            self._images,
            time.perf_counter() - self._began - paused,
            self._spent["waited"],
            self._spent["device"] if self._queue.exists else None,
            self._spent["saving"],
            self._spent["validating"],
            loader=self._stage_times.read(),
            crews=self._stage_times.crews,
        )
