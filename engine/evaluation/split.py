"""The evaluation of a network on one split."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.distributed import Process
from engine.evaluation.examples import Example, collect_examples
from engine.evaluation.metrics import FrameErrors, frame_errors
from engine.evaluation.predictions import Predictions, predict_split
from engine.evaluation.summary import notes_on, summarize
from engine.loaded_model import LoadedModel
from engine.precision import Precision
from loaders import DataConfig, InputError, Loader, ReaderConfig, ShardSet, build_loader

logger = logging.getLogger(__name__)

STAGE_NOTES: Final = {
    "train2d": "This checkpoint holds the heatmap network alone: it predicts no pose, only positions in the image.",
    "train3d": "This checkpoint holds the lifting network alone: its poses come from the true heatmaps.",
}
"""What must be said of a stage's results."""
NO_HEAD_NOTE: Final = (
    "No error in the camera frame: the checkpoint does not say where the head is before the camera. Train it anew for "
    "that."
)
"""What must be said of poses that cannot be placed."""


@dataclass(frozen=True)
class Evaluation:
    """The result on a split."""

    predictions: Predictions
    errors: FrameErrors
    metrics: dict[str, Any]
    """What metrics.json holds; "evaluation" in it describes the network, the split and the machine."""
    examples: list[Example]


def split_loader(loaded: LoadedModel, data: ReaderConfig, split: str, process: Process) -> Loader:
    """Return this process's loader of a split, of the images or labels that a network takes, in its size.

    Raises InputError as `build_loader` does, and for shards of another crop than the network was trained on.
    """
    window, stride = loaded.window
    loader = build_loader(
        DataConfig(**vars(data), image_size=loaded.stage.image_size, window=window, stride=stride),
        split,
        rank=process.rank,
        world_size=process.world_size,
        device=process.device,
        outputs=loaded.stage.outputs,
    )
    joints = loader.skeleton.joints
    if joints != loaded.skeleton.joints:
        loader.close()
        raise InputError(
            f"{data.shards} has the joints {', '.join(joints)}, {loaded.source} was trained on "
            f"{', '.join(loaded.skeleton.joints)}: evaluate it on shards with the same skeleton"
        )
    stored = loader.shard_set.manifest.preprocessing.crop
    if stored != loaded.crop:
        loader.close()
        raise InputError(
            f"{data.shards} has images of the crop {stored}, {loaded.source} was trained on {loaded.crop}: evaluate it "
            f"on shards made with --crop {loaded.crop}"
        )
    return loader


def evaluate_split(
    loaded: LoadedModel, loader: Loader, process: Process, precision: Precision, *, examples: int
) -> Evaluation | None:
    """Evaluate a network on ``loader``'s split; every process must call it, and the main one gets the result.

    Args:
        loaded: the network.
        loader: of the split, see `split_loader`; it is closed.
        process: this process.
        precision: of the network's matrix products.
        examples: frames of each kind to show.
    """
    started = time.perf_counter()
    predictions = predict_split(loaded, loader, process, precision)
    seconds = time.perf_counter() - started
    skipped = process.everyones_keys(dict.fromkeys(loader.skipped.values()))
    loader.close()
    if not process.is_main:
        return None
    shard_set, stage, manifest = loader.shard_set, loaded.stage, loader.shard_set.manifest
    frame = manifest.preprocessing.frame
    errors = frame_errors(
        predictions,
        manifest,
        mean_pose(shard_set),
        head=loaded.head,
        roots=shard_set.pose(predictions.index)[:, manifest.skeleton.root, 2:].astype(np.float64),
        # a pixel of the network's image is so many of the dataset's frame
        frame_pixels=frame.fy / loader.camera.fy,
    )
    metrics = summarize(errors)
    notes = [STAGE_NOTES[stage.name]] if stage.name in STAGE_NOTES else []
    if loader.left_out:
        notes.append(f"{loader.left_out}: they are left out")
    if skipped:
        notes.append(f"{len(skipped)} frames skipped, the first: {skipped[0]}")
    if errors.pose is not None and loaded.head is None and manifest.skeleton.head is not None:
        notes.append(NO_HEAD_NOTE)
    if frame != loaded.camera:
        notes.append("These frames are of another camera than those that the network was trained on.")
    notes += notes_on(metrics, errors.group_names)
    metrics["evaluation"] = {
        "checkpoint": str(loaded.source),
        "stage": stage.name,
        "backbone": loaded.backbone,
        "network": loaded.network,
        "image_size": stage.image_size,
        "shards": str(shard_set.folder.parent),
        "split": shard_set.folder.name,
        "dataset": manifest.dataset,
        "joints": manifest.skeleton.joints,
        "root": manifest.skeleton.joints[manifest.skeleton.root],
        "action_groups": errors.group_names,
        "frame": f"{frame.width}x{frame.height}",
        "generated": manifest.generated,
        "fingerprint": shard_set.fingerprint,
        "device": process.device.type,
        "processes": process.world_size,
        "precision": precision.name,
        "images_per_second": round(metrics["frames"] / seconds, 1),
        "skipped": skipped,
        "notes": notes,
    }
    chosen = collect_examples(shard_set, predictions, errors, image_size=stage.image_size, count=examples)
    return Evaluation(predictions, errors, metrics, chosen)


def mean_pose(shard_set: ShardSet) -> NDArray[np.float64] | None:
    """Return the mean pose (J, 3) of a shard set's training split, metres relative to the root; None without the split.

    ``shard_set`` is any split.
    """
    try:
        training = ShardSet(shard_set.folder.parent, "train", manifest=shard_set.manifest)
    except InputError as error:
        logger.warning("no mean pose to compare with: %s", error)
        return None
    if not len(training):
        return None
    poses = training.labels()[0][:, :, 2:].astype(np.float64)
    root = shard_set.manifest.skeleton.root
    return np.asarray((poses - poses[:, root : root + 1]).mean(0))
