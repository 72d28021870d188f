"""Videos, frame by frame: read, and written with the predictions drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2

from engine.picture_form import Image

_CODEC: Final = "mp4v"
"""MPEG-4 part 2: every player opens it, and OpenCV's wheels can write it everywhere."""
_ESTIMATE: Final = 0.99
"""Containers only estimate their frames; fewer than this share of them means that the video breaks off."""


class Video:
    """A video that is read from its beginning to its end; it is open only while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames = 0
        """How many frames there are, as the container says; 0 if it does not, or if this is no video."""
        self.rate = 30.0
        """Frames per second."""
        with self._opened() as capture:
            if capture is not None:
                self.frames = max(0, round(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
                rate = capture.get(cv2.CAP_PROP_FPS)
                self.rate = rate if 0 < rate < 1000 else self.rate
        self.read = 0
        """Frames that were read so far."""

    def __iter__(self) -> Iterator[tuple[Image, dict[str, float]]]:
        """Yield each frame (H, W, 3) RGB, upright, with its number and time (seconds)."""
        with self._opened() as capture:
            while capture is not None:
                found, image = capture.read()
                if not found:
                    break
                yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB), {"frame": self.read, "time_s": self.read / self.rate}
                self.read += 1

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        capture = cv2.VideoCapture(str(self.path)) if self.path.is_file() else None
        try:
            yield capture
        finally:
            if capture is not None:
                capture.release()

    @property
    def fault(self) -> str:
        """What is wrong with a video that was read to its end; empty if nothing is."""
        if self.read == 0:
            return "not a video, or damaged"
        if self.read < _ESTIMATE * self.frames - 1:
            return f"breaks off after {self.read} of {self.frames} frames"
        return ""


class VideoWriter:
    """Writes pictures of one size as an MP4."""

    def __init__(self, path: Path, rate: float) -> None:
        self._path = path
        self._rate = rate
        self._writer: Any = None

    def write(self, image: Image) -> None:
        """Append a picture (H, W, 3) RGB; an odd row or column at the end, which the codec cannot hold, is cut."""
        height, width = (side // 2 * 2 for side in image.shape[:2])
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*_CODEC)
            self._writer = cv2.VideoWriter(str(self._path), codec, self._rate, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"{self._path} cannot be written as a video")
        self._writer.write(cv2.cvtColor(image[:height, :width], cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
