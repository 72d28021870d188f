"""Tables of metrics, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.evaluation.metrics import ALL
from models.skeleton import ACTION_GROUPS, JOINTS

BODY_HALVES: Final = {"Upper body": "upper_body_mpjpe_mm", "Lower body": "lower_body_mpjpe_mm"}
"""Row -> key in metrics.json."""

_PUBLISHED_MM: Final = {
    "All": (130.4, 58.2),
    "Gaming": (138.3, 56.0),
    "Gesticulating": (108.5, 50.2),
    "Greeting": (100.3, 44.6),
    "Lower Stretching": (133.3, 51.1),
    "Patting": (117.8, 59.4),
    "Reacting": (175.6, 60.8),
    "Talking": (93.5, 43.9),
    "Upper Stretching": (129.0, 53.9),
    "Walking": (131.9, 57.7),
}
SINGLE_BRANCH_MM: Final = {group: single for group, (single, _) in _PUBLISHED_MM.items()}
DUAL_BRANCH_MM: Final = {group: dual for group, (_, dual) in _PUBLISHED_MM.items()}
"""MPJPE (mm) on the real test set, without and with the branch that remembers the heatmaps.

Tome et al., "xR-EgoPose: Egocentric 3D Human Pose from an HMD Camera", ICCV 2019; table in the official repository.
"""


@dataclass(frozen=True)
class Table:
    """Rows of numbers."""

    titles: list[str]
    """Of the columns."""
    rows: dict[str, list[str]]
    """A row's name -> its cells; "-" where there is no number."""

    @classmethod
    def of(cls, rows: Sequence[str], columns: Mapping[str, Mapping[str, str]]) -> Table:
        """Make a table of columns: title -> row -> cell."""
        return cls(list(columns), {row: [cells.get(row, "-") for cells in columns.values()] for row in rows})

    def to_text(self) -> str:
        """Lay the table out for a terminal."""
        lines = [["", *self.titles], *([row, *cells] for row, cells in self.rows.items())]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def action_table(metrics: dict[str, Any]) -> Table:
    """Return All, the groups in the paper's order, upper and lower body: ours, mean pose, published baselines."""
    columns = {"frames": _numbers(metrics["frames_per_group"], ",d")}
    has_poses = "mpjpe_mm" in metrics
    if has_poses:
        ci95 = metrics["ci95"]
        intervals = ci95["mpjpe_mm"] | {row: ci95[key][ALL] for row, key in BODY_HALVES.items()}
        columns["MPJPE mm"] = _numbers(metrics["mpjpe_mm"] | _halves(metrics, ""))
        columns["95 %"] = {row: f"{low:.1f}-{high:.1f}" for row, (low, high) in intervals.items()}
        if "baseline_mpjpe_mm" in metrics:
            columns["mean pose"] = _numbers(metrics["baseline_mpjpe_mm"] | _halves(metrics, "baseline_"))
        columns["single branch"] = _numbers(SINGLE_BRANCH_MM)
        columns["dual branch"] = _numbers(DUAL_BRANCH_MM)
        columns["PA-MPJPE"] = _numbers(metrics["group_pa_mpjpe_mm"])
        columns["PCK %"] = _numbers(metrics["group_pck_150mm_percent"])
        columns["AUC %"] = _numbers(metrics["group_auc_150mm_percent"])
    if "error_2d_px" in metrics:
        columns["2D px"] = _numbers(metrics["group_error_2d_px"], ".2f")
    return Table.of((ALL, *ACTION_GROUPS, *(BODY_HALVES if has_poses else ())), columns)


def joint_table(metrics: dict[str, Any]) -> Table:
    """Return the joints: ours, the mean pose, 2D."""
    columns = {
        "MPJPE mm": ("joint_mpjpe_mm", ".1f"),
        "mean pose": ("baseline_joint_mpjpe_mm", ".1f"),
        "2D px": ("joint_error_2d_px", ".2f"),
    }
    return Table.of(
        JOINTS, {title: _numbers(metrics[key], spec) for title, (key, spec) in columns.items() if key in metrics}
    )


def _numbers(values: Mapping[str, float], spec: str = ".1f") -> dict[str, str]:
    return {row: format(value, spec) for row, value in values.items()}


def _halves(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    return {row: metrics[prefix + key] for row, key in BODY_HALVES.items()}
