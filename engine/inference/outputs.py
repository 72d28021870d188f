"""What inference writes: predictions.json, and images and videos with the predictions drawn."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from engine.inference.images import InputImage, Unreadable
from engine.inference.inputs import IMAGES
from engine.inference.pose_model import Poses
from engine.inference.video import Clock
from engine.inference.video_writer import NoEncoderError, VideoWriter, writing_video
from engine.visualization import overlay, rescale
from loaders.codecs import Image, encode
from loaders.system.files import appearing
from loaders.system.os_errors import naming
from models.head import HeadPosition
from models.skeleton import Skeleton

_AXES: Final = "x to the right of the image, y down, z along the camera's axis"


@contextlib.contextmanager
def writing_predictions(
    path: Path,
    checkpoint: str,
    source: Mapping[str, str],
    head: HeadPosition | None,
    *,
    skeleton: Skeleton,
    smoothing: dict[str, Any] | None,
) -> Iterator[PredictionsFile]:
    """Open predictions.json, which appears whole or not at all; no predictions are held in memory.

    Args:
        path: its name.
        checkpoint: of the network.
        source: the folder that all inputs have in common, as "input_dir", or the "camera".
        head: where the head is in the camera frame of the inputs; None if it is not known.
        skeleton: what the joints are.
        smoothing: what smooths the poses of consecutive frames; None if nothing does.
    """
    frames = {"joints_3d_m": f"relative to {skeleton.joints[skeleton.root]}"}
    facts: dict[str, Any] = {"checkpoint": checkpoint, **source, "axes": _AXES, "frames": frames}
    facts |= {"head": None, "smoothing": smoothing}
    if head is not None:
        frames["joints_3d_camera_m"] = (
            f"of the camera: {skeleton.joints[head.joint]} lies at head.mean_m, where it was in training"
        )
        facts["head"] = {"mean_m": _rounded(head.mean, 5), "spread_m": _rounded(head.spread, 5)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(f'{json.dumps(facts)[:-1]}, "images": [')
        predictions = PredictionsFile(file, skeleton)
        yield predictions
        skipped = [{"file": item.name, "reason": item.reason} for item in predictions.unreadable]
        file.write(f'\n], "unreadable": {json.dumps(skipped, indent=1)}}}\n')


class PredictionsFile:
    """predictions.json while it is written."""

    def __init__(self, file: TextIO, skeleton: Skeleton) -> None:
        self._file = file
        self._joints, self._with_heatmap = skeleton.joints, skeleton.heatmap_names
        self.entries = 0
        """Number of predictions so far."""
        self.unreadable: list[Unreadable] = []
        """What could not be read; the file lists it at its end."""
        self._distances: list[NDArray[np.float32]] = []
        """Of each image, for their median."""

    @property
    def median_distance(self) -> float | None:
        """Median of the distances between projected joints and heatmaps' peaks (pixels); None if there are none."""
        distances = np.concatenate([np.empty(0, np.float32), *self._distances])
        return float(np.median(distances)) if len(distances) else None

    def add(self, images: Sequence[InputImage], poses: Poses) -> None:
        """Append entries, one per line."""
        for i, image in enumerate(images):
            entry = {
                "file": image.name,
                **image.timing,
                "width": image.view.width,
                "height": image.view.height,
                "joints_3d_m": _by_name(self._joints, poses.joints_3d[i], 5),
                "joints_2d_px": _by_name(self._with_heatmap, poses.joints_2d[i], 2),
                "confidence": _by_name(self._with_heatmap, poses.confidence[i], 4),
            }
            if poses.joints_3d_camera is not None:
                assert poses.projected_2d is not None and poses.distance is not None
                entry["joints_3d_camera_m"] = _by_name(self._joints, poses.joints_3d_camera[i], 5)
                entry["projected_2d_px"] = _by_name(self._joints, poses.projected_2d[i], 2)
                entry["projection_distance_px"] = _by_name(self._with_heatmap, poses.distance[i], 2)
                self._distances.append(poses.distance[i][np.isfinite(poses.distance[i])])
            self._file.write(f"{',' if self.entries else ''}\n{json.dumps(entry)}")
            self.entries += 1


def _by_name(names: Sequence[str], values: NDArray[np.float32], decimals: int) -> dict[str, Any]:
    return dict(zip(names, _rounded(values, decimals), strict=True))


def _rounded(values: ArrayLike, decimals: int) -> list[Any]:
    """Return numbers or positions as JSON has them: None for NaN."""
    rounded = np.asarray(values, float).round(decimals)
    known = np.isfinite(rounded).reshape(len(rounded), -1).all(1).tolist()
    return [value if is_known else None for value, is_known in zip(rounded.tolist(), known, strict=True)]


class Drawings:
    """A folder of drawn images, named like the inputs; a video becomes an MP4."""

    def __init__(
        self, folder: Path, clocks: Mapping[str, Clock], open_video: contextlib.ExitStack, skeleton: Skeleton
    ) -> None:
        """Nothing is written yet.

        Args:
            folder: made when it is needed.
            clocks: of the inputs that are videos, by name.
            open_video: holds the video that is being written; its end finishes the video, or removes it after an error.
            skeleton: what the joints are.
        """
        self._folder = folder
        self._skeleton = skeleton
        self._clocks = clocks
        self._open = open_video
        self._writer: VideoWriter | None = None
        self._written = ""
        """Name of the video that is being written."""
        self.faults: list[str] = []
        """Why some videos are not written."""

    def draw(self, image: InputImage, joints_2d: NDArray[np.floating[Any]]) -> Image | None:
        """Draw a prediction (K, 2) and write the image, in any thread; of a video's frame return it for `append`."""
        assert image.canvas is not None
        positions = rescale(joints_2d, image.canvas.shape[1] / image.view.width)
        drawn = overlay(image.canvas, positions, skeleton=self._skeleton)
        if image.name in self._clocks:
            return drawn
        path = self._path(image.name, IMAGES, ".png")
        with naming(path):
            path.write_bytes(encode(drawn, path.suffix.lower()))
        return None

    def append(self, image: InputImage, drawn: Image) -> None:
        """Append a frame to its video; one video after another, its frames in order."""
        try:
            if self._written != image.name:
                self._open.close()
                self._writer, self._written = None, image.name
                path = self._path(image.name, (".mp4",), ".mp4")
                self._writer = self._open.enter_context(writing_video(path, self._clocks[image.name]))
            if self._writer is not None:
                self._writer.write(drawn, image.timing["time_s"])
        except NoEncoderError as error:
            self.faults.append(f"the video of {image.name}: {error}")
            self._writer = None
            self._open.__exit__(*sys.exc_info())

    def _path(self, name: str, endings: Sequence[str], ending: str) -> Path:
        """Return where an image or video goes; what has none of the ``endings`` gets the one that can be written."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path if path.suffix.lower() in endings else path.with_name(path.name + ending)
