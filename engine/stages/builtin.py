"""The engine's stages: train2d, train3d and finetune."""

from __future__ import annotations

from torch import Tensor, nn

from engine.stages.base import Prediction, Stage
from engine.stages.pretrained import backbone_faults, load_pretrained
from loaders import PoseBatch
from models.heatmap_net import HeatmapNet
from models.lifting_net import LiftingNet
from models.losses import heatmap_loss, reconstruction_loss
from models.pose_net import PoseNet


class Train2d(Stage):
    """Image to heatmaps."""

    name = "train2d"
    outputs = ("image",)
    metric = "error_px"

    def build_model(self) -> nn.Module:
        with backbone_faults():
            model = HeatmapNet(self.config.backbone, image_size=self.image_size)
        load_pretrained(model, self.config)
        return model

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        return {"heatmap_net": model}

    def predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        return Prediction(model(_image(batch)))

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        heatmap = model(_image(batch))
        return Prediction(heatmap), {"heatmap": self.weights.heatmap * heatmap_loss(heatmap, self.targets(batch))}


class Train3d(Stage):
    """True heatmaps to pose: no image is decoded."""

    name = "train3d"
    outputs = ()
    metric = "mpjpe_mm"

    def build_model(self) -> nn.Module:
        return LiftingNet(self.heatmap_size)

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        return {"lifting_net": model}

    def predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        return Prediction(joints_3d=model(self.targets(batch))[0])

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        heatmap = self.targets(batch)
        joints_3d, reconstruction = model(heatmap)
        terms = {
            "reconstruction": self.weights.reconstruction * heatmap_loss(reconstruction, heatmap),
            **self.pose_loss(joints_3d, batch.joints_3d),
        }
        return Prediction(joints_3d=joints_3d, reconstruction=reconstruction), terms


class Finetune(Stage):
    """Both networks together: image to pose."""

    name = "finetune"
    outputs = ("image",)
    metric = "mpjpe_mm"

    def build_model(self) -> nn.Module:
        with backbone_faults():
            model = PoseNet(self.config.backbone, self.image_size)
        load_pretrained(model.heatmap_net, self.config)
        return model

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        assert isinstance(model, PoseNet)
        return {"heatmap_net": model.heatmap_net, "lifting_net": model.lifting_net}

    def predict(self, model: nn.Module, batch: PoseBatch) -> Prediction:
        return Prediction(*model(_image(batch)))

    def forward_and_loss(self, model: nn.Module, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        heatmap, joints_3d, reconstruction = model(_image(batch))
        terms = {
            "heatmap": self.weights.heatmap * heatmap_loss(heatmap, self.targets(batch)),
            "reconstruction": self.weights.reconstruction * reconstruction_loss(reconstruction, heatmap),
            **self.pose_loss(joints_3d, batch.joints_3d),
        }
        return Prediction(heatmap, joints_3d, reconstruction), terms


def _image(batch: PoseBatch) -> Tensor:
    assert batch.image is not None
    return batch.image
