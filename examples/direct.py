"""A network of one's own in a stage of the engine: images of several frames to the pose of the last, without heatmaps.

    python engine/train.py --config configs/finetune.yaml --model.network examples/direct.py:DirectNet \
           --data.window 3 --data.shards SHARDS --run-dir runs/direct

Without ``--data.window`` the same network sees single frames. docs/extending.md explains what a network is.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.skeleton import Skeleton

WIDTH = 256
"""Of a frame's code (values)."""


class DirectNet(nn.Module):
    """A code for each frame, a recurrent network over the codes, and a pose out of its last state.

    Shapes: image (B, T, 3, H, W) uint8 -> joints_3d (B, J, 3), metres relative to the root.
    """

    sees_windows = True

    def __init__(self, image_size: int, heatmap_size: int, skeleton: Skeleton) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 256)
        convolutions = [
            layer
            for before, after in pairwise(widths)
            for layer in (nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))
        ]
        self.code = nn.Sequential(
            *convolutions,
            nn.AdaptiveAvgPool2d(4),  # coarse positions are left, whatever the image's size
            nn.Flatten(),
            nn.Linear(widths[-1] * 4 * 4, WIDTH),
            nn.ReLU(inplace=True),
        )
        self.memory = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.joints = len(skeleton)
        self.pose = nn.Linear(WIDTH, 3 * self.joints)

    def forward(self, image: Tensor) -> Tensor:
        """Return joints_3d."""
        frames = image.flatten(0, 1).float() / 127.5 - 1  # bytes are normalized here
        codes = self.code(frames).unflatten(0, image.shape[:2])
        states, _ = self.memory(codes)
        # metres need more digits than bf16 and fp16 have
        with torch.autocast(image.device.type, enabled=False):
            poses: Tensor = self.pose(states[:, -1].float())
        return poses.unflatten(1, (self.joints, 3))
