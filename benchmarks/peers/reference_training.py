"""How the reference code trains, as its recipe describes it: plain PyTorch in full precision."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss

from benchmarks.harness import Steps
from benchmarks.peers.common import from_workers
from benchmarks.peers.reference_way import Sample, frame_loader
from engine.stages import STAGES, ModelConfig, StageName
from models.heatmap_net import Backbone
from models.xr_egopose import SKELETON

_PRINT_EVERY: Final[dict[StageName, int]] = {"train2d": 100, "train3d": 1000, "finetune": 1000}
"""How often the loss is printed (steps)."""


class Recipe:
    """Networks, loss and optimizer of a stage."""

    model: nn.Module
    """The networks as our stage has them, to evaluate them; the weights are the same ones."""

    def __init__(self, stage: StageName, backbone: Backbone, image_size: int, device: torch.device) -> None:
        """Make the networks with new weights.

        Args:
            stage: train2d, train3d or finetune.
            backbone: of the heatmap network.
            image_size: side of the image (pixels).
            device: where to train.
        """
        self.stage = stage
        self.device = device
        ours = STAGES[stage](ModelConfig(backbone=backbone), image_size)
        self.model = ours.build_model()
        parts = ours.networks(self.model)
        self.networks = nn.ModuleDict()
        if "heatmap_net" in parts:
            # the layers alone: our network normalizes bytes before them, the reference's workers have done so
            self.networks["heatmap"] = nn.Sequential(*parts["heatmap_net"].children())
        if "lifting_net" in parts:
            self.networks["lifting"] = parts["lifting_net"]
        self.networks.to(device).train()
        self._optimizer = torch.optim.Adam(self.networks.parameters(), lr=1e-3)
        self._schedule = torch.optim.lr_scheduler.StepLR(self._optimizer, step_size=10, gamma=0.1)

    def step(self, batch: Sample) -> Tensor:
        """Train on a batch and return the loss, on the device."""
        # train3d moves the image too, though it has no use for it
        image, heatmaps, joints_3d = (part.to(self.device) for part in batch)
        self._optimizer.zero_grad()
        loss = self.loss(image, heatmaps, joints_3d)
        loss.backward()
        self._optimizer.step()
        return loss

    def end_epoch(self) -> None:
        """Go on with the schedule of the learning rate."""
        self._schedule.step()

    def save(self, path: Path) -> None:
        """Write the weights."""
        torch.save(self.networks.state_dict(), path)

    def load(self, paths: Iterable[Path]) -> None:
        """Begin with the weights of other stages, which hold those of all networks of this one."""
        self.networks.load_state_dict({name: value for path in paths for name, value in torch.load(path).items()})

    def loss(self, image: Tensor, heatmaps: Tensor, joints_3d: Tensor) -> Tensor:
        """Return the stage's loss for images (B, 3, S, S), heatmaps (B, 15, H, H) and joints_3d (B, 16, 3)."""
        if self.stage == "train3d":
            pose, reconstruction = self.networks["lifting"](heatmaps)
            return 0.001 * mse_loss(reconstruction, heatmaps) + pose_error(pose, joints_3d)
        predicted = self.networks["heatmap"](image)
        error = mse_loss(predicted, heatmaps)
        if self.stage == "train2d":
            return error
        pose, reconstruction = self.networks["lifting"](predicted)
        return error + 0.001 * summed_error(reconstruction, predicted) + pose_error(pose, joints_3d)


def summed_error(reconstruction: Tensor, heatmaps: Tensor) -> Tensor:
    """Squared error summed over the cells of a sample, averaged over the batch."""
    return ((reconstruction - heatmaps) ** 2).sum(dim=(1, 2, 3)).mean()


def pose_error(predicted: Tensor, true: Tensor) -> Tensor:
    """Weighted sum of what compares poses (B, 16, 3): distance of joints, cosine and difference of bones."""
    distance: Tensor = torch.norm(predicted - true, dim=2).mean()
    predicted_bones = torch.zeros(len(true), len(SKELETON.bones), 3, device=true.device)
    true_bones = torch.zeros(len(true), len(SKELETON.bones), 3, device=true.device)
    for bone, (start, end) in enumerate(
        SKELETON.bones
    ):  # the reference's loop: four small kernels a bone, and more backwards
        predicted_bones[:, bone] = predicted[:, end] - predicted[:, start]
        true_bones[:, bone] = true[:, end] - true[:, start]
    cosine = cosine_similarity(predicted_bones, true_bones, dim=2).sum(dim=1).mean()
    length: Tensor = torch.norm(predicted_bones - true_bones, dim=2).sum(dim=1).mean()
    return 0.1 * distance - 0.01 * cosine + 0.5 * length


@contextlib.contextmanager
def reference_training(
    dataset: Path,
    stage: StageName,
    backbone: Backbone,
    *,
    image_size: int,
    batch_size: int,
    workers: int,
    device: torch.device,
    seed: int,
) -> Iterator[Steps]:
    """Train on the extracted dataset; a step is one of the optimizer for each worker.

    Args:
        dataset: folder that holds TrainSet.
        stage: train2d, train3d or finetune.
        backbone: of the heatmap network.
        image_size: side of the image (pixels).
        batch_size: samples of a batch.
        workers: processes that load; 0 loads in this one.
        device: where to train.
        seed: of weights and shuffle.
    """
    torch.manual_seed(seed)
    recipe = Recipe(stage, backbone, image_size, device)
    steps = itertools.count(1)
    loader = frame_loader(dataset, image_size, batch_size, workers, seed=seed)
    with from_workers(loader, workers) as batches:

        def train() -> int:
            batch = next(batches.stream)
            loss = recipe.step(batch)
            if next(steps) % _PRINT_EVERY[stage] == 0:
                loss.item()  # printing it waits for the device
            return len(batch[0])

        def step() -> int:
            return sum(train() for _ in range(batches.at_once))

        # two batches of each worker are there when training begins
        yield Steps(step, torch.cuda.synchronize if device.type == "cuda" else None, start=3)
