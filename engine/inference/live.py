"""The poses of a live camera, frame by frame, and how far behind it they are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Final

from engine.inference.camera import CameraFrames
from engine.inference.images import Preparation
from engine.inference.outputs import Drawings, PredictionsFile
from engine.inference.stream import PoseStream

CAMERA: Final = "camera"
"""What predictions and the drawn video call it."""


class Watch:
    """One look through a camera: predicts, writes and draws each frame before it takes the next one, the newest."""

    def __init__(self, duration: float, stopped: Callable[[], bool]) -> None:
        """Nothing was seen yet.

        Args:
            duration: how long to go on from the first frame (seconds); 0 is for ever.
            stopped: whether to end.
        """
        self._duration = duration
        self._stopped = stopped
        self._first: float | None = None
        """When the first frame arrived (seconds)."""
        self._last = 0.0
        """When the last pose was there (seconds)."""
        self._latencies: list[float] = []
        """From each frame's arrival to its pose (seconds)."""
        self.seen = 0
        """Frames that came, up to the last one that was taken."""

    def predict(
        self,
        frames: CameraFrames,
        prepare: Preparation,
        stream: PoseStream,
        file: PredictionsFile,
        drawings: Drawings,
    ) -> Iterator[None]:
        """Yield after each frame, until the camera ends, or it is time to."""
        for frame in frames.until(self._is_over):
            timing = {"frame": frame.number, "time_s": frame.time}
            image = prepare(frame.image, CAMERA, timing)
            poses = stream.begin([image.square], [image.view], [CAMERA], [frame.time])()
            self._last = time.monotonic()
            self._first = frame.arrived if self._first is None else self._first
            self._latencies.append(self._last - frame.arrived)
            self.seen = frame.number + 1
            file.add([image], poses)
            if prepare.keep_canvas:
                drawn = drawings.draw(image, poses.joints_2d[0])
                assert drawn is not None
                drawings.append(image, drawn)
            yield

    @property
    def summary(self) -> str:
        """How many frames, how fast, how far behind."""
        done = len(self._latencies)
        if self._first is None:
            return "0 frames"
        seconds, latency = self._last - self._first, 1000 * statistics.median(self._latencies)
        return (
            f"{done} of {self.seen} frames in {seconds:.1f} s: {done / seconds:.1f} frames/s, latency {latency:.0f} ms "
            f"(median); {self.seen - done} frames skipped, since newer ones were there"
        )

    def _is_over(self) -> bool:
        elapsed = 0.0 if self._first is None else time.monotonic() - self._first
        return self._stopped() or 0 < self._duration <= elapsed
