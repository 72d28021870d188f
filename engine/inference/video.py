"""Videos, read frame by frame."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from loaders.codecs import Image

_USUAL_RATE: Final = Fraction(30)
"""Of files that state none (frames per second)."""
_SHARE: Final = 0.99
"""Containers round their length; a video that ends before this share of it is incomplete."""


class _UnreadableError(Exception):
    """No video, or none that can be read; the message is the reason."""


@dataclass(frozen=True)
class Clock:
    """How a video counts time."""

    tick: Fraction
    """Unit of its times (seconds)."""
    rate: Fraction
    """Frames per second, on average."""


class Video:
    """A video that is read from its beginning to its end; it is open only while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Clock(1 / _USUAL_RATE, _USUAL_RATE)
        self.frames = 0
        """Number of frames, as the container states it or estimated from its length; 0 if neither is known."""
        self.read = 0
        """Frames that were read so far."""
        self._counted = 0
        """How many frames the container counts; 0 if it does not."""
        self._end = -math.inf
        """Earliest end of the last frame, by what the container states (seconds)."""
        self._stated = ""
        """What the container states of its length, for a message."""
        self._reached = -math.inf
        """When the last frame that was read ends (seconds)."""
        self._longest = 0.0
        """The longest pause between two frames; the last one, whose length few containers note, may last as long."""
        self._damaged = 0
        """Packets and frames that could not be decoded."""
        self._reason = ""
        """Why there are no frames, or no more of them; empty if they came to their end."""
        with contextlib.suppress(_UnreadableError), self._opened() as (container, stream):
            self._read_header(container, stream)

    def __iter__(self) -> Iterator[tuple[Image, dict[str, float]]]:
        """Yield each frame (H, W, 3) RGB, upright, with its number and the time it is shown at (seconds)."""
        try:
            with self._opened() as (container, stream):
                for frame in self._decoded(container, stream):
                    time = frame.time if frame.pts is not None else max(self._reached, 0.0)
                    if self.read:
                        self._longest = max(self._longest, time - self._reached)
                    self._reached = time + float(frame.duration * self.clock.tick or 1 / self.clock.rate)
                    yield upright(frame), {"frame": self.read, "time_s": time}
                    self.read += 1
        except _UnreadableError as error:
            self._reason = str(error)
        except FFmpegError as error:
            self._reason = str(error.strerror)

    @property
    def fault(self) -> str:
        """What is wrong with a video that was read to its end; empty if nothing is."""
        if self.read == 0:
            return self._reason or ("none of its frames can be decoded" if self._damaged else "a video without frames")
        if self._reached + self._longest < self._end and self.read != self._counted:
            return f"breaks off after {self.read} {self._stated}"
        if self._reason:
            return f"cannot be read beyond {self.read} frames: {self._reason}"
        return f"{self._damaged} damaged frames skipped" if self._damaged else ""

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        if not self.path.is_file():
            raise _UnreadableError("a folder" if self.path.is_dir() else "no regular file")
        if self.path.stat().st_size == 0:
            raise _UnreadableError("empty")
        try:
            opened = av.open(str(self.path), metadata_errors="replace")
        except PermissionError as error:
            raise _UnreadableError(error.strerror or "no permission") from error
        except (FFmpegError, ValueError) as error:
            raise _UnreadableError("not a video, or damaged") from error
        with opened as container:
            cover = Disposition.attached_pic  # an album's picture, not a video
            stream = next((video for video in container.streams.video if not video.disposition & cover), None)
            if stream is None:
                raise _UnreadableError("holds no video")
            yield container, stream

    def _read_header(self, container: InputContainer, stream: VideoStream) -> None:
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        self.clock = Clock(stream.time_base or 1 / rate, rate)
        start = float((stream.start_time or 0) * self.clock.tick)
        end = _end(container, stream, start, rate)
        self.frames = self._counted = stream.frames
        if end is not None:
            self.frames = stream.frames or max(0, round((end - start) * rate))
            self._stated = f"of {stream.frames} frames" if stream.frames else f"frames, before its end at {end:.2f} s"
            self._end = end - (1 - _SHARE) * (end - start) - float(2 / rate)

    def _decoded(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Yield the frames that are whole, in the order in which they are shown."""
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError:
                self._damaged += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._damaged += 1
                else:
                    yield frame


def _end(container: InputContainer, stream: VideoStream, start: float, rate: Fraction) -> float | None:
    """Return the end that a container states (seconds); None if it states none."""
    if container.format.name == "avi":  # its duration is guessed from the size of the file
        return start + float(stream.frames / rate)
    if stream.duration is not None and stream.time_base is not None:
        return start + float(stream.duration * stream.time_base)
    # Matroska notes the end, in this tag or for the longest of its streams
    if tag := re.match(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, tag.groups())
        return 3600 * hours + 60 * minutes + seconds
    if len(container.streams) == 1 and container.duration is not None:
        return container.duration / av.time_base
    return None


def upright(frame: av.VideoFrame) -> Image:
    """Return a frame (H, W, 3) RGB as a player shows it: rotated and flipped by the container's matrix."""
    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    side_data: Any = frame.side_data
    if "DISPLAYMATRIX" not in side_data:
        return image
    matrix = np.frombuffer(side_data["DISPLAYMATRIX"], np.int32).reshape(3, 3)
    (a, b), (c, d) = matrix[:2, :2]  # x' = ax + cy, y' = bx + dy
    if abs(a) < abs(b):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
