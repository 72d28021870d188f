"""The reference recipe's losses. Poses are (B, 16, 3) in metres, heatmaps (B, 15, S, S)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from models.constants import made_once
from models.skeleton import BONES


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


def heatmap_loss(predicted_BJHW: Tensor, true_BJHW: Tensor) -> Tensor:
    """Mean squared error over all cells."""
    return mse_loss(predicted_BJHW.float(), true_BJHW)


def reconstruction_loss(predicted_BJHW: Tensor, target_BJHW: Tensor) -> Tensor:
    """Squared error summed over a sample's cells, averaged over the batch: finetune's form."""
    return (predicted_BJHW.float() - target_BJHW.float()).square().flatten(1).sum(1).mean()


def pose_loss(predicted_BJ3: Tensor, true_BJ3: Tensor) -> Tensor:
    """Euclidean distance per joint, averaged (metres)."""
    return _lengths(predicted_BJ3.float() - true_BJ3).mean()


def cosine_loss(predicted_BJ3: Tensor, true_BJ3: Tensor) -> Tensor:
    """Cosine similarity of the bones, summed over the 14 bones, averaged over the batch; higher is better."""
    return cosine_similarity(_bones(predicted_BJ3.float()), _bones(true_BJ3), dim=-1).sum(1).mean()


def bone_loss(predicted_BJ3: Tensor, true_BJ3: Tensor) -> Tensor:
    """Length of the difference of bone vectors, summed over the 14 bones, averaged over the batch (metres).

    Tome et al., ICCV 2019, call it the bone length term.
    """
    return _lengths(_bones(predicted_BJ3.float()) - _bones(true_BJ3)).sum(1).mean()


def pose_terms(weights: LossWeights, predicted_BJ3: Tensor, true_BJ3: Tensor) -> dict[str, Tensor]:
    """Return the weighted terms that compare poses; their sum enters the loss."""
    return {
        "pose": weights.pose * pose_loss(predicted_BJ3, true_BJ3),
        "cosine": -weights.cosine * cosine_loss(predicted_BJ3, true_BJ3),
        "bone": weights.bone * bone_loss(predicted_BJ3, true_BJ3),
    }


def _bones(pose_BJ3: Tensor) -> Tensor:
    starts, ends = _bone_ends(pose_BJ3.device).unbind()
    return pose_BJ3.index_select(1, ends) - pose_BJ3.index_select(1, starts)


@made_once
def _bone_ends(device: torch.device) -> Tensor:
    return torch.tensor(BONES, device=device).T.contiguous()


def _lengths(vectors: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return lengths
