"""Trackers on threads of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.tracking.sink import Tracker
from loaders.errors import printable

logger = logging.getLogger(__name__)


class Background:
    """Hands a tracker what it is told, in that order, while training goes on; a `Sink`.

    No step waits for a server. The first error is a warning, and ends what the tracker gets, never the run.
    """

    def __init__(self, name: str, open_tracker: Callable[[], Tracker]) -> None:
        """Open a tracker, on the thread that will make every call to it; raises its errors.

        Args:
            name: the tracker's in messages.
            open_tracker: returns it.
        """
        self._name = name
        self._failed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        try:
            self.tracker = self._thread.submit(open_tracker).result()
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Hand over numbers of one step."""
        self._later(self.tracker.scalars, step, values)

    def image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Hand over an image (H, W, 3) of one step."""
        self._later(self.tracker.image, step, name, image)

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Hand over the summary."""
        self._later(self.tracker.summary, step, values)

    def close(self) -> None:
        """Wait until the tracker has taken all, and close it."""
        self._later(self.tracker.close)
        self._thread.shutdown()

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        self._thread.submit(self._call, call, *arguments)

    def _call(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._failed:
            return
        try:
            call(*arguments)
        except Exception as error:
            self._failed = True
            logger.warning("%s gets no more of this run, which goes on: %s", self._name, printable(in_one_line(error)))


def in_one_line(error: Exception) -> str:
    """Return what an error of a tracker says first."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
