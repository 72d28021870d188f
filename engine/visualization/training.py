"""Images, predictions and targets of a network in training, as one image."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from torch import Tensor

from engine.stages import Prediction, Stage
from engine.visualization.overlay import Image, overlay, rescale, tile
from loaders import PoseBatch
from models.heatmaps import decode_heatmaps, select_heatmap_joints

_SAMPLES: Final = 6
_SIDE: Final = 192
"""Of one image (pixels)."""


def draw_examples(stage: Stage, batch: PoseBatch, prediction: Prediction) -> Image:
    """Return a row for each of the first samples of a batch.

    In a row: the image with predicted (orange) and true (blue) joints, if there is one; predicted heatmaps, or their
    reconstruction; true heatmaps. Heatmaps of all joints are laid over each other.
    """
    shown = min(_SAMPLES, len(batch))
    batch, _ = batch.split([shown, len(batch) - shown])
    heatmap = prediction.reconstruction if prediction.heatmap is None else prediction.heatmap
    assert heatmap is not None
    heatmap = heatmap[:shown]
    columns = [_color(heatmap), _color(stage.targets(batch))]
    if batch.image is not None:
        joints = (decode_heatmaps(heatmap, stage.image_size)[0], select_heatmap_joints(batch.joints_2d))
        found, true = (rescale(one.float().cpu().numpy(), _SIDE / stage.image_size) for one in joints)
        images = batch.image.permute(0, 2, 3, 1).cpu().numpy()
        columns.insert(0, [overlay(_fit(image), found[i], true[i]) for i, image in enumerate(images)])
    return tile([cell for row in zip(*columns, strict=True) for cell in row], len(columns))


def _color(heatmaps: Tensor) -> list[Image]:
    """Return (S, S, 3) images of the highest of all joints' heatmaps in each cell, 0 dark to 1 bright."""
    heights = heatmaps.float().amax(1).clamp(0, 1).mul(255).byte().cpu().numpy()
    return [
        np.asarray(cv2.cvtColor(cv2.applyColorMap(_fit(height), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)
        for height in heights
    ]


def _fit(image: Image) -> Image:
    smooth = cv2.INTER_AREA if image.shape[0] > _SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=smooth), np.uint8)
