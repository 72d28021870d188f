"""Where images and videos with predictions go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.inference.images import InputImage, draw
from engine.inference.inputs import IMAGES
from engine.inference.video import Video
from engine.inference.video_writer import NoEncoderError, VideoWriter, writing_video
from engine.visualization.overlay import encode_image
from loaders.codecs import Image
from loaders.system.os_errors import naming

Job = tuple[InputImage, NDArray[np.floating[Any]]]


class Drawings:
    """A folder of drawn images, named like the inputs; a video becomes an MP4. To be used as a context."""

    def __init__(self, folder: Path, videos: Mapping[str, Video]) -> None:
        self._folder = folder
        self._videos = videos
        self._open = contextlib.ExitStack()
        self._writer: VideoWriter | None = None
        self._written = ""
        """Name of the video that is being written."""
        self.faults: list[str] = []
        """Why some videos are not written."""

    def __enter__(self) -> Drawings:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the video that is being written, or remove it if there was an error."""
        self._open.__exit__(kind, error, traceback)

    def draw(self, job: Job) -> tuple[InputImage, Image | None]:
        """Draw; write what is no video's frame. May run in any thread."""
        image = job[0]
        drawn = draw(*job)
        if image.name in self._videos:
            return image, drawn
        path = self._place(image.name, IMAGES, ".png")
        with naming(path):
            path.write_bytes(encode_image(path.suffix.lower(), drawn))
        return image, None

    def keep(self, image: InputImage, drawn: Image | None) -> None:
        """Append a video's frame; one video after another, its frames in order."""
        if drawn is None:
            return
        try:
            if self._written != image.name:
                self._begin(image.name)
            if self._writer is not None:
                self._writer.write(drawn, image.moment["time_s"])
        except NoEncoderError as error:
            self.faults.append(f"the video of {image.name}: {error}")
            self._writer = None
            self._open.__exit__(*sys.exc_info())

    def _begin(self, name: str) -> None:
        self._open.close()
        self._writer, self._written = None, name
        path = self._place(name, (".mp4",), ".mp4")
        self._writer = self._open.enter_context(writing_video(path, self._videos[name].clock))

    def _place(self, name: str, endings: Sequence[str], ending: str) -> Path:
        """Return where an image or video goes; what has none of the ``endings`` gets the one that can be written."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path if path.suffix.lower() in endings else path.with_name(path.name + ending)
