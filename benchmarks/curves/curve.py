"""Error over time: a clock that stands during evaluations, and what it showed at each of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from engine.stages import StageName


@dataclass(frozen=True)
class Task:
    """A stage to be trained."""

    stage: StageName
    epochs: int
    """Length of the stage (epochs)."""
    seed: int
    """Of weights, order and augmentation."""
    every: int
    """Interval of evaluations (images)."""
    error: float | None = None
    """What the validation error is to reach (pixels in train2d, else mm); None: nothing."""
    limit: float = 0.0
    """After which a training that is beyond its epochs gives up (seconds, from its start, evaluations excluded)."""


@dataclass(frozen=True)
class Point:
    """An evaluation."""

    seconds: float
    """Since the process of the training was started, evaluations and checkpoints excluded."""
    images: int
    """Trained on so far."""
    error: float
    """On the validation split: pixels of the network's image in train2d, else mm."""


@dataclass(frozen=True)
class Curve:
    """The evaluations of one training, the first of them before its first step."""

    points: list[Point]
    end: Point
    """Where the epochs of its stage were done: what the next stage begins with."""

    def reached(self, error: float) -> Point | None:
        """Return the first evaluation at or below the error; None if there is none. Nothing is interpolated."""
        return next((point for point in self.points if point.error <= error), None)


class Way(Protocol):
    """A way to train."""

    name: ClassVar[str]

    def train(self, task: Task, began: float) -> Curve:
        """Train in this process, which was started at ``began`` (`time.monotonic`, seconds)."""


class Clock:
    """Seconds since a training began, pauses excluded."""

    def __init__(self, began: float, now: Callable[[], float] = time.monotonic) -> None:
        """Begin at ``began``, a time of ``now`` (seconds)."""
        self._began = began
        self._now = now

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self._now() - self._began

    @contextlib.contextmanager
    def paused(self) -> Iterator[float]:
        """Stand still meanwhile, at the seconds that are given; not nested."""
        stood = self.seconds
        try:
            yield stood
        finally:
            self._began = self._now() - stood
