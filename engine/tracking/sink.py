"""What a tracker is to a run: the few things that it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it opens it."""

    folder: Path
    """Folder of the run; its name is the run's."""
    project: str
    config: Mapping[str, Any]
    """The configuration: dotted keys and plain values."""
    id: str | None
    """Of the tracker's run to go on with; None begins one."""


class Sink(Protocol):
    """Takes what a run logs."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of one step."""

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Take an image (H, W, 3) of one step."""

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Take what a run that came to its end, after ``step``, is judged by: nested plain values."""

    def close(self) -> None:
        """Take no more, and pass on what was taken."""


class Tracker(Sink, Protocol):
    """A sink that has runs of its own."""

    id: str
    """What to go on with after the run is resumed."""
    where: str
    """Where the user finds it."""
