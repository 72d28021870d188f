"""Joints to heatmaps and back, on the device. Heatmaps are (B, J, S, S) with S cells a side."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from models.camera import UNSEEN
from models.skeleton import Skeleton

SIGMA: Final = 2.0
"""Standard deviation of the reference's Gaussians (heatmap cells)."""


def select_heatmap_joints(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Return of all joints (B, J, ...) those that have a heatmap (B, K, ...)."""
    # slices, because indices would be copied to the device
    parts = [joints[:, part] for part in skeleton.heatmap_slices]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


class HeatmapEncoder(nn.Module):
    """Joints to heatmaps: a Gaussian of peak 1 at each joint, cut to a window of 3 sigma each way."""

    cells: Tensor

    def __init__(self, image_size: int, heatmap_size: int, *, sigma: float = SIGMA, quantized: bool = False) -> None:
        """Prepare for one size.

        Args:
            image_size: side of the image (pixels).
            heatmap_size: S (cells).
            sigma: standard deviation (cells).
            quantized: center the Gaussians on whole cells, int(p / stride + 0.5), as the reference recipe does.
                Otherwise they are centered on the joint itself, where cell i covers the pixels [i, i + 1) * stride -
                0.5; that keeps what rounding loses, up to half a stride.
        """
        super().__init__()
        self.stride = image_size / heatmap_size
        self.sigma = sigma
        self.quantized = quantized
        self.register_buffer("cells", torch.arange(heatmap_size, dtype=torch.float32), persistent=False)

    def forward(self, joints: Tensor, visible: Tensor | None = None) -> Tensor:
        """Return (B, J, S, S) float32 for joints (B, J, 2) in pixels of the image, centers at integers.

        A joint whose window lies outside leaves its map at zero, and so does one that is `models.camera.UNSEEN` by its
        visibility (B, J), if that is given: its position means nothing.
        """
        if self.quantized:
            centers = torch.trunc(joints / self.stride + 0.5)
        else:
            centers = (joints + 0.5) / self.stride - 0.5
        offsets = self.cells - centers.float().unsqueeze(-1)  # (B, J, 2, S)
        gaussians = torch.exp(-offsets.square() / (2 * self.sigma**2)) * (offsets.abs() <= 3 * self.sigma)
        x, y = gaussians.unbind(2)
        if visible is not None:
            x = x * (visible != UNSEEN).unsqueeze(-1)
        return y.unsqueeze(-1) * x.unsqueeze(-2)


def decode_heatmaps(heatmaps: Tensor, image_size: int) -> tuple[Tensor, Tensor]:
    """Return the peaks: (B, J, 2) pixels of the image, centers at integers, and (B, J) their heights.

    A parabola through the logarithms of the highest cell and its two neighbors, per axis, finds the peak between
    cells; for a Gaussian that is exact. At the border of the map the cell itself counts.
    """
    heatmaps = heatmaps.float()
    size = heatmaps.shape[-1]
    heights, cells = heatmaps.flatten(2).max(dim=2)
    y, x = cells // size, cells % size
    logarithms = heatmaps.clamp_min(1e-6).log().flatten(2)

    def refine(position: Tensor, step: int) -> Tensor:
        inside = (position > 0) & (position < size - 1)
        near = torch.where(inside, step, 0)
        before, at, after = (logarithms.gather(2, (cells + k * near).unsqueeze(2)).squeeze(2) for k in (-1, 0, 1))
        curvature = before - 2 * at + after
        shift = torch.where(curvature < 0, (before - after) / (2 * curvature), torch.zeros_like(at))
        return position + shift.clamp(-0.5, 0.5)

    peaks = torch.stack([refine(x, 1), refine(y, size)], dim=-1)
    return (peaks + 0.5) * (image_size / size) - 0.5, heights
