"""Live cameras: the newest frame of a device or of a network stream, while older ones are skipped."""

from __future__ import annotations

import contextlib
import errno
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.error import ExitError, FFmpegError
from av.video.stream import VideoStream

from engine.inference.video import Clock, upright
from loaders.codecs import Image
from loaders.errors import Failure, InputError

_PATIENCE: Final = 10.0
"""How long a camera may take to open, and between two frames (seconds)."""
_GLANCE: Final = 0.1
"""How often who waits for a frame looks whether to end (seconds)."""
_PROBED: Final = "500000"
"""How much of a stream is looked at before it begins (microseconds)."""
_USUAL_RATE: Final = Fraction(30)
_REMEDIES: Final = {
    errno.ENOENT: "`ls /dev/video*` names this machine's cameras",
    errno.ENODEV: "plug it in; `ls /dev/video*` names this machine's cameras",
    errno.EACCES: "have yourself added to the group that `ls -l` names, usually video",
    errno.EPERM: "have yourself added to the group that `ls -l` names, usually video",
    errno.ENOTTY: "it is no camera; `ls /dev/video*` names this machine's cameras",
}
"""What to do about a device that cannot be opened, by the error's number."""


@dataclass(frozen=True)
class LiveFrame:
    """A frame of a camera."""

    image: Image
    """(H, W, 3) RGB, upright."""
    number: int
    """Counts all frames that came, from 0."""
    time: float
    """When it was taken, by the camera's clock, after the first one that was yielded (seconds)."""
    arrived: float
    """When it was there, decoded, by `time.monotonic` (seconds)."""


class Camera:
    """A camera that is not open yet: what was given, checked as far as can be without it."""

    def __init__(self, given: str) -> None:
        """Take the number of a device, its path such as /dev/video0, or a URL that FFmpeg opens, such as rtsp://...

        Raises InputError for anything else, and for a device that does not exist.
        """
        self.is_device = "://" not in given
        self.address = f"/dev/video{given}" if given.isascii() and given.isdecimal() else given
        if self.is_device:
            self._check_device()

    @property
    def shown(self) -> str:
        """Its address without the user's name and password."""
        if self.is_device or "@" not in (parts := urlsplit(self.address)).netloc:
            return self.address
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @contextlib.contextmanager
    def opened(self) -> Iterator[CameraFrames]:
        """Open it, and read it in a thread until the context ends.

        Raises:
            InputError: it cannot be opened, or shows no video.
            Failure: another program uses it.
        """
        format_name, options = ("v4l2", {}) if self.is_device else (None, {"analyzeduration": _PROBED})
        try:
            container = av.open(
                self.address, format=format_name, options=options, timeout=_PATIENCE, metadata_errors="replace"
            )
        except FFmpegError as error:
            raise self._refusal(error) from None  # its words may hold the password
        except ValueError as error:
            raise InputError(f"{self.shown} cannot be opened: {error}; give a URL, such as rtsp://...") from error
        if not container.streams.video:
            container.close()
            raise InputError(f"{self.shown} shows no video: give a camera, or a stream with one")
        frames = CameraFrames(container, container.streams.video[0])
        try:
            yield frames
        finally:
            frames.close()

    def _check_device(self) -> None:
        path = Path(self.address)
        if path.is_file() or path.is_dir():
            raise InputError(f"{path} is no camera: give files and folders by --input")
        if not path.exists():
            raise InputError(f"camera {path} does not exist: {_REMEDIES[errno.ENOENT]}; a stream's address has ://")
        if not stat.S_ISCHR(path.stat().st_mode):
            raise InputError(f"{path} is no camera: {_REMEDIES[errno.ENOENT]}")

    def _refusal(self, error: FFmpegError) -> Exception:
        if error.errno == errno.EBUSY:
            return Failure(f"camera {self.shown}: another program uses it: end that, then run again")
        known = _REMEDIES.get(error.errno or 0) if self.is_device else None
        remedy = known or (
            "unplug it and plug it in" if self.is_device else "check the address, and that it is sending"
        )
        return InputError(f"camera {self.shown} cannot be opened ({_reason(error)}): {remedy}")


class CameraFrames:
    """The newest frames of an open camera, read by a thread of its own."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        rate = stream.average_rate or stream.guessed_rate or _USUAL_RATE
        self.clock = Clock(stream.time_base or 1 / rate, rate)
        self.damaged = 0
        """Packets and frames that could not be decoded, so far."""
        self.fault = ""
        """Why no more frames come; empty if the stream came to its end, or was left."""
        self._container = container
        self._stream = stream
        # threads that decode a frame each would hold frames back
        stream.thread_type = "SLICE"
        self._changed = threading.Condition()
        self._newest: tuple[av.VideoFrame, int, float] | None = None
        """Frame, number and arrival of what nobody has taken yet."""
        self._heard = time.monotonic()
        """When the last frame came (seconds)."""
        self._first_time: float | None = None
        self._over = False
        self._left = False
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)

    def until(self, ended: Callable[[], bool]) -> Iterator[LiveFrame]:
        """Yield the newest frame, again and again, until the stream ends or ``ended``, which is asked often."""
        self._heard = time.monotonic()
        self._thread.start()
        while (taken := self._take(ended)) is not None:
            frame, number, arrived = taken
            taken_at = frame.time if frame.pts is not None else arrived
            if self._first_time is None:
                self._first_time = taken_at
            yield LiveFrame(upright(frame), number, taken_at - self._first_time, arrived)

    def close(self) -> None:
        """End the thread, which closes the camera; one that hangs in a driver is left behind."""
        self._left = True
        if self._thread.ident is None:
            self._container.close()
        else:
            self._thread.join(_PATIENCE / 5)

    def _take(self, ended: Callable[[], bool]) -> tuple[av.VideoFrame, int, float] | None:
        with self._changed:
            while not ended():
                if self._newest is not None:
                    taken, self._newest = self._newest, None
                    return taken
                if self._over:
                    return None
                if time.monotonic() - self._heard > _PATIENCE:
                    self.fault = _silence()
                    return None
                self._changed.wait(_GLANCE)
        return None

    def _read(self) -> None:
        fault = "it ended before its first frame"
        try:
            with self._container:
                for number, frame in enumerate(self._decoded()):
                    fault = ""
                    with self._changed:
                        self._heard = time.monotonic()
                        self._newest = frame, number, self._heard
                        self._changed.notify()
        except FFmpegError as error:
            fault = _reason(error)
        with self._changed:
            self.fault = self.fault or ("" if self._left else fault)
            self._over = True
            self._changed.notify()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Yield the frames that are whole, until the stream ends or is left."""
        for packet in self._container.demux(self._stream):
            if self._left:
                return
            try:
                frames = [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
            except FFmpegError:
                self.damaged += 1
                continue
            whole = [frame for frame in frames if not frame.is_corrupt]
            self.damaged += len(frames) - len(whole)
            yield from whole


def _reason(error: FFmpegError) -> str:
    return _silence() if isinstance(error, ExitError) else str(error.strerror)


def _silence() -> str:
    return f"nothing came for {_PATIENCE:.0f} seconds"
