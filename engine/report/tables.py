"""Tables of metrics, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from engine.evaluation.intervals import ALL, GROUP_MEAN
from engine.report.baselines import on_released_test_set, published

BODY_HALVES: Final = {"Upper body": "upper_body_mpjpe_mm", "Lower body": "lower_body_mpjpe_mm"}
"""Row -> key in metrics.json."""
PROTOCOLS: Final = {"relative to Neck": "mpjpe_mm", "camera frame": "camera_mpjpe_mm"}
"""What poses are relative to when they are compared -> key in metrics.json."""

_COLUMNS: Final = {
    "camera mm": ("camera_mpjpe_mm", ".1f"),
    "PA mm": ("group_pa_mpjpe_mm", ".1f"),
    "N mm": ("group_n_mpjpe_mm", ".1f"),
    "BA mm": ("group_ba_mpjpe_mm", ".1f"),
    "PCK %": ("group_pck_150mm_percent", ".1f"),
    "AUC %": ("group_auc_150mm_percent", ".1f"),
    "2D px": ("group_error_2d_px", ".2f"),
}
"""Columns by group, where the key is there: title -> key in metrics.json and format."""
_DIFFERENCES: Final = {
    "MPJPE mm": ("mpjpe_mm", "+.1f"),
    "camera mm": ("camera_mpjpe_mm", "+.1f"),
    "PA mm": ("pa_mpjpe_mm", "+.1f"),
    "2D px": ("error_2d_frame_px", "+.2f"),
}
"""Columns of a comparison: title -> metric and format."""


def group_rows(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the rows of tables and charts by group: All, and where the dataset has groups, their mean and each."""
    groups = metrics["evaluation"]["action_groups"]
    return (ALL, GROUP_MEAN, *groups) if groups else (ALL,)


@dataclass(frozen=True)
class Table:
    """Rows of numbers."""

    titles: list[str]
    """Of the columns."""
    rows: dict[str, list[str]]
    """A row's name -> its cells; "-" where there is no number."""
    emphasized: frozenset[str] = frozenset({ALL})
    """Rows that stand out."""

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
    """Return All, the mean over groups, the groups in the dataset's order, upper and lower body."""
    columns = {
        "frames": _numbers(metrics["frames_per_group"], ",d"),
        "recordings": _numbers(metrics["recordings_per_group"], ",d"),
    }
    has_poses = "mpjpe_mm" in metrics
    if has_poses:
        ci95 = metrics["ci95"]
        intervals = ci95["mpjpe_mm"] | {row: ci95[key][ALL] for row, key in BODY_HALVES.items() if key in ci95}
        columns["MPJPE mm"] = _numbers(metrics["mpjpe_mm"] | _halves(metrics, ""))
        columns["95 %"] = {row: f"{low:.1f}-{high:.1f}" for row, (low, high) in intervals.items()}
        if "baseline_mpjpe_mm" in metrics:
            columns["mean pose"] = _numbers(metrics["baseline_mpjpe_mm"] | _halves(metrics, "baseline_"))
    columns |= {title: _numbers(metrics[key], spec) for title, (key, spec) in _COLUMNS.items() if key in metrics}
    halves = [row for row, key in BODY_HALVES.items() if key in metrics]
    return Table.of((*group_rows(metrics), *halves), columns)


def joint_table(metrics: dict[str, Any]) -> Table:
    """Return the joints: ours, the mean pose, 2D."""
    columns = {
        "MPJPE mm": ("joint_mpjpe_mm", ".1f"),
        "mean pose": ("baseline_joint_mpjpe_mm", ".1f"),
        "2D px": ("joint_error_2d_px", ".2f"),
    }
    present = {title: _numbers(metrics[key], spec) for title, (key, spec) in columns.items() if key in metrics}
    return Table.of(metrics["evaluation"]["joints"], present)


def difference_table(metrics: dict[str, Any]) -> Table:
    """Return All, the mean over groups and the groups: ours minus the other network's, with intervals."""
    against, columns = metrics["against"], {}
    for title, (name, spec) in _DIFFERENCES.items():
        if name in against["difference"]:
            intervals = against["ci95"][name]
            columns[title] = {
                row: f"{value:{spec}} ({intervals[row][0]:{spec}} to {intervals[row][1]:{spec}})"
                for row, value in against["difference"][name].items()
            }
    return Table.of(group_rows(metrics), columns)


def published_table(metrics: dict[str, Any], groups: Sequence[str] | None = None) -> Table | None:
    """Return published results and ours, the best first; None where they cannot be compared, or without poses.

    Args:
        metrics: what metrics.json holds.
        groups: whose MPJPE (mm) is shown; None shows all.
    """
    if "mpjpe_mm" not in metrics or not on_released_test_set(metrics["evaluation"]):
        return None
    groups = groups or group_rows(metrics)
    ours = {f"this checkpoint, {name}": (name, metrics[key]) for name, key in PROTOCOLS.items() if key in metrics}
    results = [(row.name, (row.protocol, row.input_frames), row.mpjpe_mm) for row in published()]
    results += [(name, (protocol, "1"), values) for name, (protocol, values) in ours.items()]
    results.sort(key=lambda result: result[2][ALL])
    rows = {
        name: [*about, *(f"{values[group]:.1f}" if group in values else "-" for group in groups)]
        for name, about, values in results
    }
    return Table(["protocol", "input frames", *groups], rows, frozenset(ours))


def _numbers(values: Mapping[str, float], spec: str = ".1f") -> dict[str, str]:
    return {row: format(value, spec) for row, value in values.items()}


def _halves(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    return {row: metrics[prefix + key] for row, key in BODY_HALVES.items() if prefix + key in metrics}
