"""Errors of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.predictions import Predictions
from engine.evaluation.sequences import motion_metrics
from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.head import HeadPosition
from models.metrics import align, auc, bone_aligned_errors, bone_length_errors, joint_errors, pck, rescale
from models.skeleton import action_group
from models.xr_egopose import SKELETON

Errors = NDArray[np.float64]

_COUNTS: Final = {"joints_in_image": IN_IMAGE, "joints_outside_image": IN_LENS, "joints_unseen": UNSEEN}
"""Name in metrics.json -> the visibility of the joints that are counted."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors of n frames; None for what the network does not predict."""

    groups: tuple[str | None, ...]
    """The action group of each frame; None for an unknown action."""
    recordings: NDArray[np.int64]
    """(n,): a number for each recording."""
    metrics: dict[str, Errors]
    """Metric by its name in metrics.json -> (n,); NaN where a frame has none."""
    pose: Errors | None = None
    """(n, 16), mm: distance of each joint, both poses relative to Neck."""
    bones: Errors | None = None
    """(n, 14), mm: error of each bone's length."""
    baseline: Errors | None = None
    """(n, 16), mm: distance of the training split's mean pose; None without a training split."""
    pixels: Errors | None = None
    """(n, 15), pixels of the network's image; NaN for a joint that is not in the image."""
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
    actions: Sequence[str],
    mean_pose: NDArray[np.floating[Any]] | None,
    *,
    head: HeadPosition | None = None,
    necks: NDArray[np.floating[Any]] | None = None,
    frame_pixels: float = 1.0,
) -> FrameErrors:
    """Return the errors of the predictions for n frames.

    Args:
        predictions: of n frames.
        actions: names of the dataset's actions, in the order to which ``predictions.meta`` refers.
        mean_pose: (16, 3), metres relative to Neck: the baseline.
        head: where the network's training split has Head; without it or ``necks`` no error in the camera frame.
        necks: (n, 3), where Neck truly is, metres, camera frame.
        frame_pixels: pixels of the dataset's 1280x800 frame in one of the network's image.
    """
    predicted, true, meta = predictions.joints_3d, predictions.true_3d, predictions.meta
    joints: dict[str, Errors] = {}
    metrics: dict[str, Errors] = {}
    counts = {}
    if predicted is not None:
        joints["pose"] = 1000 * joint_errors(predicted, true)
        joints["bones"] = 1000 * bone_length_errors(predicted, true)
        metrics |= _halves(joints["pose"])
        if head is not None and necks is not None:
            placed = head.place(np.asarray(predicted, np.float64))
            metrics["camera_mpjpe_mm"] = 1000 * joint_errors(placed, true + necks[:, None]).mean(1)
        for name, moved in (("pa", align), ("n", rescale)):
            metrics[f"{name}_mpjpe_mm"] = 1000 * joint_errors(moved(predicted, true), true).mean(1)
        metrics["ba_mpjpe_mm"] = 1000 * bone_aligned_errors(predicted, true).mean(1)
        metrics["pck_150mm_percent"] = pck(joints["pose"])
        metrics["auc_150mm_percent"] = auc(joints["pose"])
        metrics["bone_length_error_mm"] = joints["bones"].mean(1)
        metrics |= motion_metrics(1000 * predicted, 1000 * true, meta)
        if mean_pose is not None:
            joints["baseline"] = 1000 * joint_errors(np.broadcast_to(mean_pose, true.shape), true)
            metrics |= {f"baseline_{name}": values for name, values in _halves(joints["baseline"]).items()}
    if predictions.joints_2d is not None:
        seen = predictions.visible == IN_IMAGE
        joints["pixels"] = np.where(seen, joint_errors(predictions.joints_2d, predictions.true_2d), np.nan)
        number = seen.sum(1)
        total = np.nansum(joints["pixels"], axis=1)
        metrics["error_2d_px"] = np.divide(total, number, out=np.full(len(meta), np.nan), where=number > 0)
        metrics["error_2d_frame_px"] = metrics["error_2d_px"] * frame_pixels
        counts = {name: int((predictions.visible == value).sum()) for name, value in _COUNTS.items()}
    groups = tuple(action_group(actions[action]) for action in meta[:, 3])
    _, recordings = np.unique(meta[:, 0].astype(np.int64) << 32 | meta[:, 1], return_inverse=True)
    return FrameErrors(groups, recordings, metrics, **joints, joint_counts=counts)


def _halves(errors: Errors) -> dict[str, Errors]:
    return {
        "mpjpe_mm": errors.mean(1),
        "upper_body_mpjpe_mm": errors[:, SKELETON.upper_body].mean(1),
        "lower_body_mpjpe_mm": errors[:, SKELETON.lower_body].mean(1),
    }
