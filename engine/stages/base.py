"""What a stage is, and what it is built of."""

from __future__ import annotations

import importlib.util
import textwrap
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from engine.checkpoint import format as checkpoint
from engine.stages.prediction import Prediction, check_prediction, check_terms
from loaders import PoseBatch
from loaders.batch import Output
from loaders.errors import InputError
from loaders.ranges import POSITIVE, check_ranges
from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.heatmap_net import BACKBONES, heatmap_size
from models.heatmaps import SIGMA, HeatmapEncoder, decode_heatmaps, select_heatmap_joints
from models.losses import LossWeights, PoseLoss
from models.skeleton import Skeleton
from models.timm_backbone import PREFIX, is_timm
from models.xr_egopose import SKELETON


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The networks and their targets."""

    backbone: str = "resnet50"
    """Backbone of the heatmap network: resnet18, resnet34, resnet50, resnet101, resnet152, or timm/NAME for a feature
    extractor of timm, such as timm/convnext_tiny."""
    network: str | None = None
    """Network of your own instead of the engine's, as package.module:Class or path/to/file.py:Class; what it gets and
    returns stands in docs/extending.md."""
    pretrained: str | None = None
    """Pretrained backbone: a file with torchvision's parameter names, or a name such as "IMAGENET1K_V2", which
    torchvision downloads; for timm/NAME a file with timm's, or a tag such as "fb_in22k", which timm downloads."""
    sigma: float = SIGMA
    """Standard deviation of the target Gaussians (heatmap cells)."""
    quantized_targets: bool = False
    """Center the targets on whole cells, as the reference recipe does; otherwise on the joint itself."""
    unseen_targets: bool = False
    """Draw targets also for joints that the lens does not show, whose labels mean nothing, as the reference recipe
    does; otherwise their heatmaps are to be empty."""

    def __post_init__(self) -> None:
        check_ranges(self, "model.", sigma=POSITIVE)
        _check_backbone(self.backbone)


def _check_backbone(backbone: str) -> None:
    if is_timm(backbone) and importlib.util.find_spec("timm") is None:
        raise InputError(f"model.backbone {backbone} needs timm: pip install timm")
    if backbone not in BACKBONES and not is_timm(backbone):
        raise InputError(f"model.backbone is {backbone!r}: give {', '.join(BACKBONES)}, or {PREFIX}NAME")


class Errors(NamedTuple):
    """Mean distances of frames' joints from where they are, added up, on the device."""

    sum: Tensor
    frames: Tensor
    """How many were added."""


