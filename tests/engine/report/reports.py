"""Reports of a tiny shard set, with predictions that nobody made."""

import numpy as np

from engine.evaluation.comparison import OtherFrames, compare
from engine.evaluation.examples import collect_examples
from engine.evaluation.metrics import frame_errors
from engine.evaluation.predictions import Predictions
from engine.evaluation.split import mean_pose
from engine.evaluation.summary import summarize
from engine.report.writer import write_report
from loaders import ShardSet
from models.camera import IN_IMAGE
from models.xr_egopose import ACTION_GROUPS, JOINTS

EVALUATION = {
    "checkpoint": "runs/<b>&amp;/best.pt",
    "stage": "finetune",
    "backbone": "resnet18",
    "network": None,
    "image_size": 128,
    "split": "test",
    "dataset": "xR-EgoPose",
    "joints": JOINTS,
    "root": "Neck",
    "action_groups": list(ACTION_GROUPS),
    "frame": "1280x800",
    "generated": False,
    "notes": ["A note."],
}


def predictions_of(shard_set):
    """Predictions that are off by a little, more in later frames."""
    pose, meta = shard_set.labels()
    skeleton = shard_set.manifest.skeleton
    true_3d = pose[..., 2:] - pose[:, skeleton.root : skeleton.root + 1, 2:]
    true_2d = pose[:, list(skeleton.heatmap_joints), :2]
    noise = np.random.default_rng(0).normal(size=true_3d.shape) * 0.02 * np.arange(len(meta))[:, None, None]
    return Predictions(
        index=np.arange(len(meta)),
        meta=meta,
        true_3d=true_3d,
        true_2d=true_2d,
        visible=np.full(true_2d.shape[:2], IN_IMAGE, np.uint8),
        joints_3d=(true_3d + noise).astype(np.float32),
        joints_2d=true_2d + 1,
    )


def write(folder, shards, predictions, **changes):
    shard_set = ShardSet(shards, "test")
    errors = frame_errors(predictions, shard_set.manifest, mean_pose(shard_set))
    metrics = summarize(errors) | {"evaluation": EVALUATION | changes}
    keys = [shard_set.key(index) for index in range(len(shard_set))]
    rows = {key: row for row, key in enumerate(keys[1:])}
    metric = "mpjpe_mm" if errors.unit == "mm" else "error_2d_frame_px"
    other = OtherFrames(folder / "other.csv", rows, {metric: errors.ranked[1:] + 7})
    metrics["against"] = compare(errors, keys, other)
    examples = collect_examples(shard_set, predictions, errors, image_size=128, count=2)
    return write_report(folder, metrics, examples, {"optim": {"lr": 0.001}}), examples
