"""What inference writes: predictions.json, and images and videos with the predictions drawn."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import NDArray

from engine.inference.images import InputImage, Unreadable, draw
from engine.inference.inputs import IMAGES
from engine.inference.pose_model import Poses
from engine.inference.video import Video
from engine.inference.video_writer import NoEncoderError, VideoWriter, writing_video
from loaders.codecs import Image, encode
from loaders.system.files import appearing
from loaders.system.os_errors import naming
from models.skeleton import HEATMAP_JOINTS, JOINTS

_AXES: Final = "x to the right of the image, y down, z along the camera's axis; relative to Neck"


@contextlib.contextmanager
def writing_predictions(path: Path, checkpoint: str, inputs: Path) -> Iterator[PredictionsFile]:
    """Open predictions.json, which appears whole or not at all; no predictions are held in memory.

    Args:
        path: its name.
        checkpoint: of the network.
        inputs: the folder that all inputs have in common.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        head = json.dumps({"checkpoint": checkpoint, "input_dir": str(inputs), "axes": _AXES})
        file.write(f'{head[:-1]}, "images": [')
        yield PredictionsFile(file)


class PredictionsFile:
    """predictions.json while it is written."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.entries = 0
        """Number of predictions so far."""

    def add(self, images: Sequence[InputImage], poses: Poses) -> None:
        """Append entries, one per line."""
        for i, image in enumerate(images):
            self._file.write(f"{',' if self.entries else ''}\n{json.dumps(_entry(image, poses, i))}")
            self.entries += 1

    def finish(self, unreadable: Sequence[Unreadable]) -> None:
        """Append what could not be read; nothing comes after."""
        skipped = [{"file": item.name, "reason": item.reason} for item in unreadable]
        self._file.write(f'\n], "unreadable": {json.dumps(skipped, indent=1)}}}\n')


def _entry(image: InputImage, poses: Poses, i: int) -> dict[str, Any]:
    """Return an image's entry, that of row ``i`` of the poses."""
    with_heatmap = [JOINTS[joint] for joint in HEATMAP_JOINTS]
    return {
        "file": image.name,
        **image.timing,
        "width": image.view.width,
        "height": image.view.height,
        "joints_3d_m": dict(zip(JOINTS, poses.joints_3d[i].astype(float).round(5).tolist(), strict=True)),
        "joints_2d_px": dict(zip(with_heatmap, poses.joints_2d[i].astype(float).round(2).tolist(), strict=True)),
        "confidence": dict(zip(with_heatmap, poses.confidence[i].astype(float).round(4).tolist(), strict=True)),
    }


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

    def draw(self, image: InputImage, joints_2d: NDArray[np.floating[Any]]) -> tuple[InputImage, Image | None]:
        """Draw a prediction (15, 2) and write the image, in any thread; of a video's frame return it for `append`."""
        drawn = draw(image, joints_2d)
        if image.name in self._videos:
            return image, drawn
        path = self._path(image.name, IMAGES, ".png")
        with naming(path):
            path.write_bytes(encode(drawn, path.suffix.lower()))
        return image, None

    def append(self, image: InputImage, drawn: Image | None) -> None:
        """Append a frame to its video; one video after another, its frames in order. Ignores what `draw` wrote."""
        if drawn is None:
            return
        try:
            if self._written != image.name:
                self._begin(image.name)
            if self._writer is not None:
                self._writer.write(drawn, image.timing["time_s"])
        except NoEncoderError as error:
            self.faults.append(f"the video of {image.name}: {error}")
            self._writer = None
            self._open.__exit__(*sys.exc_info())

    def _begin(self, name: str) -> None:
        self._open.close()
        self._writer, self._written = None, name
        path = self._path(name, (".mp4",), ".mp4")
        self._writer = self._open.enter_context(writing_video(path, self._videos[name].clock))

    def _path(self, name: str, endings: Sequence[str], ending: str) -> Path:
        """Return where an image or video goes; what has none of the ``endings`` gets the one that can be written."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path if path.suffix.lower() in endings else path.with_name(path.name + ending)
