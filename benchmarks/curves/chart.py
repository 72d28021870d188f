"""The error of both ways over the seconds, drawn with Matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from benchmarks.curves.comparison import Goal, Run
from benchmarks.curves.ours import Ours
from benchmarks.curves.reference import Reference
from engine.report.charts import DPI, LIGHT, hex_color, to_png
from engine.visualization import ORANGE

_COLORS: Final = {Ours.name: hex_color(ORANGE), Reference.name: LIGHT.baselines[2]}


def chart(goals: Sequence[Goal], runs: Sequence[Run]) -> bytes:
    """Return a PNG: for each goal the curves of all runs, and a dot where one has reached it."""
    figure = Figure(figsize=(5.6, 3.4 * len(goals)), dpi=DPI, facecolor=LIGHT.background, layout="constrained")
    for axes, goal in zip(figure.subplots(len(goals), squeeze=False)[:, 0], goals, strict=True):
        _draw(axes, goal, runs)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        unique.values(), unique.keys(), loc="outside upper center", ncols=2, frameon=False, labelcolor=LIGHT.text
    )
    return to_png(figure)


def _draw(axes: Axes, goal: Goal, runs: Sequence[Run]) -> None:
    axes.set_facecolor(LIGHT.background)
    axes.axhline(goal.error, color=LIGHT.text, linewidth=0.9, linestyle="--")
    for run in runs:
        color, before, curve = _COLORS[run.way], run.before(goal), run.curves[goal.stages[-1]]
        seconds = [before + point.seconds for point in curve.points]
        errors = [point.error for point in curve.points]
        axes.plot(seconds, errors, color=color, linewidth=1.1, label=run.way)
        if reached := curve.reached(goal.error):
            axes.plot(before + reached.seconds, reached.error, "o", color=color, markersize=5)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(goal.title, fontsize=10, color=LIGHT.text)
    axes.set_xlabel("seconds since the start, evaluations excluded", color=LIGHT.text)
    axes.set_ylabel(f"validation error ({goal.unit})", color=LIGHT.text)
    axes.tick_params(colors=LIGHT.text)
    axes.grid(color=LIGHT.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
