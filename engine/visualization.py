"""Drawings: poses over images, and what a network in training predicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from engine.stages import Prediction, Stage
from loaders import PoseBatch
from loaders.codecs import Image, swap_red_and_blue
from models.heatmaps import decode_heatmaps
from models.skeleton import Skeleton

Color = tuple[int, int, int]
Positions = NDArray[np.floating[Any]]

ORANGE: Final[Color] = (255, 140, 0)
"""Predictions, in every image (RGB)."""
BLUE: Final[Color] = (30, 136, 255)
"""Ground truth, in every image (RGB)."""

_OUTLINE: Final[Color] = (16, 16, 20)
_TEXT: Final[Color] = (255, 255, 255)
_SHIFT: Final = 4
"""Fractional bits of positions handed to OpenCV: sixteenths of a pixel."""
_CELL: Final = 256
"""Least side of an image in a grid of overlays (pixels)."""
_GAP: Final = 4
"""Between the images of a grid (pixels)."""
_SAMPLES: Final = 6
_SIDE: Final = 192
"""Of a batch in training: how many samples are drawn, and the side of each image (pixels)."""
_EMPTY: Final = 40
"""Behind poses without an image (gray level)."""


def overlay(image: Image, predicted: Positions, true: Positions | None = None, *, skeleton: Skeleton) -> Image:
    """Return a copy of an image with poses drawn on it: truth wide and blue, prediction narrow and orange on top.

    Args:
        image: (H, W, 3) uint8 RGB.
        predicted: pixels of ``image``, centers at integers: (J, 2), or (K, 2) of the joints that have a heatmap.
        true: likewise, or None.
        skeleton: what the joints are.

    Positions that are not finite or outside the image have no dot; a bone to one outside ends at the border.
    """
    drawn = np.ascontiguousarray(image).copy()
    unit = max(1.0, min(drawn.shape[:2]) / 256)
    if true is not None:
        _draw_pose(drawn, true, skeleton, (BLUE, round(5 * unit), 4 * unit))
    _draw_pose(drawn, predicted, skeleton, (ORANGE, round(2 * unit), 2.5 * unit))
    return drawn


def overlay_grid(
    images: Sequence[Image],
    predicted: Sequence[Positions],
    true: Sequence[Positions] | None = None,
    *,
    skeleton: Skeleton,
    columns: int = 4,
    labels: Sequence[str] | None = None,
) -> Image:
    """Return one image with the overlays of n images of one size.

    Args:
        images: n, (H, W, 3) uint8 RGB; smaller ones than 256 pixels are enlarged by a whole factor.
        predicted: n, pixels of the images, see `overlay`.
        true: likewise, or None.
        skeleton: what the joints are.
        columns: images in a row.
        labels: n short texts, written into the images.
    """
    scale = max(1, -(-_CELL // min(images[0].shape[:2])))
    cells = []
    for i, image in enumerate(images):
        large = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
        truth = None if true is None else rescale(true[i], scale)
        cells.append(overlay(large, rescale(predicted[i], scale), truth, skeleton=skeleton))
        if labels is not None:
            _write(cells[-1], labels[i])
    return _tile(cells, columns)


def draw_examples(stage: Stage, batch: PoseBatch, prediction: Prediction) -> Image:
    """Return a row for each of the first samples of a batch.

    In a row: the image with predicted (orange) and true (blue) joints, if there is one; predicted heatmaps, or their
    reconstruction; true heatmaps. Heatmaps of all joints are laid over each other. Where no heatmaps are predicted,
    both poses are drawn, seen from the front.
    """
    shown = min(_SAMPLES, len(batch))
    batch, _ = batch.split([shown, len(batch) - shown])
    heatmap = prediction.reconstruction if prediction.heatmap is None else prediction.heatmap
    if heatmap is None:
        assert prediction.joints_3d is not None
        return _tile(_draw_fronts(prediction.joints_3d[:shown], batch.joints_3d, stage.skeleton), 3)
    heatmap = heatmap[:shown]
    columns = [_color_heatmaps(heatmap), _color_heatmaps(stage.targets(batch))]
    if batch.image is not None:
        joints = (decode_heatmaps(heatmap, stage.image_size)[0], stage.select_heatmap_joints(batch.joints_2d))
        predicted, true = (rescale(some.float().cpu().numpy(), _SIDE / stage.image_size) for some in joints)
        images = batch.image.permute(0, 2, 3, 1).cpu().numpy()
        poses = zip(images, predicted, true, strict=True)
        columns.insert(0, [overlay(_fit(image), *pair, skeleton=stage.skeleton) for image, *pair in poses])
    return _tile([cell for row in zip(*columns, strict=True) for cell in row], len(columns))


def _draw_fronts(predicted: Tensor, true: Tensor, skeleton: Skeleton) -> list[Image]:
    """Return images of poses (n, J, 3), metres relative to the root, two metres wide and high."""
    empty = np.full((_SIDE, _SIDE, 3), _EMPTY, np.uint8)
    # the camera looks down from the head: x goes to the right, its axis towards the feet
    fronts = [(poses.float().cpu().numpy()[..., [0, 2]] + (1.0, 0.4)) * _SIDE / 2 for poses in (predicted, true)]
    return [overlay(empty, *pair, skeleton=skeleton) for pair in zip(*fronts, strict=True)]


def rescale(positions: Positions, scale: float) -> Positions:
    """Return positions in an image, pixel centers at integers, as those in a copy of ``scale`` times its size."""
    return (positions + 0.5) * scale - 0.5


def _tile(images: Sequence[Image], columns: int) -> Image:
    """Return images of equal size side by side, on white."""
    height, width = images[0].shape[:2]
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    grid = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + _GAP), i % columns * (width + _GAP)
        grid[top : top + height, left : left + width] = image
    return grid


def _color_heatmaps(heatmaps: Tensor) -> list[Image]:
    """Return images of the highest of all joints' heatmaps in each cell, 0 dark to 1 bright."""
    heights = heatmaps.float().amax(1).clamp(0, 1).mul(255).byte().cpu().numpy()
    return [swap_red_and_blue(cv2.applyColorMap(_fit(height), cv2.COLORMAP_INFERNO)) for height in heights]


