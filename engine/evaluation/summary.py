"""The metrics of a split, made of the errors of its frames, as metrics.json holds them (docs/metrics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from engine.evaluation.intervals import ALL, FEWEST_RECORDINGS, group_intervals, group_means
from engine.evaluation.metrics import Errors, FrameErrors

_BY_GROUP: Final = ("mpjpe_mm", "camera_mpjpe_mm", "baseline_mpjpe_mm")
"""Metrics whose own key holds all groups; that of the others holds the mean, ``group_`` before it all groups."""


def summarize(errors: FrameErrors) -> dict[str, Any]:
    """Return the metrics of metrics.json. Means run over frames; what no frame has is absent."""
    values = {name: column for name, column in errors.metrics.items() if np.isfinite(column).any()}
    metrics: dict[str, Any] = _counts(errors)
    skeleton = errors.skeleton
    for name, means in group_means(values, errors.groups, errors.group_names).items():
        metrics |= {name: means} if name in _BY_GROUP else {name: means[ALL], f"group_{name}": means}
    for prefix, joints in (("", errors.pose), ("baseline_", errors.baseline)):
        if joints is not None:
            metrics[f"{prefix}joint_mpjpe_mm"] = _by_joint(joints, skeleton.joints)
    if errors.bones is not None:
        names = [f"{skeleton.joints[start]}-{skeleton.joints[end]}" for start, end in skeleton.bones]
        metrics["per_bone_length_error_mm"] = dict(zip(names, errors.bones.mean(0).tolist(), strict=True))
    if errors.pixels is not None:
        metrics["joint_error_2d_px"] = _by_joint(errors.pixels, skeleton.heatmap_names)
        metrics |= errors.joint_counts
    metrics["ci95"] = group_intervals(values, errors.groups, errors.group_names, errors.recordings)
    return metrics


def notes_on(metrics: dict[str, Any], groups: Sequence[str]) -> list[str]:
    """Return what must be said of a split: whether its intervals can be relied on, and which groups its mean lacks."""
    notes = []
    recordings = metrics["recordings_per_group"][ALL]
    if recordings < FEWEST_RECORDINGS:
        notes.append(
            f"The 95 % intervals are unreliable: they rest on {recordings} recording{'s' * (recordings != 1)}, and "
            f"fewer than {FEWEST_RECORDINGS} do not say how much recordings differ."
        )
    absent = [group for group in groups if group not in metrics["frames_per_group"]]
    if absent and len(absent) < len(groups):
        notes.append(
            f"The group mean is over {len(groups) - len(absent)} of {len(groups)} groups: no frames of "
            f"{', '.join(absent)}."
        )
    return notes


def _counts(errors: FrameErrors) -> dict[str, Any]:
    groups = np.array([group or "" for group in errors.groups])
    masks = {ALL: np.ones(len(groups), bool)} | {group: groups == group for group in errors.group_names}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    return {
        "frames": len(groups),
        "frames_per_group": {name: int(mask.sum()) for name, mask in masks.items()},
        "recordings_per_group": {name: len(np.unique(errors.recordings[mask])) for name, mask in masks.items()},
    }


def _by_joint(values: Errors, joints: Sequence[str]) -> dict[str, float]:
    """Return the means of values (n, j) by the joints' names; a joint without any value is absent."""
    columns = {joint: column[np.isfinite(column)] for joint, column in zip(joints, values.T, strict=True)}
    return {joint: float(column.mean()) for joint, column in columns.items() if len(column)}
