"""What checkpoints predict for a split, and how far they are off, in a unit that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.device import choose_device
from engine.distributed import Process
from engine.evaluation.examples import predicted_positions
from engine.evaluation.metrics import frame_errors
from engine.evaluation.predictions import Predictions, predict_split
from engine.evaluation.split import STAGE_NOTES, split_loader
from engine.loaded_model import LoadedModel, read_model
from engine.precision import Precision, PrecisionName
from loaders import InputError, ReaderConfig, ShardSet
from models.camera import Camera

MOST: Final = 2
"""Checkpoints that a sheet compares."""


@dataclass(frozen=True)
class Result:
    """One checkpoint on a split of n frames."""

    checkpoint: Path
    description: str
    """Stage, backbone, image size."""
    note: str
    """What must be said of the stage's results; may be empty."""
    errors: NDArray[np.float64]
    """(n,), in ``unit``."""
    unit: str
    """mm: mean distance of the joints, relative to the root; px: of those that have a heatmap, pixels of the dataset's
    frame."""
    predictions: Predictions
    """Of all n frames; without poses if ``unit`` is px."""
    camera: Camera
    """Of the network's images."""

    def positions(self, shard_set: ShardSet, index: int, camera: Camera) -> NDArray[np.floating[Any]]:
        """Return where the network sees the joints of a frame: (J, 2), pixels of ``camera``; NaN for no prediction."""
        seen = self.camera.transfer(predicted_positions(shard_set, self.predictions, index, self.camera), camera)
        skeleton = shard_set.manifest.skeleton
        positions = np.full((len(skeleton), 2), np.nan)
        positions[range(len(skeleton)) if len(seen) == len(skeleton) else list(skeleton.heatmap_joints)] = seen
        return positions


def predict(
    checkpoints: Sequence[Path], data: ReaderConfig, split: str, *, device: str, precision: PrecisionName
) -> list[Result]:
    """Run networks over a split, one after the other.

    Poses are compared in mm. Beside a network that predicts positions in the image alone, so are those of the other.

    Raises:
        InputError: a checkpoint or the shard set cannot be used, or two checkpoints predict nothing of the same kind.
        Failure: a prediction is not finite.
    """
    process = Process(0, 1, choose_device(device))
    networks = [read_model(path, process.device) for path in checkpoints]
    by_stage = {network.stage.name: network.source for network in networks}
    if by_stage.keys() == {"train2d", "train3d"}:
        raise InputError(
            f"{by_stage['train2d']} predicts positions in the image and {by_stage['train3d']} poses alone, which "
            "cannot be compared: give checkpoints of one stage, or one of finetune"
        )
    chosen = Precision.choose(precision, process.device)
    poses = "train2d" not in by_stage
    return [_predict(network, data, split, process, chosen, poses=poses) for network in networks]


def _predict(
    network: LoadedModel, data: ReaderConfig, split: str, process: Process, precision: Precision, *, poses: bool
) -> Result:
    stage = network.stage
    loader = split_loader(network, data, split, process)
    predictions = predict_split(network, loader, process, precision)
    loader.close()
    if not poses:
        predictions = dataclasses.replace(predictions, joints_3d=None)
    frame = loader.shard_set.manifest.preprocessing.frame
    errors = frame_errors(predictions, loader.shard_set.manifest, None)
    return Result(
        checkpoint=network.source,
        description=", ".join(filter(None, [stage.name, network.backbone, network.network, f"{stage.image_size} px"])),
        note=STAGE_NOTES.get(stage.name, ""),
        errors=errors.ranked if poses else errors.ranked * (frame.fy / loader.camera.fy),
        unit=errors.unit,
        predictions=predictions,
        camera=loader.camera,
    )
