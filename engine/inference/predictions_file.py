"""predictions.json, written as predictions come: however many there are, none is held in memory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

from engine.inference.images import InputImage, Unreadable
from engine.inference.pose_model import Poses
from loaders.system.files import appearing
from models.skeleton import HEATMAP_JOINTS, JOINTS

_AXES: Final = "x to the right of the image, y down, z along the camera's axis; relative to Neck"


@contextlib.contextmanager
def writing_predictions(path: Path, checkpoint: str, inputs: Path) -> Iterator[PredictionsFile]:
    """Give a file to add predictions to; it appears whole or not at all.

    Args:
        path: its name.
        checkpoint: who predicts.
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
        """How many predictions there are so far."""

    def add(self, images: Sequence[InputImage], poses: Poses) -> None:
        """Append entries, one per line."""
        for i, image in enumerate(images):
            self._file.write(f"{',' if self.entries else ''}\n{json.dumps(describe(image, poses, i))}")
            self.entries += 1

    def finish(self, unreadable: Sequence[Unreadable]) -> None:
        """Append what could not be read; nothing comes after."""
        skipped = [{"file": item.name, "reason": item.reason} for item in unreadable]
        self._file.write(f'\n], "unreadable": {json.dumps(skipped, indent=1)}}}\n')


def describe(image: InputImage, poses: Poses, i: int) -> dict[str, Any]:
    """Return an image's entry, that of row ``i`` of the poses."""
    seen = [JOINTS[joint] for joint in HEATMAP_JOINTS]
    return {
        "file": image.name,
        **image.moment,
        "width": image.view.width,
        "height": image.view.height,
        "joints_3d_m": dict(zip(JOINTS, poses.joints_3d[i].astype(float).round(5).tolist(), strict=True)),
        "joints_2d_px": dict(zip(seen, poses.joints_2d[i].astype(float).round(2).tolist(), strict=True)),
        "confidence": dict(zip(seen, poses.confidence[i].astype(float).round(4).tolist(), strict=True)),
    }
