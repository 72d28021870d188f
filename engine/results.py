"""Errors per frame, and the figures of a split: what metrics.json holds and the table shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.predictions import Predictions
from models.metrics import joint_errors, pa_joint_errors
from models.skeleton import ACTION_GROUPS, HEATMAP_JOINTS, JOINTS, LOWER_BODY, UPPER_BODY, action_group

Errors = NDArray[np.float64]

ALL: Final = "All"
BODY_HALVES: Final = {"Upper body": UPPER_BODY, "Lower body": LOWER_BODY}

PUBLISHED_DUAL_BRANCH_MM: Final = {
    "Gaming": 56.0,
    "Gesticulating": 50.2,
    "Greeting": 44.6,
    "Lower Stretching": 51.1,
    "Patting": 59.4,
    "Reacting": 60.8,
    "Talking": 43.9,
    "Upper Stretching": 53.9,
    "Walking": 57.7,
    ALL: 58.2,
}
"""MPJPE (mm) on the real test set. Tome et al., "xR-EgoPose: Egocentric 3D Human Pose from an HMD Camera",
ICCV 2019: the proposed method with both branches."""


@dataclass(frozen=True)
class FrameErrors:
    """Errors of n frames; None for what the network does not predict."""

    groups: tuple[str | None, ...]
    """The action group of each frame; None for an unknown action."""
    pose: Errors | None
    """(n, 16), mm: distance of each joint, both poses relative to Neck."""
    aligned: Errors | None
    """(n, 16), mm: the same after Procrustes alignment of the frame's pose."""
    baseline: Errors | None
    """(n, 16), mm: distance of the training split's mean pose; None without a training split."""
    pixels: Errors | None
    """(n, 15), pixels of the network's picture."""

    @property
    def per_frame(self) -> Errors:
        """(n,): what frames are ranked by: mm, or pixels for a network without poses."""
        ranked = self.pose if self.pose is not None else self.pixels
        assert ranked is not None
        return np.asarray(ranked.mean(1))

    @property
    def unit(self) -> str:
        """Unit of `per_frame`."""
        return "px" if self.pose is None else "mm"


def frame_errors(
    found: Predictions, actions: Sequence[str], mean_pose: NDArray[np.floating[Any]] | None
) -> FrameErrors:
    """Return the errors of predictions.

    Args:
        found: n frames.
        actions: n names as they stand in the dataset.
        mean_pose: (16, 3), metres relative to Neck: the baseline.
    """
    pose = aligned = baseline = pixels = None
    if found.joints_3d is not None:
        pose = 1000 * joint_errors(found.joints_3d, found.true_3d)
        aligned = 1000 * pa_joint_errors(found.joints_3d, found.true_3d)
        if mean_pose is not None:
            baseline = 1000 * joint_errors(np.broadcast_to(mean_pose, found.true_3d.shape), found.true_3d)
    if found.joints_2d is not None:
        pixels = joint_errors(found.joints_2d, found.true_2d)
    return FrameErrors(tuple(map(action_group, actions)), pose, aligned, baseline, pixels)


def summarise(errors: FrameErrors, *, frame_pixels: float) -> dict[str, Any]:
    """Return the figures of metrics.json. Means run over frames; a group without frames is left out.

    Args:
        errors: of all frames.
        frame_pixels: pixels of the dataset's 1280x800 frame in one of the network's picture.
    """
    groups = np.array([group or "" for group in errors.groups])
    masks = {ALL: np.ones(len(groups), bool)} | {group: groups == group for group in ACTION_GROUPS}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    metrics: dict[str, Any] = {
        "frames": len(groups),
        "frames_per_group": {name: int(mask.sum()) for name, mask in masks.items()},
    }

    def by_group(values: Errors) -> dict[str, float]:
        return {name: float(values[mask].mean()) for name, mask in masks.items()}

    for prefix, values in (("", errors.pose), ("baseline_", errors.baseline)):
        if values is not None:
            metrics[f"{prefix}mpjpe_mm"] = by_group(values)
            metrics[f"{prefix}upper_body_mpjpe_mm"] = float(values[:, UPPER_BODY].mean())
            metrics[f"{prefix}lower_body_mpjpe_mm"] = float(values[:, LOWER_BODY].mean())
            metrics[f"{prefix}joint_mpjpe_mm"] = _by_joint(values, range(len(JOINTS)))
    if errors.aligned is not None:
        metrics["pa_mpjpe_mm"] = float(errors.aligned.mean())
        metrics["group_pa_mpjpe_mm"] = by_group(errors.aligned)
    if errors.pixels is not None:
        metrics["error_2d_px"] = float(errors.pixels.mean())
        metrics["error_2d_frame_px"] = metrics["error_2d_px"] * frame_pixels
        metrics["group_error_2d_px"] = by_group(errors.pixels)
        metrics["joint_error_2d_px"] = _by_joint(errors.pixels, HEATMAP_JOINTS)
    return metrics


def _by_joint(values: Errors, joints: Sequence[int]) -> dict[str, float]:
    return {JOINTS[joint]: float(value) for joint, value in zip(joints, values.mean(0), strict=True)}


@dataclass(frozen=True)
class Column:
    """A column of a table of figures."""

    title: str
    values: dict[str, float]
    """By row; a row that is absent has no such figure."""
    form: str = ".1f"


@dataclass(frozen=True)
class Table:
    """Rows of figures."""

    rows: tuple[str, ...]
    columns: tuple[Column, ...]

    def cells(self, row: str, absent: str) -> list[str]:
        """Return a row's figures as text."""
        return [format(c.values[row], c.form) if row in c.values else absent for c in self.columns]

    def to_text(self) -> str:
        """Lay the table out for a terminal."""
        lines = [["", *(column.title for column in self.columns)], *([row, *self.cells(row, "-")] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([text[0], "-" * len(text[0]), *text[1:]]) + "\n"


def action_table(metrics: dict[str, Any]) -> Table:
    """Return All, the nine groups in the paper's order, upper and lower body: ours, baseline, published."""
    columns = [Column("frames", metrics["frames_per_group"], ",d")]
    if "mpjpe_mm" in metrics:
        columns.append(Column("MPJPE mm", metrics["mpjpe_mm"] | _halves(metrics, "")))
        if "baseline_mpjpe_mm" in metrics:
            columns.append(Column("mean pose", metrics["baseline_mpjpe_mm"] | _halves(metrics, "baseline_")))
        columns.append(Column("published", PUBLISHED_DUAL_BRANCH_MM))
        columns.append(Column("PA-MPJPE", metrics["group_pa_mpjpe_mm"]))
    if "error_2d_px" in metrics:
        columns.append(Column("2D px", metrics["group_error_2d_px"], ".2f"))
    halves = BODY_HALVES if "mpjpe_mm" in metrics else ()
    return Table((ALL, *ACTION_GROUPS, *halves), tuple(columns))


def joint_table(metrics: dict[str, Any]) -> Table:
    """Return the joints: ours, baseline, 2D."""
    named = (
        ("MPJPE mm", "joint_mpjpe_mm", ".1f"),
        ("mean pose", "baseline_joint_mpjpe_mm", ".1f"),
        ("2D px", "joint_error_2d_px", ".2f"),
    )
    return Table(JOINTS, tuple(Column(title, metrics[key], form) for title, key, form in named if key in metrics))


def _halves(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    return {name: metrics[f"{prefix}{name.lower().replace(' ', '_')}_mpjpe_mm"] for name in BODY_HALVES}
