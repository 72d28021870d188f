"""Bar charts of an evaluation, drawn with Matplotlib, and what all figures share: colors that suit a page, and PNGs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from engine.report.baselines import on_released_test_set, published
from engine.report.tables import group_rows
from engine.visualization import ORANGE, Color

DPI: Final = 160

_OURS: Final = "this checkpoint"
_DATASETS_OWN: Final = "Tome et al., dual branch"
_MEAN_POSE: Final = "mean pose of the training split"


@dataclass(frozen=True)
class Theme:
    """Colors that suit a page."""

    text: str
    grid: str
    background: str
    baselines: tuple[str, str, str]
    """Bars of the mean pose, and of two published results."""


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


def per_action_chart(metrics: dict[str, Any], theme: Theme) -> bytes:
    """Return a PNG: MPJPE of All and each group, ours with its interval, and the mean pose.

    On the released test set also the dataset's own result and the best published one.
    """
    mean_pose, *colors = theme.baselines
    series = {f"{_OURS}, with 95 % interval": (metrics["mpjpe_mm"], hex_color(ORANGE))}
    if "baseline_mpjpe_mm" in metrics:
        series[_MEAN_POSE] = metrics["baseline_mpjpe_mm"], mean_pose
    if on_released_test_set(metrics["evaluation"]):
        best, *others = published()
        dual = next(row for row in others if row.method == _DATASETS_OWN)
        for row, color in zip((dual, best), colors, strict=True):
            series[f"published: {row.name}"] = row.mpjpe_mm, color
    return _chart(group_rows(metrics), series, theme, metrics["ci95"]["mpjpe_mm"])


def per_joint_chart(metrics: dict[str, Any], theme: Theme) -> bytes:
    """Return a PNG: MPJPE of each joint, ours and the mean pose."""
    series = {_OURS: (metrics["joint_mpjpe_mm"], hex_color(ORANGE))}
    if "baseline_joint_mpjpe_mm" in metrics:
        series[_MEAN_POSE] = metrics["baseline_joint_mpjpe_mm"], theme.baselines[0]
    return _chart(metrics["evaluation"]["joints"], series, theme)


def _chart(
    rows: Sequence[str],
    series: Mapping[str, tuple[Mapping[str, float], str]],
    theme: Theme,
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> bytes:
    """Return a PNG of horizontal bars.

    Args:
        rows: names of the groups of bars.
        series: label -> values by row, and a color; a row that is absent has no bar.
        theme: of the page.
        intervals: (low, high) by row, drawn as lines across the ends of the first series' bars.
    """
    # narrow and tall: it must be legible on a phone
    height = 1.2 + 0.18 * len(series) * len(rows) + 0.1 * len(rows)
    figure = Figure(figsize=(5.6, height), dpi=DPI, facecolor=theme.background, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(theme.background)
    thickness = 0.8 / len(series)
    for i, (label, (values, color)) in enumerate(series.items()):
        present = [(position, row) for position, row in enumerate(rows) if row in values]
        widths = np.array([values[row] for _, row in present])
        error_bars = None
        if intervals is not None and i == 0:
            error_bars = np.abs(np.transpose([intervals[row] for _, row in present]) - widths)
        drawn = axes.barh(
            [position - 0.4 + (i + 0.5) * thickness for position, _ in present],
            widths,
            height=0.92 * thickness,
            color=color,
            label=label,
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
