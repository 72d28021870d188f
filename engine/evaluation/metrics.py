"""The figures of a split: what metrics.json holds; docs/metrics.md explains each key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.evaluation.frame_errors import Errors, FrameErrors
from models.skeleton import ACTION_GROUPS, BONES, HEATMAP_JOINTS, JOINTS

ALL: Final = "All"
RESAMPLES: Final = 1000
"""Bootstrap samples that a confidence interval is read from."""

_BY_GROUP: Final = ("mpjpe_mm", "baseline_mpjpe_mm")
"""Measures whose own key holds all groups; that of the others holds the mean, ``group_`` before it all groups."""


def summarize(errors: FrameErrors, *, frame_pixels: float) -> dict[str, Any]:
    """Return the figures of metrics.json. Means run over frames; a group without frames is left out.

    Args:
        errors: of all frames.
        frame_pixels: pixels of the dataset's 1280x800 frame in one of the network's image.
    """
    groups = np.array([group or "" for group in errors.groups])
    masks = {ALL: np.ones(len(groups), bool)} | {group: groups == group for group in ACTION_GROUPS}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    measures = errors.measures()
    metrics: dict[str, Any] = {
        "frames": len(groups),
        "frames_per_group": {name: int(mask.sum()) for name, mask in masks.items()},
    }
    for name, values in measures.items():
        means = {group: float(values[mask].mean()) for group, mask in masks.items()}
        metrics |= {name: means} if name in _BY_GROUP else {name: means[ALL], f"group_{name}": means}
    for prefix, joint_errors in (("", errors.pose), ("baseline_", errors.baseline)):
        if joint_errors is not None:
            metrics[f"{prefix}joint_mpjpe_mm"] = _by_joint(joint_errors, range(len(JOINTS)))
    if errors.bones is not None:
        names = [f"{JOINTS[start]}-{JOINTS[end]}" for start, end in BONES]
        metrics["per_bone_length_error_mm"] = dict(zip(names, errors.bones.mean(0).tolist(), strict=True))
    if errors.pixels is not None:
        metrics["error_2d_frame_px"] = metrics["error_2d_px"] * frame_pixels
        metrics["joint_error_2d_px"] = _by_joint(errors.pixels, HEATMAP_JOINTS)
    metrics["ci95"] = _intervals(measures, masks)
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


def _intervals(measures: dict[str, Errors], masks: dict[str, NDArray[np.bool_]]) -> dict[str, dict[str, list[float]]]:
    """Return measure -> group -> [low, high]."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in measures}
    values = np.stack(list(measures.values()), axis=1)
    for group, mask in masks.items():
        for name, bounds in zip(measures, bootstrap(values[mask]).T, strict=True):
            found[name][group] = bounds.tolist()
    return found


def _by_joint(values: Errors, joints: Sequence[int]) -> dict[str, float]:
    return {JOINTS[joint]: float(value) for joint, value in zip(joints, values.mean(0), strict=True)}
