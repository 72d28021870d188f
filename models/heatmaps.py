"""Joints to heatmaps and back, on the device."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from models.constants import made_once
from models.skeleton import HEATMAP_JOINTS

SIGMA: Final = 2.0
"""Standard deviation of the reference's Gaussians (heatmap cells)."""


def select_heatmap_joints(joints_BJX: Tensor) -> Tensor:
    """Return of poses (B, 16, X) the joints that have a heatmap (B, 15, X)."""
    return joints_BJX.index_select(1, _heatmap_joints(joints_BJX.device))


@made_once
def _heatmap_joints(device: torch.device) -> Tensor:
    return torch.tensor(HEATMAP_JOINTS, device=device)


def encode_heatmaps(
    joints_BJ2: Tensor, image_size: int, heatmap_size: int, *, sigma: float = SIGMA, quantized: bool = False
) -> Tensor:
    """Return (B, J, S, S) float32: a Gaussian of peak 1 at each joint, cut to a window of 3 sigma each way.

    Args:
        joints_BJ2: pixels of the image, centers at integers.
        image_size: side of the image (pixels).
        heatmap_size: S (cells).
        sigma: standard deviation (cells).
        quantized: the reference recipe: centers int(p / stride + 0.5) on whole cells. Otherwise the Gaussian is
            centered on the joint itself, where cell i covers the pixels [i, i + 1) * stride - 0.5; that keeps what
            rounding loses, up to half a stride.

    A joint whose window lies outside leaves its map at zero.
    """
    stride = image_size / heatmap_size
    if quantized:
        center_BJ2 = torch.trunc(joints_BJ2 / stride + 0.5)
    else:
        center_BJ2 = (joints_BJ2 + 0.5) / stride - 0.5
    cells_S = torch.arange(heatmap_size, device=joints_BJ2.device, dtype=torch.float32)
    offset_BJ2S = cells_S - center_BJ2.float().unsqueeze(-1)
    gauss_BJ2S = torch.exp(-offset_BJ2S.square() / (2 * sigma**2)) * (offset_BJ2S.abs() <= 3 * sigma)
    x_BJS, y_BJS = gauss_BJ2S.unbind(2)
    return y_BJS.unsqueeze(-1) * x_BJS.unsqueeze(-2)


def decode_heatmaps(heatmap_BJHW: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """Return the peaks: (B, J, 2) pixels of the image, centers at integers, and (B, J) their heights.

    A parabola through the logarithms of the highest cell and its two neighbors, per axis, finds the peak between
    cells; for a Gaussian that is exact. At the border of the map the cell itself counts.
    """
    heatmap_BJHW = heatmap_BJHW.float()
    size = heatmap_BJHW.shape[-1]
    height_BJ, cell_BJ = heatmap_BJHW.flatten(2).max(dim=2)
    y_BJ, x_BJ = cell_BJ // size, cell_BJ % size
    log_BJN = heatmap_BJHW.clamp_min(1e-6).log().flatten(2)

    def refine(position: Tensor, step: int) -> Tensor:
        inside = (position > 0) & (position < size - 1)
        near = torch.where(inside, step, 0)
        before, at, after = (log_BJN.gather(2, (cell_BJ + k * near).unsqueeze(2)).squeeze(2) for k in (-1, 0, 1))
        curvature = before - 2 * at + after
        shift = torch.where(curvature < 0, (before - after) / (2 * curvature), torch.zeros_like(at))
        return position + shift.clamp(-0.5, 0.5)

    cell_BJ2 = torch.stack([refine(x_BJ, 1), refine(y_BJ, size)], dim=-1)
    return (cell_BJ2 + 0.5) * (image_size / size) - 0.5, height_BJ
