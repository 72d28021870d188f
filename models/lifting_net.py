"""Heatmaps to a 3D pose: an auto-encoder whose latent code also reconstructs the heatmaps."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

_SLOPE: Final = 0.2
SHRINK: Final = 8
"""By which the convolutions divide the heatmaps' side."""
_LATENT: Final = 20


class LiftingNet(nn.Module):
    """Dual-branch auto-encoder of Tome et al., ICCV 2019.

    Shapes: heatmaps (B, K, S, S) -> joints_3d (B, J, 3) in metres relative to the root, reconstruction (B, K, S, S);
    of xR-EgoPose K is 15 and J 16. Parameter names are the reference code's, which keeps ``bn1`` to ``bn3`` although
    nothing uses them; with S = 48 there are then 80,034,323 parameters.
    """

    def __init__(self, heatmap_size: int = 48, heatmaps: int = 15, joints: int = 16) -> None:
        """Build the network with new weights.

        Args:
            heatmap_size: S, side of the heatmaps (cells).
            heatmaps: how many it takes.
            joints: of the pose.

        Raises:
            ValueError: there is no network for that size.
        """
        super().__init__()
        if heatmap_size <= 0 or heatmap_size % SHRINK:
            raise ValueError(f"heatmap_size is {heatmap_size}: give a multiple of {SHRINK}")
        self.side = heatmap_size // SHRINK
        flat = 512 * self.side**2
        self.joints = joints
        self.conv1 = nn.Conv2d(heatmaps, 64, 4, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 128, 4, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(128)
        self.conv3 = nn.Conv2d(128, 512, 4, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(512)
        self.fc1 = nn.Linear(flat, 2048)
        self.fc2 = nn.Linear(2048, 512)
        self.fc3 = nn.Linear(512, _LATENT)
        self.b1_fc1 = nn.Linear(_LATENT, 32)
        self.b1_fc2 = nn.Linear(32, 32)
        self.b1_fc3 = nn.Linear(32, joints * 3)
        self.b2_fc1 = nn.Linear(_LATENT, 512)
        self.b2_fc2 = nn.Linear(512, 2048)
        self.b2_fc3 = nn.Linear(2048, flat)
        self.b2_deconv1 = nn.ConvTranspose2d(512, 128, 4, stride=2, padding=1)
        self.b2_deconv2 = nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1)
        self.b2_deconv3 = nn.ConvTranspose2d(64, heatmaps, 4, stride=2, padding=1)
        # reference checkpoints hold them, nothing uses them: without gradients DDP does not wait for them
        for unused in (self.bn1, self.bn2, self.bn3):
            unused.requires_grad_(False)
        self._reconstructs = True

    def forward(self, heatmaps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (joints_3d, reconstruction); None instead of that after `drop_reconstruction`."""
        latent = self.encode(heatmaps)
        return self.pose(latent), self.reconstruct(latent) if self._reconstructs else None

    def encode(self, heatmaps: Tensor) -> Tensor:
        """Return the latent code (B, 20)."""
        x = heatmaps
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = leaky_relu(convolution(x), _SLOPE)
        x = x.flatten(1)
        for layer in (self.fc1, self.fc2):
            x = leaky_relu(layer(x), _SLOPE)
        with torch.autocast(x.device.type, enabled=False):
            latent: Tensor = self.fc3(x.to(self.fc3.weight.dtype))
        return latent

    def pose(self, latent: Tensor) -> Tensor:
        """Return the joints (B, J, 3) of a latent code (B, 20)."""
        # a metre in bfloat16 comes in steps of 4 to 8 mm: these small layers stay in float32
        with torch.autocast(latent.device.type, enabled=False):
            pose = self.b1_fc3(self.b1_fc2(self.b1_fc1(latent)))
        joints_3d: Tensor = pose.unflatten(1, (self.joints, 3))
        return joints_3d

    def reconstruct(self, latent: Tensor) -> Tensor:
        """Return the heatmaps (B, K, S, S) of a latent code (B, 20)."""
        x = latent
        for layer in (self.b2_fc1, self.b2_fc2, self.b2_fc3):
            x = leaky_relu(layer(x), _SLOPE)
        x = x.unflatten(1, (512, self.side, self.side))
        x = self.b2_deconv2(self.b2_deconv1(x).relu()).relu()
        reconstruction: Tensor = self.b2_deconv3(x)
        return reconstruction

    def drop_reconstruction(self) -> None:
        """Delete the layers that only training needs: `forward` then returns the pose alone."""
        self._reconstructs = False
        for name in [name for name, _ in self.named_children() if name.startswith(("b2_", "bn"))]:
            delattr(self, name)
