"""What a loader's threads spend their time on, and whether batches are ready when they are asked for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

STAGES: Final = {
    "read": "reading from the disk",
    "raw": "copying and warping raw images",
    "decode": "decoding",
    "warp": "resizing and warping",
    "graph": "DALI's graph (decoding and warping)",
    "labels": "making labels",
    "copy": "copying batches to the device",
}
"""Stages of loading, and what their threads do then; a loader has some of them. Warping includes color and
normalization; of raw images it is one with copying them, and with reading them from the disk where they are not in
memory. The graph includes reading if that is sequential, labels include drawing the augmentation."""


@dataclass(frozen=True)
class Crew:
    """Threads that take turns at the same stages."""

    stages: Sequence[str]
    threads: int = 1


@dataclass(frozen=True)
class LoaderWork:
    """What a loader did since it was made, or between two moments."""

    seconds: Counter[str] = field(default_factory=Counter)
    """By stage: seconds of one thread, added up over threads."""
    batches: int = 0
    """Batches that were handed over."""
    late: int = 0
    """Of these, the ones that were not ready when they were asked for."""

    def __sub__(self, earlier: LoaderWork) -> LoaderWork:
        return LoaderWork(
            Counter({stage: spent - earlier.seconds[stage] for stage, spent in self.seconds.items()}),
            self.batches - earlier.batches,
            self.late - earlier.late,
        )

    @property
    def queue_fill(self) -> float:
        """Share of batches that were ready when they were asked for (0 to 1)."""
        return 1 - self.late / self.batches if self.batches else 0.0


class StageTimes:
    """Adds up the time of a loader's stages; any thread may tell it and ask it.

    Times are those of the clock: a thread that waits for a core, for the disk or for Python's lock spends them, too.
    """

    def __init__(self, crews: Sequence[Crew]) -> None:
        """Begin at zero; ``crews`` say which threads of the loader work at which stages."""
        self.crews = tuple(crews)
        self._lock = threading.Lock()
        self._seconds: Counter[str] = Counter()
        self._batches = self._late = 0

    def add(self, stage: str, seconds: float) -> None:
        """Note that a thread spent so long on a stage (seconds)."""
        with self._lock:
            self._seconds[stage] += seconds  # type: ignore[assignment]

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time that is spent inside to a stage; it costs 2 microseconds, so once a batch, not once a sample."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - began)

    def asked(self, ready: bool) -> None:
        """Note that a batch, or some that come together, was asked for, and whether it was ready."""
        with self._lock:
            self._late += not ready

    def handed_over(self) -> None:
        """Note that a batch was handed over."""
        with self._lock:
            self._batches += 1

    def read(self) -> LoaderWork:
        """Return the work so far."""
        with self._lock:
            return LoaderWork(self._seconds.copy(), self._batches, self._late)
