"""The reference recipe's losses. Poses are (B, J, 3) in metres, heatmaps (B, K, S, S)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import cosine_similarity, mse_loss

from models.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms; the defaults are the reference recipe's."""

    heatmap: float = 1.0
    """Squared error of the heatmaps (factor)."""
    reconstruction: float = 0.001
    """Squared error of the reconstructed heatmaps (factor)."""
    pose: float = 0.1
    """Mean distance per joint (factor, per metre)."""
    cosine: float = 0.01
    """Cosine between true and predicted bones, summed over bones, subtracted (factor)."""
    bone: float = 0.5
    """Length of the difference of true and predicted bones, summed over bones (factor, per metre)."""


def heatmap_loss(predicted: Tensor, true: Tensor) -> Tensor:
    """Mean squared error over all cells."""
    return mse_loss(predicted.float(), true)


def reconstruction_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over a sample's cells, averaged over the batch, as finetune has it."""
    return (predicted.float() - target.float()).square().flatten(1).sum(1).mean()


class PoseLoss(nn.Module):
    """The weighted terms that compare poses.

    - pose: Euclidean distance per joint, averaged.
    - cosine: minus the cosine similarity of the bones, summed over the bones, averaged over the batch.
    - bone: length of the difference of bone vectors, summed over the bones, averaged over the batch. Tome et al.,
      ICCV 2019, call it the bone length term.
    """

    starts: Tensor
    ends: Tensor

    def __init__(self, weights: LossWeights, skeleton: Skeleton) -> None:
        super().__init__()
        self.weights = weights
        # buffers, so that no step copies the indices to the device
        starts, ends = torch.tensor(skeleton.bones).reshape(-1, 2).T.contiguous()
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("ends", ends, persistent=False)

    def forward(self, predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Return the terms by name; their sum enters the loss."""
        predicted = predicted.float()
        predicted_bones, true_bones = self._bones(predicted), self._bones(true)
        distance = vector_norm(predicted - true, dim=-1).mean()
        cosine = cosine_similarity(predicted_bones, true_bones, dim=-1).sum(1).mean()
        difference = vector_norm(predicted_bones - true_bones, dim=-1).sum(1).mean()
        return {
            "pose": self.weights.pose * distance,
            "cosine": -self.weights.cosine * cosine,
            "bone": self.weights.bone * difference,
        }

    def _bones(self, pose: Tensor) -> Tensor:
        return pose.index_select(1, self.ends) - pose.index_select(1, self.starts)
