"""Trained networks out of checkpoints, ours or the reference code's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from engine import checkpoint
from engine.config import to_plain
from engine.lens import Circle
from engine.picture_form import PictureForm
from engine.stages import STAGES, ModelConfig, Stage, StageName
from loaders.errors import InputError
from models import reference_weights
from models.heatmap_net import heatmap_size

REFERENCE_IMAGE_SIZE: Final = 368
"""Side of the reference recipe's pictures (pixels)."""

_BLOCKS: Final = {
    ("conv2", 2): "resnet18",
    ("conv2", 6): "resnet34",
    ("conv3", 6): "resnet50",
    ("conv3", 23): "resnet101",
    ("conv3", 36): "resnet152",
}
"""(last convolution of a block, blocks in layer3) -> trunk."""


@dataclass(frozen=True)
class Trained:
    """A stage with its trained network."""

    source: Path
    stage: Stage
    model: nn.Module
    """On the device asked for, channels_last, for evaluation."""
    run: dict[str, Any]
    """Configuration of the run that trained it; of a reference checkpoint only what it reveals."""
    lens: Circle | None
    """The circle that the training pictures show (pixels of the network's picture); None if it is not known."""
    form: PictureForm | None
    """How the training pictures were stored; None if it is not known, or as they were."""

    @property
    def trunk(self) -> str | None:
        """Trunk of the heatmap network; None without one."""
        return None if self.stage.name == "train3d" else self.stage.config.trunk


def load_trained(path: Path, device: torch.device) -> Trained:
    """Load a network for use. Raises InputError if the file is no checkpoint or does not fit together."""
    content = checkpoint.read(path)
    if reference_weights.is_reference(content):
        content = describe_reference(reference_weights.from_reference(content), path)
    else:
        content = checkpoint.check(content, path)
    config = content["config"]
    # weights come from the checkpoint: the pretrained trunk that the run began with is not needed
    model_config = ModelConfig(**{**config["model"], "trunk_weights": None})
    stage = STAGES[content["stage"]](model_config, content["image_size"])
    model = stage.build_model()
    stage.load_weights(model, content["model"], path)
    model.eval().to(device).to(memory_format=torch.channels_last)
    lens, form = content.get("lens"), content.get("form")
    return Trained(path, stage, model, config, Circle(**lens) if lens else None, PictureForm(**form) if form else None)


def describe_reference(weights: checkpoint.Weights, path: Path) -> dict[str, Any]:
    """Return a reference checkpoint's weights as a checkpoint of ours holds them.

    Stage, trunk and picture size are read off the networks. Raises InputError if that fails.
    """
    image_size = REFERENCE_IMAGE_SIZE
    stage: StageName = "train2d"
    trunk = "resnet50"
    if "lifting_net" in weights:
        stage = "finetune" if "heatmap_net" in weights else "train3d"
        image_size = image_size_of(weights["lifting_net"], path)
    if "heatmap_net" in weights:
        trunk = trunk_of(weights["heatmap_net"], path)
    model = {**to_plain(ModelConfig(rounded_targets=True)), "trunk": trunk}
    return {"stage": stage, "image_size": image_size, "model": weights, "config": {"stage": stage, "model": model}}


def trunk_of(state: dict[str, torch.Tensor], path: Path) -> str:
    """Return the name of a heatmap network's trunk."""
    blocks = {name.split(".")[1] for name in state if name.startswith("layer3.")}
    last = "conv3" if "layer1.0.conv3.weight" in state else "conv2"
    trunk = _BLOCKS.get((last, len(blocks)))
    if trunk is None:
        raise InputError(f"{path}: its heatmap network has none of the trunks {', '.join(_BLOCKS.values())}")
    return trunk


def image_size_of(state: dict[str, torch.Tensor], path: Path) -> int:
    """Return the side of the pictures whose heatmaps a lifting network takes (pixels)."""
    if "fc1.weight" not in state or "conv3.weight" not in state:
        raise InputError(f"{path}: its lifting network has no conv3 and fc1: it is not the reference's")
    side: int = round((state["fc1.weight"].shape[1] / state["conv3.weight"].shape[0]) ** 0.5)
    if 8 * side == heatmap_size(REFERENCE_IMAGE_SIZE):
        return REFERENCE_IMAGE_SIZE
    # other sizes are ours alone; the largest picture with such heatmaps stands for all
    return 64 * side
