"""Errors of every frame, and the metrics of a split made of them, as metrics.json holds them (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.predictions import Predictions
from models.metrics import align, auc, bone_length_errors, joint_errors, pck
from models.skeleton import ACTION_GROUPS, BONES, HEATMAP_JOINTS, JOINTS, LOWER_BODY, UPPER_BODY, action_group

Errors = NDArray[np.float64]

ALL: Final = "All"
RESAMPLES: Final = 1000
"""Bootstrap samples that a confidence interval is read from."""

_BY_GROUP: Final = ("mpjpe_mm", "baseline_mpjpe_mm")
"""Metrics whose own key holds all groups; that of the others holds the mean, ``group_`` before it all groups."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors of n frames; None for what the network does not predict."""

    groups: tuple[str | None, ...]
    """The action group of each frame; None for an unknown action."""
    pose: Errors | None = None
    """(n, 16), mm: distance of each joint, both poses relative to Neck."""
    aligned: Errors | None = None
    """(n, 16), mm: the same after Procrustes alignment of the frame's pose."""
    bones: Errors | None = None
    """(n, 14), mm: error of each bone's length."""
    baseline: Errors | None = None
    """(n, 16), mm: distance of the training split's mean pose; None without a training split."""
    pixels: Errors | None = None
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

    def metrics(self) -> dict[str, Errors]:
        """Return (n,) for each metric of a frame, by the name that it has in metrics.json."""
        metrics: dict[str, Errors] = {}
        if self.pose is not None and self.aligned is not None and self.bones is not None:
            metrics |= _pose_metrics(self.pose)
            metrics["pa_mpjpe_mm"] = self.aligned.mean(1)
            metrics["pck_150mm_percent"] = pck(self.pose)
            metrics["auc_150mm_percent"] = auc(self.pose)
            metrics["bone_length_error_mm"] = self.bones.mean(1)
        if self.baseline is not None:
            metrics |= {f"baseline_{name}": values for name, values in _pose_metrics(self.baseline).items()}
        if self.pixels is not None:
            metrics["error_2d_px"] = self.pixels.mean(1)
        return metrics


def frame_errors(
    predictions: Predictions, actions: Sequence[str], mean_pose: NDArray[np.floating[Any]] | None
) -> FrameErrors:
    """Return the errors of the predictions for n frames.

    Args:
        predictions: of n frames.
        actions: names of the dataset's actions, in the order to which ``predictions.meta`` refers.
        mean_pose: (16, 3), metres relative to Neck: the baseline.
    """
    predicted, true = predictions.joints_3d, predictions.true_3d
    errors: dict[str, Errors] = {}
    if predicted is not None:
        errors["pose"] = 1000 * joint_errors(predicted, true)
        errors["aligned"] = 1000 * joint_errors(align(predicted, true), true)
        errors["bones"] = 1000 * bone_length_errors(predicted, true)
        if mean_pose is not None:
            errors["baseline"] = 1000 * joint_errors(np.broadcast_to(mean_pose, true.shape), true)
    if predictions.joints_2d is not None:
        errors["pixels"] = joint_errors(predictions.joints_2d, predictions.true_2d)
    return FrameErrors(tuple(action_group(actions[action]) for action in predictions.meta[:, 3]), **errors)


def summarize(errors: FrameErrors, *, frame_pixels: float) -> dict[str, Any]:
    """Return the metrics of metrics.json. Means run over frames; a group without frames is absent.

    Args:
        errors: of all frames.
        frame_pixels: pixels of the dataset's 1280x800 frame in one of the network's image.
    """
    groups = np.array([group or "" for group in errors.groups])
    masks = {ALL: np.ones(len(groups), bool)} | {group: groups == group for group in ACTION_GROUPS}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    by_frame = errors.metrics()
    metrics: dict[str, Any] = {
        "frames": len(groups),
        "frames_per_group": {name: int(mask.sum()) for name, mask in masks.items()},
    }
    for name, values in by_frame.items():
        means = {group: float(values[mask].mean()) for group, mask in masks.items()}
        metrics |= {name: means} if name in _BY_GROUP else {name: means[ALL], f"group_{name}": means}
    for prefix, joints in (("", errors.pose), ("baseline_", errors.baseline)):
        if joints is not None:
            metrics[f"{prefix}joint_mpjpe_mm"] = _by_joint(joints, range(len(JOINTS)))
    if errors.bones is not None:
        names = [f"{JOINTS[start]}-{JOINTS[end]}" for start, end in BONES]
        metrics["per_bone_length_error_mm"] = dict(zip(names, errors.bones.mean(0).tolist(), strict=True))
    if errors.pixels is not None:
        metrics["error_2d_frame_px"] = metrics["error_2d_px"] * frame_pixels
        metrics["joint_error_2d_px"] = _by_joint(errors.pixels, HEATMAP_JOINTS)
    values = np.stack(list(by_frame.values()), axis=1)
    bounds = {group: bootstrap(values[mask]).T.tolist() for group, mask in masks.items()}
    metrics["ci95"] = {name: {group: bounds[group][i] for group in masks} for i, name in enumerate(by_frame)}
    return metrics


def bootstrap(values: Errors, *, seed: int = 0) -> NDArray[np.float64]:
    """Return (2, m): between these bounds lie 95 % of the means (m,) of frames drawn anew from ``values`` (n, m).

    Percentile bootstrap over frames, Efron, "Bootstrap Methods: Another Look at the Jackknife", 1979. Neighboring
    frames of a recording are alike, so a set of other recordings may well fall outside.
    """
    random = np.random.default_rng(seed)
    frames = len(values)
    means = np.empty((RESAMPLES, values.shape[1]))
    for resample in means:
        times_drawn = np.bincount(random.integers(frames, size=frames), minlength=frames)
        resample[:] = times_drawn @ values / frames
    return np.asarray(np.percentile(means, [2.5, 97.5], axis=0))


def _pose_metrics(errors: Errors) -> dict[str, Errors]:
    return {
        "mpjpe_mm": errors.mean(1),
        "upper_body_mpjpe_mm": errors[:, UPPER_BODY].mean(1),
        "lower_body_mpjpe_mm": errors[:, LOWER_BODY].mean(1),
    }


def _by_joint(values: Errors, joints: Sequence[int]) -> dict[str, float]:
    return {JOINTS[joint]: float(value) for joint, value in zip(joints, values.mean(0), strict=True)}
