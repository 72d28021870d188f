"""Poses in 3D, on a floor: two views each, drawn with Matplotlib, and the numbers that pose_view.js draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from numpy.typing import NDArray

from engine.evaluation.examples import KINDS, Example
from engine.report.charts import DPI, Theme, hex_color, to_png
from engine.visualization import BLUE, ORANGE, Color
from models.metrics import joint_errors
from models.skeleton import Skeleton

Points = NDArray[np.floating[Any]]

_VIEWS: Final = {"front": 25.0, "side": -65.0}
"""Where the viewer stands, counted from the person's front to the person's left (degrees)."""
_ELEVATION: Final = 15.0
"""How far above the horizon the viewer stands (degrees)."""
_WIDTH, _BELOW, _ABOVE = 1.6, 0.35, 1.85
"""What a view shows: its width, and how far it reaches below and above the floor's center (metres)."""
_TILE: Final = 0.25
"""Side of the floor's tiles (metres)."""


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
    return to_png(figure)


def pose_image(example: Example) -> bytes:
    """Return a PNG with a transparent background: two views of one pose."""
    figure = Figure(figsize=(3.6, 2.7), dpi=DPI, layout="constrained")
    figure.patch.set_alpha(0)
    _draw_views(figure.subplots(1, len(_VIEWS)), example)
    return to_png(figure)


def view_data(examples: Sequence[Example]) -> dict[str, Any]:
    """Return what pose_view.js draws, lengths in whole mm: for each example both poses, and the error of each joint."""
    frames = []
    for example in examples:
        true, predicted = _on_floor(example)
        frames.append(
            {
                "kind": example.kind,
                "error": round(example.error, 1),
                "action": example.action,
                "key": example.key,
                "true": _whole_mm(true),
                "predicted": _whole_mm(predicted),
                "errors": _whole_mm(joint_errors(predicted, true)),
            }
        )
    skeleton = examples[0].skeleton
    return {
        "joints": skeleton.joints,
        "bones": skeleton.bones,
        "floor": {"half": round(2000 * _TILE), "tile": round(1000 * _TILE)},
        "side": 400,
        "first": {"azimuth": _VIEWS["front"], "elevation": _ELEVATION},
        "frames": frames,
    }


def _whole_mm(metres: Points) -> list[Any]:
    rounded: list[Any] = np.rint(1000 * metres).astype(int).tolist()
    return rounded


def _draw_views(axes: Any, example: Example) -> None:
    true, predicted = _on_floor(example)
    for view, azimuth in zip(axes, _VIEWS.values(), strict=True):
        _draw_view(view, azimuth, example.skeleton.bones, ((true, BLUE, 3.6), (predicted, ORANGE, 1.8)))


def _on_floor(example: Example) -> tuple[Points, Points]:
    """Return the true and the predicted pose (J, 3): left, up, front, in metres from the floor's center."""
    assert example.predicted_3d is not None
    body = body_axes(example.true_3d, example.vertical, example.skeleton)
    true, predicted = example.true_3d @ body.T, example.predicted_3d @ body.T
    # the floor lies under the lowest true joint, its center under the middle of the body
    floor = (true.min(0) + true.max(0)) / 2 * [1, 0, 1] + true.min(0) * [0, 1, 0]
    return true - floor, predicted - floor


def _draw_view(
    axes: Axes,
    azimuth: float,
    bones: Sequence[tuple[int, int]],
    poses: Sequence[tuple[Points, Color, float]],
) -> None:
    half = 3 * _TILE
    corners = np.array([[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]])
    axes.add_patch(Polygon(look(corners, azimuth), closed=True, facecolor="#8a91a0", alpha=0.16))
    steps = np.arange(-half, half + _TILE / 2, _TILE)
    lines = np.array([[[k, 0, -half], [k, 0, half]] for k in steps] + [[[-half, 0, k], [half, 0, k]] for k in steps])
    axes.add_collection(LineCollection(list(look(lines, azimuth)), colors="#8a91a0", linewidths=0.6, alpha=0.5))
    for points, color, width in poses:
        drawn = look(points, azimuth)
        strokes = [drawn[list(bone)] for bone in bones]
        axes.add_collection(
            LineCollection(strokes, colors=hex_color(color), linewidths=width, capstyle="round", clip_on=False)
        )
        x, y = drawn.T
        axes.scatter(x, y, s=(width + 1.6) ** 2, color=hex_color(color), linewidths=0, zorder=2, clip_on=False)
    axes.set(aspect="equal", xlim=(-_WIDTH / 2, _WIDTH / 2), ylim=(-_BELOW, _ABOVE))
    axes.set_axis_off()


def body_axes(pose: Points, vertical: Points, skeleton: Skeleton) -> NDArray[np.float64]:
    """Return the rotation (3, 3) whose rows are a person's left, up, and front.

    Args:
        pose: (J, 3), any frame.
        vertical: (3,), the unit vector up.
        skeleton: what the joints are.
    """
    # shoulders and hips: what has a left and a right, on what has none
    paired = {joint for pair in skeleton.mirror_pairs for joint in pair}
    trunk = [pair for pair in skeleton.mirror_pairs if skeleton.parents[pair[0]] not in paired]
    across = np.sum([pose[left] - pose[right] for left, right in trunk], axis=0) if trunk else np.zeros(3)
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
