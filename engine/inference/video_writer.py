"""Videos that browsers play, with the times of the videos that they were made of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from engine.inference.video import Clock
from loaders.codecs import Image
from loaders.system.files import appearing

ENCODERS: Final[dict[str, dict[str, str]]] = {
    "libx264": {"preset": "veryfast", "crf": "20", "bf": "0"},
    "libvpx-vp9": {"crf": "30", "b": "0", "deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0"},
}
"""Encoders whose videos browsers play, the preferred one first, and their options; the first installed one is taken.
The options allow no frame that refers to a later one, which would shift the clock of the file."""
_BT709: Final = 1
_LIMITED: Final = 1
"""What players assume: colors of BT.709, luma from 16 to 235."""


class NoEncoderError(Exception):
    """No video that browsers play can be written; the message is the reason."""


@contextlib.contextmanager
def writing_video(path: Path, clock: Clock) -> Iterator[VideoWriter]:
    """Open an MP4 for frames with the times of another video; it appears whole or not at all.

    Raises NoEncoderError if there is no encoder.
    """
    for name in ENCODERS:
        with contextlib.suppress(UnknownCodecError):
            Codec(name, "w")
            break
    else:
        raise NoEncoderError(f"PyAV is built without {', '.join(ENCODERS)}: install it from a wheel (pip install av)")
    # the index in front of the frames: a browser plays before it has read everything
    options = {"movflags": "+faststart"}
    with appearing(path) as temporary, av.open(str(temporary), "w", format="mp4", options=options) as container:
        writer = VideoWriter(container, name, clock)
        yield writer
        writer.finish()


class VideoWriter:
    """Writes images of one size as an MP4."""

    def __init__(self, container: OutputContainer, encoder: str, clock: Clock) -> None:
        self._container = container
        self._encoder = encoder
        self._clock = clock
        self._stream: VideoStream | None = None
        self._shift = 0.0
        """Added to all times, because an MP4 has none below 0 (seconds)."""
        self._last = -1
        """Time of the last frame (ticks)."""

    def write(self, image: Image, time: float) -> None:
        """Append an image (H, W, 3) RGB, shown at a time (seconds); frames of another size are resized to the first.

        An odd row or column at the end, which the codecs cannot hold, is cut. Raises NoEncoderError if the encoder
        does not take images of this size.
        """
        if self._stream is None:
            self._stream = self._opened(image)
            self._shift = max(0.0, -time)
        height, width = (max(1, side // 2 * 2) for side in image.shape[:2])
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:height, :width]), format="rgb24")
        frame = frame.reformat(
            self._stream.width, self._stream.height, "yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED
        )
        tick = self._clock.tick
        # two frames at one time, or one back in time, follow each other at the next tick
        frame.pts = self._last = max(self._last + 1, round((time + self._shift) / tick))
        frame.time_base = tick
        frame.duration = max(1, round(1 / self._clock.rate / tick))
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())

    def _opened(self, image: Image) -> VideoStream:
        stream = self._container.add_stream(
            self._encoder, self._clock.rate.limit_denominator(1 << 16), options=dict(ENCODERS[self._encoder])
        )
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = (max(2, side // 2 * 2) for side in image.shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = self._clock.tick
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, _BT709)
        stream.codec_context.color_range = _LIMITED
        try:
            stream.codec_context.open()
        except FFmpegError as error:
            raise NoEncoderError(f"{self._encoder} refuses {stream.width}x{stream.height}: {error.strerror}") from error
        return stream
