"""Both networks joined: image to 3D pose."""

from __future__ import annotations

from torch import Tensor, nn

from models.heatmap_net import HeatmapNet, heatmap_size
from models.lifting_net import LiftingNet


class PoseNet(nn.Module):
    """`HeatmapNet`, then `LiftingNet` on its heatmaps.

    Shapes: image (B, 3, H, W) uint8 -> heatmap (B, K, S, S), joints_3d (B, J, 3) in metres relative to the root, and
    reconstruction (B, K, S, S), the heatmaps as the lifting network reconstructs them from its latent code.
    """

    def __init__(self, backbone: str = "resnet50", image_size: int = 368, heatmaps: int = 15, joints: int = 16) -> None:
        """Build both with new weights; their arguments are those of `HeatmapNet` and `LiftingNet`."""
        super().__init__()
        self.heatmap_net = HeatmapNet(backbone, heatmaps, image_size)
        self.lifting_net = LiftingNet(heatmap_size(image_size), heatmaps, joints)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return (heatmap, joints_3d, reconstruction)."""
        heatmap = self.heatmap_net(image)
        return heatmap, *self.lifting_net(heatmap)
