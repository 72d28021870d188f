"""Charts and 3D poses, drawn with Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from engine.drawing import BLUE, ORANGE, Colour
from engine.examples import KINDS, Example
from engine.results import ALL, PUBLISHED_DUAL_BRANCH_MM
from models.skeleton import ACTION_GROUPS, JOINTS, LIMBS

Points = NDArray[np.floating[Any]]

_DPI: Final = 160
_VIEWS: Final = {"front": 25.0, "side": -65.0}
"""Where the viewer stands, counted from the person's front to the person's left (degrees)."""
_ELEVATION: Final = 15.0
"""How far above the horizon the viewer stands (degrees)."""
_WIDTH, _BELOW, _ABOVE = 1.6, 0.35, 1.85
"""What a view shows: its width, and how far it reaches below and above the floor's centre (metres)."""
_TILE: Final = 0.25
"""Side of the floor's tiles (metres)."""


@dataclass(frozen=True)
class Theme:
    """Colours that suit a page."""

    text: str
    grid: str
    background: str
    baseline: str
    published: str


LIGHT: Final = Theme("#1d2129", "#d9dce3", "#ffffff", "#b9bec9", "#5b6b8c")
DARK: Final = Theme("#e8eaf0", "#3a3f4b", "#171a21", "#565c6a", "#93a5cc")


def per_action_chart(metrics: dict[str, Any], theme: Theme) -> bytes:
    """Return a PNG: MPJPE of All and each group, ours, the mean pose, and the published result."""
    rows = [ALL, *ACTION_GROUPS]
    bars = [("this checkpoint", metrics["mpjpe_mm"], _hex(ORANGE))]
    if "baseline_mpjpe_mm" in metrics:
        bars.append(("mean pose of the training split", metrics["baseline_mpjpe_mm"], theme.baseline))
    bars.append(("published dual branch, real test set", PUBLISHED_DUAL_BRANCH_MM, theme.published))
    # narrow and tall: it must be legible on a phone
    figure = Figure(figsize=(5.6, 7.6), dpi=_DPI, facecolor=theme.background, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor(theme.background)
    thickness = 0.8 / len(bars)
    for i, (label, values, colour) in enumerate(bars):
        present = [place for place, row in enumerate(rows) if row in values]
        drawn = axes.barh(
            [place - 0.4 + (i + 0.5) * thickness for place in present],
            [values[rows[place]] for place in present],
            height=0.92 * thickness,
            color=colour,
            label=label,
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
    return _png(figure)


def poses_chart(examples: Sequence[Example], theme: Theme) -> bytes:
    """Return a PNG: a row for each kind, two views of each pose."""
    rows = [[example for example in examples if example.kind == kind] for kind in KINDS]
    columns = max(map(len, rows))
    figure = Figure(figsize=(3.6 * columns, 2.9 * len(rows)), dpi=110, facecolor=theme.background, layout="constrained")
    for cell, row in zip(figure.subfigures(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        cell.set_facecolor(theme.background)
        for part, example in zip(cell.subfigures(1, columns, squeeze=False)[0], row, strict=False):
            part.set_facecolor(theme.background)
            part.suptitle(example.label, color=theme.text, fontsize=11)
            _draw_views(part.subplots(1, len(_VIEWS)), example)
    return _png(figure)


def pose_picture(example: Example) -> bytes:
    """Return a PNG with a transparent background: two views of one pose."""
    figure = Figure(figsize=(3.6, 2.7), dpi=_DPI, layout="constrained")
    figure.patch.set_alpha(0)
    _draw_views(figure.subplots(1, len(_VIEWS)), example)
    return _png(figure)


def _draw_views(axes: Any, example: Example) -> None:
    assert example.predicted_3d is not None
    body = body_axes(example.true_3d, example.vertical)
    true, predicted = example.true_3d @ body.T, example.predicted_3d @ body.T
    # the floor lies under the lowest true joint, its centre under the middle of the body
    floor = (true.min(0) + true.max(0)) / 2 * [1, 0, 1] + true.min(0) * [0, 1, 0]
    for place, azimuth in zip(axes, _VIEWS.values(), strict=True):
        _draw_view(place, azimuth, ((true - floor, BLUE, 3.6), (predicted - floor, ORANGE, 1.8)))


def _draw_view(axes: Axes, azimuth: float, poses: Sequence[tuple[Points, Colour, float]]) -> None:
    half = 3 * _TILE
    corners = np.array([[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]])
    axes.add_patch(Polygon(look(corners, azimuth), closed=True, facecolor="#8a91a0", alpha=0.16))
    steps = np.arange(-half, half + _TILE / 2, _TILE)
    lines = np.array([[[k, 0, -half], [k, 0, half]] for k in steps] + [[[-half, 0, k], [half, 0, k]] for k in steps])
    axes.add_collection(LineCollection(list(look(lines, azimuth)), colors="#8a91a0", linewidths=0.6, alpha=0.5))
    for points, colour, width in poses:
        drawn = look(points, azimuth)
        limbs = [drawn[list(limb)] for limb in LIMBS]
        axes.add_collection(
            LineCollection(limbs, colors=_hex(colour), linewidths=width, capstyle="round", clip_on=False)
        )
        axes.scatter(
            drawn[:, 0], drawn[:, 1], s=(width + 1.6) ** 2, color=_hex(colour), linewidths=0, zorder=2, clip_on=False
        )
    axes.set(aspect="equal", xlim=(-_WIDTH / 2, _WIDTH / 2), ylim=(-_BELOW, _ABOVE))
    axes.set_axis_off()


def body_axes(pose: Points, vertical: Points) -> NDArray[np.float64]:
    """Return the rotation (3, 3) whose rows are a person's left, up, and front.

    Args:
        pose: (16, 3), any frame.
        vertical: (3,), the unit vector up.
    """
    across = sum(pose[JOINTS.index(f"Left{part}")] - pose[JOINTS.index(f"Right{part}")] for part in ("Arm", "UpLeg"))
    across = across - (across @ vertical) * vertical
    length = np.linalg.norm(across)
    if length < 1e-6:  # a person lying on the side: any horizontal direction will do
        across = np.cross(vertical, np.eye(3)[np.abs(vertical).argmin()])
        length = np.linalg.norm(across)
    left = across / length
    return np.stack([left, vertical, np.cross(left, vertical)])


def look(points: Points, azimuth: float) -> NDArray[np.float64]:
    """Project points (..., 3), given as left, up, front, orthographically to the viewer's (..., 2) right and up.

    Args:
        points: any unit.
        azimuth: where the viewer stands, from the person's front to the person's left (degrees).
    """
    a, e = np.radians(azimuth), np.radians(_ELEVATION)
    right = np.array([np.cos(a), 0.0, -np.sin(a)])
    towards_viewer = np.array([np.sin(a), 0.0, np.cos(a)])
    up = np.cos(e) * np.array([0.0, 1.0, 0.0]) - np.sin(e) * towards_viewer
    return np.asarray(points @ np.stack([right, up], axis=1))


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()
