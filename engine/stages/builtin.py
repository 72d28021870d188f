"""The engine's stages: train2d, train3d and finetune."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from engine.stages.base import ModelConfig, Stage
from engine.stages.own_network import Returns, as_prediction, build_own_network, sees_windows
from engine.stages.prediction import Prediction
from engine.stages.pretrained import backbone_faults, load_pretrained
from loaders import PoseBatch
from loaders.errors import InputError
from models.heatmap_net import HeatmapNet, heatmap_size
from models.lifting_net import SHRINK, LiftingNet
from models.losses import LossWeights, heatmap_loss, reconstruction_loss
from models.pose_net import PoseNet
from models.skeleton import Skeleton
from models.xr_egopose import SKELETON


class BuiltInStage(Stage):
    """A stage whose network may be exchanged for one of a user's own."""

    returns: ClassVar[Returns]
    """What its network may return."""
    given: ClassVar[str]
    """What its network is called with."""

    def __init__(
        self,
        config: ModelConfig,
        image_size: int,
        weights: LossWeights | None = None,
        skeleton: Skeleton = SKELETON,
    ) -> None:
        super().__init__(config, image_size, weights, skeleton)
        if config.network is not None:
            self.sees_windows = sees_windows(config.network)

    @abstractmethod
    def build_engines(self) -> nn.Module:
        """Return the engine's network with new weights."""

    def inputs(self, batch: PoseBatch) -> Tensor:
        """Return what the network is called with."""
        assert batch.image is not None
        return batch.image

    def build_model(self) -> nn.Module:
        if self.config.network is None:
            return self.build_engines()
        given = self.given.format(heatmaps=len(self.skeleton.heatmap_joints))
        return build_own_network(self.config.network, self.image_size, self.heatmap_size, self.skeleton, given)

    def predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        return self.predict_from(model, self.inputs(batch))

    def predict_from(self, model: nn.Module, inputs: Tensor) -> Prediction:
        """As `predict`, of what the network is called with."""
        name = self.config.network or self.name
        prediction = as_prediction(name, model(inputs), self.returns)
        if self.config.network is not None:  # before a loss stumbles over it
            self.check(name, prediction, inputs.shape[0])
        return prediction

    def check_lifting(self) -> None:
        """Raise InputError if there is no lifting network for the images' size."""
        if self.heatmap_size % SHRINK:
            fitting = next(size for size in itertools.count(self.image_size) if not heatmap_size(size) % SHRINK)
            raise InputError(
                f"data.image_size is {self.image_size}, whose heatmaps have {self.heatmap_size} cells a side; "
                f"{self.name} wants a multiple of {SHRINK}: give {fitting}, or any multiple of 64"
            )


class Train2d(BuiltInStage):
    """Image to heatmaps."""

    name = "train2d"
    outputs = ("image",)
    metric = "error_px"
    returns = (("heatmap",),)
    given = "images (B, 3, H, W) uint8"

    def build_engines(self) -> nn.Module:
        with backbone_faults():
            model = HeatmapNet(self.config.backbone, len(self.skeleton.heatmap_joints), self.image_size)
        load_pretrained(model, self.config)
        return model

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        return {"heatmap_net": model}

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = self.predict_from(model, self.inputs(batch))
        assert prediction.heatmap is not None
        loss = heatmap_loss(prediction.heatmap, self.targets(batch.predicted))
        return prediction, {"heatmap": self.weights.heatmap * loss}


class Train3d(BuiltInStage):
    """True heatmaps to pose: no image is decoded."""

    name = "train3d"
    outputs = ()
    metric = "mpjpe_mm"
    returns = (("joints_3d",), ("joints_3d", "reconstruction"))
    given = "heatmaps (B, {heatmaps}, S, S)"

    def build_engines(self) -> nn.Module:
        self.check_lifting()
        return LiftingNet(self.heatmap_size, len(self.skeleton.heatmap_joints), len(self.skeleton))

    def inputs(self, batch: PoseBatch) -> Tensor:
        return self.targets(batch)

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        return {"lifting_net": model}

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        heatmap = self.inputs(batch)
        prediction = self.predict_from(model, heatmap)
        terms = {}
        if prediction.reconstruction is not None:
            loss = heatmap_loss(prediction.reconstruction, heatmap[:, -1] if heatmap.ndim == 5 else heatmap)
            terms["reconstruction"] = self.weights.reconstruction * loss
        assert prediction.joints_3d is not None
        return prediction, terms | self.pose_loss(prediction.joints_3d, batch.predicted.joints_3d)


class Finetune(BuiltInStage):
    """Both networks together: image to pose."""

    name = "finetune"
    outputs = ("image",)
    metric = "mpjpe_mm"
    returns = (("joints_3d",), ("heatmap", "joints_3d"), ("heatmap", "joints_3d", "reconstruction"))
    given = "images (B, 3, H, W) uint8"

    def build_engines(self) -> nn.Module:
        self.check_lifting()
        with backbone_faults():
            model = PoseNet(
                self.config.backbone, self.image_size, len(self.skeleton.heatmap_joints), len(self.skeleton)
            )
        load_pretrained(model.heatmap_net, self.config)
        return model

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """Return both parts, which other stages train, or a network of a user's own that is not made of them."""
        parts = dict(model.named_children())
        named = {name.split(".")[0] for name in model.state_dict()}
        return parts if named == parts.keys() == {"heatmap_net", "lifting_net"} else {"network": model}

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = self.predict_from(model, self.inputs(batch))
        terms = {}
        if prediction.heatmap is not None:
            loss = heatmap_loss(prediction.heatmap, self.targets(batch.predicted))
            terms["heatmap"] = self.weights.heatmap * loss
            if prediction.reconstruction is not None:
                loss = reconstruction_loss(prediction.reconstruction, prediction.heatmap)
                terms["reconstruction"] = self.weights.reconstruction * loss
        assert prediction.joints_3d is not None
        return prediction, terms | self.pose_loss(prediction.joints_3d, batch.predicted.joints_3d)
