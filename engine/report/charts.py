"""Bar charts of an evaluation, drawn with Matplotlib, and what all figures share: colors that suit a page, and PNGs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from engine.evaluation.metrics import ALL
from engine.report.baselines import DUAL_BRANCH_MM, SINGLE_BRANCH_MM
from engine.visualization.overlay import ORANGE, Color
from models.skeleton import ACTION_GROUPS, JOINTS

DPI: Final = 160

_OURS: Final = "this checkpoint"
_MEAN_POSE: Final = "mean pose of the training split"


@dataclass(frozen=True)
class Theme:
    """Colors that suit a page."""

    text: str
    grid: str
    background: str
    baselines: tuple[str, str, str]
    """Bars of the mean pose, and of the published single and dual branch."""


LIGHT: Final = Theme("#1d2129", "#d9dce3", "#ffffff", ("#b9bec9", "#a3b3d1", "#5b6b8c"))
DARK: Final = Theme("#e8eaf0", "#3a3f4b", "#171a21", ("#565c6a", "#5f7196", "#93a5cc"))


def hex_color(color: Color) -> str:
    """Return an RGB color as Matplotlib writes it."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def to_png(figure: Figure) -> bytes:
    """Draw a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


@dataclass(frozen=True)
class Bars:
    """One bar in each row."""

    label: str
    values: Mapping[str, float]
    """By row; a row that is absent has no bar."""
    color: str
    intervals: Mapping[str, Sequence[float]] | None = None
    """(low, high) by row, drawn as a line across the bar's end."""


def per_action_chart(metrics: dict[str, Any], theme: Theme) -> bytes:
    """Return a PNG: MPJPE of All and each group, ours with its interval, the mean pose, and the published results."""
    mean_pose, single, dual = theme.baselines
    bars = [Bars(f"{_OURS}, with 95 % interval", metrics["mpjpe_mm"], hex_color(ORANGE), metrics["ci95"]["mpjpe_mm"])]
    if "baseline_mpjpe_mm" in metrics:
        bars.append(Bars(_MEAN_POSE, metrics["baseline_mpjpe_mm"], mean_pose))
    bars.append(Bars("published single branch, real test set", SINGLE_BRANCH_MM, single))
    bars.append(Bars("published dual branch, real test set", DUAL_BRANCH_MM, dual))
    return _chart((ALL, *ACTION_GROUPS), bars, theme)


def per_joint_chart(metrics: dict[str, Any], theme: Theme) -> bytes:
    """Return a PNG: MPJPE of each joint, ours and the mean pose."""
    bars = [Bars(_OURS, metrics["joint_mpjpe_mm"], hex_color(ORANGE))]
    if "baseline_joint_mpjpe_mm" in metrics:
        bars.append(Bars(_MEAN_POSE, metrics["baseline_joint_mpjpe_mm"], theme.baselines[0]))
    return _chart(JOINTS, bars, theme)


def _chart(rows: Sequence[str], series: Sequence[Bars], theme: Theme) -> bytes:
    # narrow and tall: it must be legible on a phone
    height = 1.2 + 0.18 * len(series) * len(rows) + 0.1 * len(rows)
    figure = Figure(figsize=(5.6, height), dpi=DPI, facecolor=theme.background, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(theme.background)
    thickness = 0.8 / len(series)
    for i, bars in enumerate(series):
        present = [position for position, row in enumerate(rows) if row in bars.values]
        values = np.array([bars.values[rows[position]] for position in present])
        error_bars = None
        if bars.intervals is not None:
            error_bars = np.abs(np.transpose([bars.intervals[rows[position]] for position in present]) - values)
        drawn = axes.barh(
            [position - 0.4 + (i + 0.5) * thickness for position in present],
            values,
            height=0.92 * thickness,
            color=bars.color,
            label=bars.label,
            xerr=error_bars,
            error_kw={"ecolor": theme.text, "elinewidth": 1.2},
        )
        axes.bar_label(drawn, fmt="%.0f", padding=2, fontsize=8, color=theme.text)
    axes.set_yticks(range(len(rows)), rows, fontsize=10, color=theme.text)
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.set_xlabel("MPJPE (mm), lower is better", color=theme.text)
    axes.tick_params(axis="x", colors=theme.text)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper center", frameon=False, labelcolor=theme.text, fontsize=9.5)
    return to_png(figure)
