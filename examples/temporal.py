"""Stages of one's own: the pose out of the true heatmaps of several frames.

    python engine/train.py --stage examples/temporal.py:Temporal --data.window 5 \
           --data.shards SHARDS --run-dir runs/temporal

Without ``--data.window`` the same network sees single frames. docs/extending.md explains what a stage is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.stages import Prediction, Stage
from loaders import PoseBatch
from models.skeleton import Skeleton

WIDTH = 256
"""Of a frame's code (values)."""


class TemporalNet(nn.Module):
    """A code for each frame, a recurrent network over the codes, and poses out of its states.

    Shapes: heatmaps (B, T, K, S, S) -> joints_3d (B, T, J, 3), metres relative to the root. A frame's pose depends
    on that frame and those before it.
    """

    def __init__(self, heatmap_size: int, skeleton: Skeleton) -> None:
        super().__init__()
        self.code = nn.Sequential(
            nn.Conv2d(len(skeleton.heatmap_joints), 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(128 * (heatmap_size // 4) ** 2, WIDTH),
            nn.LeakyReLU(0.2),
        )
        self.memory = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.joints = len(skeleton)
        self.pose = nn.Linear(WIDTH, 3 * self.joints)

    def forward(self, heatmaps: Tensor) -> Tensor:
        """Return joints_3d."""
        codes = self.code(heatmaps.flatten(0, 1)).unflatten(0, heatmaps.shape[:2])
        states, _ = self.memory(codes)
        poses: Tensor = self.pose(states).unflatten(2, (self.joints, 3))
        return poses


class Temporal(Stage):
    """True heatmaps of a window to the pose of its last frame: no image is decoded."""

    outputs = ()
    metric = "mpjpe_mm"
    sees_windows = True

    def build_model(self) -> nn.Module:
        """Return the network with new weights."""
        return TemporalNet(self.heatmap_size, self.skeleton)

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the network by its name in checkpoints."""
        return {"temporal_net": model}

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """Return the last frames' poses, and the terms of the reference recipe that compare poses."""
        poses = self.poses(model, batch)
        return Prediction(joints_3d=poses[:, -1]), self.pose_loss(poses[:, -1], batch.predicted.joints_3d)

    def poses(self, model: nn.Module, batch: PoseBatch) -> Tensor:
        """Return the poses (B, T, J, 3) of all frames."""
        poses: Tensor = model(self.targets(batch))
        return poses


class SteadyTemporal(Temporal):
    """The same with a loss of one's own: all poses of a window count, and how they change from frame to frame."""

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """Return the last frames' poses, the terms that compare poses, and one that compares velocities."""
        poses = self.poses(model, batch)
        terms = self.pose_loss(poses.flatten(0, 1), batch.as_frames().joints_3d)
        if poses.shape[1] > 1:
            off = poses.float().diff(dim=1) - batch.joints_3d.diff(dim=1)
            terms["velocity"] = torch.linalg.vector_norm(off, dim=-1).mean()
        return Prediction(joints_3d=poses[:, -1]), terms
