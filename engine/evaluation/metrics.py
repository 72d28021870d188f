"""Errors of every frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.predictions import Predictions
from engine.evaluation.sequences import motion_metrics
from loaders.format.manifest import Manifest
from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.head import HeadPosition
from models.metrics import align, auc, bone_aligned_errors, bone_length_errors, joint_errors, pck, rescale
from models.skeleton import Skeleton

Errors = NDArray[np.float64]

_COUNTS: Final = {"joints_in_image": IN_IMAGE, "joints_outside_image": IN_LENS, "joints_unseen": UNSEEN}
"""Name in metrics.json -> the visibility of the joints that are counted."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors of n frames; None for what the network does not predict."""

    groups: tuple[str | None, ...]
    """The action group of each frame; None for an action of no group."""
    group_names: tuple[str, ...]
    """All groups of the dataset, in order."""
    skeleton: Skeleton
    recordings: NDArray[np.int64]
    """(n,): a number for each recording."""
    metrics: dict[str, Errors]
    """Metric by its name in metrics.json -> (n,); NaN where a frame has none."""
    pose: Errors | None = None
    """(n, J), mm: distance of each joint, both poses relative to the root."""
    bones: Errors | None = None
    """(n, bones), mm: error of each bone's length."""
    baseline: Errors | None = None
    """(n, J), mm: distance of the training split's mean pose; None without a training split."""
    pixels: Errors | None = None
    """(n, K), pixels of the network's image; NaN for a joint that is not in the image."""
    joint_counts: dict[str, int] = field(default_factory=dict)
    """How many joints ``pixels`` holds, and how many it leaves out, by name in metrics.json."""

    @property
    def ranked(self) -> Errors:
        """(n,): what frames are ranked by: mm, or pixels for a network without poses; 0 with no joint in the image."""
        return self.metrics["mpjpe_mm"] if self.pose is not None else np.nan_to_num(self.metrics["error_2d_px"])

    @property
    def unit(self) -> str:
        """Unit of `ranked`."""
        return "px" if self.pose is None else "mm"


def frame_errors(
    predictions: Predictions,
    manifest: Manifest,
    mean_pose: NDArray[np.floating[Any]] | None,
    *,
    head: HeadPosition | None = None,
    roots: NDArray[np.floating[Any]] | None = None,
    frame_pixels: float = 1.0,
) -> FrameErrors:
    """Return the errors of the predictions for n frames.

    Args:
        predictions: of n frames.
        manifest: of their shard set, which says what joints and actions are.
        mean_pose: (J, 3), metres relative to the root: the baseline.
        head: where the network's training split has the head; without it or ``roots`` no error in the camera frame.
        roots: (n, 3), where the root truly is, metres, camera frame.
        frame_pixels: pixels of the dataset's frame in one of the network's image.
    """
    skeleton = manifest.skeleton
    predicted, true, meta = predictions.joints_3d, predictions.true_3d, predictions.meta
    joints: dict[str, Errors] = {}
    metrics: dict[str, Errors] = {}
    counts = {}
    if predicted is not None:
        joints["pose"] = 1000 * joint_errors(predicted, true)
        joints["bones"] = 1000 * bone_length_errors(predicted, true, skeleton)
        metrics |= _halves(joints["pose"], skeleton)
        if head is not None and roots is not None:
            placed = head.place(np.asarray(predicted, np.float64))
            metrics["camera_mpjpe_mm"] = 1000 * joint_errors(placed, true + roots[:, None]).mean(1)
        for name, moved in (("pa", align), ("n", rescale)):
            metrics[f"{name}_mpjpe_mm"] = 1000 * joint_errors(moved(predicted, true), true).mean(1)
        metrics["ba_mpjpe_mm"] = 1000 * bone_aligned_errors(predicted, true, skeleton).mean(1)
        metrics["pck_150mm_percent"] = pck(joints["pose"])
        metrics["auc_150mm_percent"] = auc(joints["pose"])
        metrics["bone_length_error_mm"] = joints["bones"].mean(1)
        metrics |= motion_metrics(1000 * predicted, 1000 * true, meta)
        if mean_pose is not None:
            joints["baseline"] = 1000 * joint_errors(np.broadcast_to(mean_pose, true.shape), true)
            metrics |= {f"baseline_{name}": values for name, values in _halves(joints["baseline"], skeleton).items()}
    if predictions.joints_2d is not None:
        seen = predictions.visible == IN_IMAGE
        joints["pixels"] = np.where(seen, joint_errors(predictions.joints_2d, predictions.true_2d), np.nan)
        number = seen.sum(1)
        total = np.nansum(joints["pixels"], axis=1)
        metrics["error_2d_px"] = np.divide(total, number, out=np.full(len(meta), np.nan), where=number > 0)
        metrics["error_2d_frame_px"] = metrics["error_2d_px"] * frame_pixels
        counts = {name: int((predictions.visible == value).sum()) for name, value in _COUNTS.items()}
    groups = tuple(manifest.groups[action] for action in meta[:, 3])
    _, recordings = np.unique(meta[:, 0].astype(np.int64) << 32 | meta[:, 1], return_inverse=True)
    names = tuple(manifest.action_groups)
    return FrameErrors(groups, names, skeleton, recordings, metrics, **joints, joint_counts=counts)


def _halves(errors: Errors, skeleton: Skeleton) -> dict[str, Errors]:
    halves = {"upper_body_mpjpe_mm": skeleton.upper_body, "lower_body_mpjpe_mm": skeleton.lower_body}
    return {"mpjpe_mm": errors.mean(1)} | {name: errors[:, half].mean(1) for name, half in halves.items() if half}
