"""Both networks joined: image to 3D pose."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.heatmap_net import HeatmapNet, heatmap_size
from models.lifting_net import LiftingNet


@dataclass(frozen=True)
class PoseOutput:
    """What `PoseNet` predicts for B images."""

    heatmap: Tensor
    """(B, 15, S, S)."""
    joints_3d: Tensor
    """(B, 16, 3), metres relative to Neck."""
    reconstruction: Tensor
    """(B, 15, S, S): the heatmaps as the lifting network reconstructs them from its latent code."""


class PoseNet(nn.Module):
    """`HeatmapNet`, then `LiftingNet` on its heatmaps."""

    def __init__(self, backbone: str = "resnet50", image_size: int = 368) -> None:
        super().__init__()
        self.heatmap_net = HeatmapNet(backbone)
        self.lifting_net = LiftingNet(heatmap_size(image_size))

    def forward(self, image: Tensor) -> PoseOutput:
        """Return heatmaps, pose and reconstruction for uint8 images (B, 3, H, W)."""
        heatmap = self.heatmap_net(image)
        return PoseOutput(heatmap, *self.lifting_net(heatmap))