def _fit(image: Image) -> Image:
    smooth = cv2.INTER_AREA if image.shape[0] > _SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=smooth), np.uint8)


def _draw_pose(image: Image, positions: Positions, skeleton: Skeleton, pen: tuple[Color, int, float]) -> None:
    """Draw a pose in a color, with bones of a thickness and dots of a radius (pixels)."""
    color, thickness, radius = pen
    joints = range(len(skeleton)) if len(positions) == len(skeleton) else skeleton.heatmap_joints
    near = {joint: position for joint, position in zip(joints, positions, strict=True) if _near(image, position)}
    bones = [(near[start], near[end]) for start, end in skeleton.bones if start in near and end in near]
    # the dark outline of everything first: no bone is crossed out by another's
    outline = max(1, round(min(image.shape[:2]) / 256))
    for width, paint in ((thickness + outline, _OUTLINE), (thickness, color)):
        for start, end in bones:
            cv2.line(image, _fixed(start), _fixed(end), paint, width, cv2.LINE_AA, _SHIFT)
        for position in near.values():
            size = _fixed(radius + (width - thickness) / 2)
            cv2.circle(image, _fixed(position), size, paint, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _near(image: Image, position: Positions) -> bool:
    """Whether a position is finite and at most an image's side outside, which OpenCV's integers can hold."""
    size = np.array([image.shape[1], image.shape[0]])
    return bool((np.isfinite(position) & (position > -size) & (position < 2 * size)).all())


def _fixed(value: Any) -> Any:
    return np.rint(np.asarray(value, np.float64) * 2**_SHIFT).astype(int).tolist()


def _write(image: Image, text: str) -> None:
    """Write into the top left corner, on a darkened strip."""
    side = min(image.shape[:2])
    size, thickness, margin = side / 560, max(1, round(side / 256)), round(side / 40)
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    strip = image[: height + below + 2 * margin, : width + 2 * margin]
    strip //= 4
    cv2.putText(image, text, (margin, height + margin), cv2.FONT_HERSHEY_SIMPLEX, size, _TEXT, thickness, cv2.LINE_AA)
