"""A stage of a user's own, from windows of images to poses, in a file; and what can be wrong with one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from engine.checkpoint import format as checkpoint
from engine.train import main as train
from tests.engine.own_files import write_own
from tests.engine.training_runs import flags
from tests.shard_factory import make_shard_set

LENGTH, STRIDE = 3, 2

_TEXT = """
    import torch
    from torch import nn
    from engine.stages import Prediction, Stage

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.code = nn.Sequential(nn.Conv2d(3, 8, 8, 8), nn.ReLU(), nn.Conv2d(8, 16, 4, 4), nn.Flatten())
            self.memory = nn.GRU(64, 32, batch_first=True)
            self.pose = nn.Linear(32, 48)
            nn.init.normal_(self.pose.weight, std=0.2)

        def forward(self, image):
            codes = self.code(image.flatten(0, 1) / 64.0).unflatten(0, image.shape[:2])
            return self.pose(self.memory(codes)[0][:, -1]).unflatten(1, (16, 3))

    class Windows(Stage):
        outputs = ("image",)
        metric = "mpjpe_mm"
        sees_windows = True

        def build_model(self):
            return Net()

        def networks(self, model):
            return {"net": model}

        def forward_and_loss(self, model, batch):
            pose = model(batch.image)
            return Prediction(joints_3d=pose), self.pose_loss(pose, batch.predicted.joints_3d)

    class Shifted(Windows):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.register_buffer("shift", torch.linspace(-1, 1, 48).view(16, 3))

        def predict(self, model, batch):
            return Prediction(joints_3d=model(batch.image) + self.shift)

    class Peeking(Windows):
        def predict(self, model, batch):
            return Prediction(joints_3d=model(batch.image) + 0 * batch.predicted.joints_3d)

    class Silent(Windows):
        def predict(self, model, batch):
            model(batch.image)
            return Prediction()

    class WithDepth(Windows):
        outputs = ("image", "depth", "rot")

    class Singles(Windows):
        sees_windows = False

        def forward_and_loss(self, model, batch):
            pose = model(batch.image[:, None])
            return Prediction(joints_3d=pose), self.pose_loss(pose, batch.joints_3d)

    class Branching(Windows):
        def predict(self, model, batch):
            pose = model(batch.image)
            return Prediction(joints_3d=pose if pose.sum() > 0 else -pose)
"""


def train_window_stage(folder: Path) -> Path:
    """Train the stage ``Windows`` for two steps, and return its checkpoint."""
    own = write_own(folder, _TEXT)
    shards = make_shard_set(folder / "shards", {"train": 14, "val": 6}, image_size=64)
    window = ("--data.window", str(LENGTH), "--data.stride", str(STRIDE))
    arguments = flags(shards, folder / "run", f"{own}:Windows", *window, "--max-steps", "2")
    assert train(arguments) == 0
    return folder / "run" / "last.pt"


def as_stage(trained: Path, name: str, path: Path) -> Path:
    """Write a checkpoint as another class in the same file would have left it."""
    saved = checkpoint.load(trained)
    stage = f"{saved.stage.rpartition(':')[0]}:{name}"
    checkpoint.save(path, dataclasses.replace(saved, stage=stage))
    return path