class Stage(nn.Module, ABC):
    """One stage of training: its targets and its loss, whose constants are buffers, so move it to the device.

    The network is no part of it but an argument, because it may be an average or wrapped. A stage of your own, given as
    ``--stage path/to/file.py:Class``, is a class derived from this one that has ``outputs``, ``metric``,
    `build_model`, `networks` and `forward_and_loss`.
    """

    name: ClassVar[str]
    """What ``--stage`` calls it, and checkpoints."""
    outputs: ClassVar[tuple[Output, ...]]
    """What the stage's batches hold beside labels."""
    metric: ClassVar[str]
    """The validation metric that chooses the best checkpoint; lower is better: "error_px" or "mpjpe_mm", which `errors`
    makes, or "loss"."""
    sees_windows: bool = False
    """Whether its batches are windows (B, T, ...), T being ``data.window``, of which the last frame is to be
    predicted."""

    def __init__(
        self,
        config: ModelConfig,
        image_size: int,
        weights: LossWeights | None = None,
        skeleton: Skeleton = SKELETON,
    ) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.skeleton = skeleton
        """What the joints of a pose are."""
        self.heatmap_size = heatmap_size(image_size)
        self.weights = weights or LossWeights()
        self.encoder = HeatmapEncoder(
            image_size, self.heatmap_size, sigma=config.sigma, quantized=config.quantized_targets
        )
        self.pose_loss = PoseLoss(self.weights, skeleton)

    @abstractmethod
    def build_model(self) -> nn.Module:
        """Return the network with new weights."""

    @abstractmethod
    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return the model's parts by the names they have in checkpoints."""

    @abstractmethod
    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """Run the network on a batch; return its prediction and the weighted terms whose sum is the loss."""

    def predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        """Run the network on a batch without computing a loss, if that saves something."""
        return self.forward_and_loss(model, batch)[0]

    def run(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """As `forward_and_loss`, of any batch. Raises InputError if what that returns has not the shapes it should."""
        prediction, terms = self.forward_and_loss(model, self._as_seen(batch))
        self.check(self.name, prediction, len(batch))
        check_terms(self.name, terms)
        return prediction, terms

    def run_to_predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        """As `predict`, of any batch. Raises InputError as `run` does."""
        prediction = self.predict(model, self._as_seen(batch))
        self.check(self.name, prediction, len(batch))
        return prediction

    def check(self, name: str, prediction: Prediction, samples: int) -> None:
        """Raise InputError if what a stage or network of this name returns is no prediction for so many samples."""
        check_prediction(name, prediction, samples, self.heatmap_size, self.skeleton)

    def select_heatmap_joints(self, joints: Tensor) -> Tensor:
        """Return of all joints (B, J, ...) those that have a heatmap (B, K, ...)."""
        return select_heatmap_joints(joints, self.skeleton)

    def _as_seen(self, batch: PoseBatch) -> PoseBatch:
        return batch.in_windows(1) if self.sees_windows and batch.index.ndim == 1 else batch

    def targets(self, batch: PoseBatch) -> Tensor:
        """Return the true heatmaps (B, K, S, S), or (B, T, K, S, S) of a batch of windows."""
        frames = batch.as_frames()
        visible = None if self.config.unseen_targets else self.select_heatmap_joints(frames.visible)
        targets: Tensor = self.encoder(self.select_heatmap_joints(frames.joints_2d), visible)
        return targets.unflatten(0, batch.index.shape) if batch.index.ndim > 1 else targets

    def errors(self, prediction: Prediction, batch: PoseBatch) -> dict[str, Errors]:
        """Return the errors of the batch: ``error_px`` of a frame's joints in the image, ``mpjpe_mm`` of all."""
        batch, errors = batch.predicted, {}
        if prediction.heatmap is not None:
            joints_2d, _ = decode_heatmaps(prediction.heatmap, self.image_size)
            distances = torch.linalg.vector_norm(joints_2d - self.select_heatmap_joints(batch.joints_2d), dim=-1)
            in_image = self.select_heatmap_joints(batch.visible) == IN_IMAGE
            # a heatmap cannot answer the others; a frame without any has no error
            joints = in_image.sum(1)
            means = torch.where(in_image, distances, 0).sum(1) / joints.clamp_min(1)
            errors["error_px"] = Errors(means.sum(), (joints > 0).sum())
        if prediction.joints_3d is not None:
            distances = 1000 * torch.linalg.vector_norm(prediction.joints_3d.float() - batch.joints_3d, dim=-1)
            errors["mpjpe_mm"] = Errors(distances.mean(1).sum(), torch.tensor(len(batch)))
        return errors

    def left_out(self, prediction: Prediction, batch: PoseBatch) -> dict[str, Tensor]:
        """Return how many of the batch's joints ``error_px`` leaves out, by reason; nothing without heatmaps."""
        if prediction.heatmap is None:
            return {}
        visible = self.select_heatmap_joints(batch.predicted.visible)
        return {"joints_outside_image": (visible == IN_LENS).sum(), "joints_unseen": (visible == UNSEEN).sum()}

    def load_weights(self, model: nn.Module, weights: checkpoint.Weights, source: Path) -> None:
        """Load networks by name. Raises InputError if one is unknown to this stage or does not fit."""
        networks = self.networks(model)
        for name, state in weights.items():
            if name not in networks:
                raise InputError(f"{source} holds a {name}, which {self.name} does not train; drop the flag")
            try:
                networks[name].load_state_dict(state)
            except RuntimeError as error:
                reason = textwrap.shorten(" ".join(str(error).split("\n\t")[1:2]) or str(error), 160)
                raise InputError(
                    f"{source}: its {name} does not fit this configuration ({reason}): keep "
                    f"{'model.network' if self.config.network else 'model.backbone'} and data.image_size as they were "
                    "when it was trained"
                ) from None
