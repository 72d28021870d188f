"""Figures laid out in rows, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.evaluation.metrics import ALL
from engine.report.baselines import DUAL_BRANCH_MM, SINGLE_BRANCH_MM
from models.skeleton import ACTION_GROUPS, JOINTS

BODY_HALVES: Final = {"Upper body": "upper_body_mpjpe_mm", "Lower body": "lower_body_mpjpe_mm"}
"""Row -> key in metrics.json."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    cells: dict[str, str]
    """By row; a row that is absent has no such figure."""


@dataclass(frozen=True)
class Table:
    """Rows of figures."""

    rows: tuple[str, ...]
    columns: tuple[Column, ...]

    def cells(self, row: str) -> list[str]:
        """Return a row's cells; "-" where there is no figure."""
        return [column.cells.get(row, "-") for column in self.columns]

    def to_text(self) -> str:
        """Lay the table out for a terminal."""
        lines = [["", *(column.title for column in self.columns)], *([row, *self.cells(row)] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        ]
        return "\n".join([text[0], "-" * len(text[0]), *text[1:]]) + "\n"


def action_table(metrics: dict[str, Any]) -> Table:
    """Return All, the nine groups in the paper's order, upper and lower body: ours, baseline, published."""
    columns = [_numbers("frames", metrics["frames_per_group"], ",d")]
    has_poses = "mpjpe_mm" in metrics
    if has_poses:
        halves = {row: metrics["ci95"][key][ALL] for row, key in BODY_HALVES.items()}
        columns.append(_numbers("MPJPE mm", metrics["mpjpe_mm"] | _halves(metrics, "")))
        columns.append(_intervals("95 %", metrics["ci95"]["mpjpe_mm"] | halves))
        if "baseline_mpjpe_mm" in metrics:
            columns.append(_numbers("mean pose", metrics["baseline_mpjpe_mm"] | _halves(metrics, "baseline_")))
        columns.append(_numbers("single branch", SINGLE_BRANCH_MM))
        columns.append(_numbers("dual branch", DUAL_BRANCH_MM))
        columns.append(_numbers("PA-MPJPE", metrics["group_pa_mpjpe_mm"]))
        columns.append(_numbers("PCK %", metrics["group_pck_150mm_percent"]))
        columns.append(_numbers("AUC %", metrics["group_auc_150mm_percent"]))
    if "error_2d_px" in metrics:
        columns.append(_numbers("2D px", metrics["group_error_2d_px"], ".2f"))
    return Table((ALL, *ACTION_GROUPS, *(BODY_HALVES if has_poses else ())), tuple(columns))


def joint_table(metrics: dict[str, Any]) -> Table:
    """Return the joints: ours, baseline, 2D."""
    named = (
        ("MPJPE mm", "joint_mpjpe_mm", ".1f"),
        ("mean pose", "baseline_joint_mpjpe_mm", ".1f"),
        ("2D px", "joint_error_2d_px", ".2f"),
    )
    return Table(JOINTS, tuple(_numbers(title, metrics[key], form) for title, key, form in named if key in metrics))


def _numbers(title: str, values: Mapping[str, float], form: str = ".1f") -> Column:
    return Column(title, {row: format(value, form) for row, value in values.items()})


def _intervals(title: str, values: Mapping[str, tuple[float, float]]) -> Column:
    return Column(title, {row: f"{low:.1f}-{high:.1f}" for row, (low, high) in values.items()})


def _halves(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    return {row: metrics[prefix + key] for row, key in BODY_HALVES.items()}
