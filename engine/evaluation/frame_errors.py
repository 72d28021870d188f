"""Errors of every frame of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.predictions import Predictions
from models.metrics import auc, bone_length_errors, joint_errors, pa_joint_errors, pck
from models.skeleton import LOWER_BODY, UPPER_BODY, action_group

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class FrameErrors:
    """Errors of n frames; None for what the network does not predict."""

    groups: tuple[str | None, ...]
    """The action group of each frame; None for an unknown action."""
    pose: Errors | None
    """(n, 16), mm: distance of each joint, both poses relative to Neck."""
    aligned: Errors | None
    """(n, 16), mm: the same after Procrustes alignment of the frame's pose."""
    bones: Errors | None
    """(n, 14), mm: error of each bone's length."""
    baseline: Errors | None
    """(n, 16), mm: distance of the training split's mean pose; None without a training split."""
    pixels: Errors | None
    """(n, 15), pixels of the network's image."""

    @property
    def ranked(self) -> Errors:
        """(n,): what frames are ranked by: mm, or pixels for a network without poses."""
        errors = self.pose if self.pose is not None else self.pixels
        assert errors is not None
        return np.asarray(errors.mean(1))

    @property
    def unit(self) -> str:
        """Unit of `ranked`."""
        return "px" if self.pose is None else "mm"

    def measures(self) -> dict[str, Errors]:
        """Return (n,) for each measure of a frame, by the name that it has in metrics.json."""
        found: dict[str, Errors] = {}
        if self.pose is not None and self.aligned is not None and self.bones is not None:
            found |= _pose_measures(self.pose)
            found["pa_mpjpe_mm"] = self.aligned.mean(1)
            found["pck_150mm_percent"] = pck(self.pose)
            found["auc_150mm_percent"] = auc(self.pose)
            found["bone_length_error_mm"] = self.bones.mean(1)
        if self.baseline is not None:
            found |= {f"baseline_{name}": values for name, values in _pose_measures(self.baseline).items()}
        if self.pixels is not None:
            found["error_2d_px"] = self.pixels.mean(1)
        return found


def frame_errors(
    found: Predictions, actions: Sequence[str], mean_pose: NDArray[np.floating[Any]] | None
) -> FrameErrors:
    """Return the errors of predictions.

    Args:
        found: n frames.
        actions: n names as they stand in the dataset.
        mean_pose: (16, 3), metres relative to Neck: the baseline.
    """
    pose = aligned = bones = baseline = pixels = None
    if found.joints_3d is not None:
        pose = 1000 * joint_errors(found.joints_3d, found.true_3d)
        aligned = 1000 * pa_joint_errors(found.joints_3d, found.true_3d)
        bones = 1000 * bone_length_errors(found.joints_3d, found.true_3d)
        if mean_pose is not None:
            baseline = 1000 * joint_errors(np.broadcast_to(mean_pose, found.true_3d.shape), found.true_3d)
    if found.joints_2d is not None:
        pixels = joint_errors(found.joints_2d, found.true_2d)
    return FrameErrors(tuple(map(action_group, actions)), pose, aligned, bones, baseline, pixels)


def _pose_measures(errors: Errors) -> dict[str, Errors]:
    return {
        "mpjpe_mm": errors.mean(1),
        "upper_body_mpjpe_mm": errors[:, UPPER_BODY].mean(1),
        "lower_body_mpjpe_mm": errors[:, LOWER_BODY].mean(1),
    }
