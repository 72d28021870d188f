"""Trained networks out of checkpoints, ours or the reference code's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from torch import nn

from engine.checkpoint import format as checkpoint
from engine.device import moved
from engine.stages import STAGES, ModelConfig, Stage, StageName, build_network, build_stage, is_own
from loaders.errors import InputError
from loaders.plain import UnknownFieldError, from_plain
from loaders.preprocessing import Preprocessing, upgraded
from models.camera import Camera, Crop
from models.head import HeadPosition
from models.heatmap_net import Backbone, heatmap_size
from models.skeleton import Skeleton
from models.xr_egopose import CAMERA, SKELETON

T = TypeVar("T")

REFERENCE_IMAGE_SIZE: Final = 368
"""Side of the reference recipe's images (pixels)."""
_LARGEST: Final = 2**16
"""Largest image_size that a checkpoint may claim (pixels)."""

_BLOCKS: Final[dict[tuple[str, int], Backbone]] = {
    ("conv2", 2): "resnet18",
    ("conv2", 6): "resnet34",
    ("conv3", 6): "resnet50",
    ("conv3", 23): "resnet101",
    ("conv3", 36): "resnet152",
}
"""(last convolution of a block, blocks in layer3) -> backbone."""


@dataclass(frozen=True)
class LoadedModel:
    """A stage with its trained network."""

    source: Path
    stage: Stage
    model: nn.Module
    """On the device asked for, channels_last, for evaluation."""
    run: dict[str, Any]
    """Configuration of the run that trained it; of a reference checkpoint only what it reveals."""
    preprocessing: Preprocessing | None
    """What was done to the training images; None if it is not known."""
    head: HeadPosition | None
    """Where the head is in the camera frame of the training images; None if it is not known."""

    @property
    def skeleton(self) -> Skeleton:
        """What its joints are."""
        return self.stage.skeleton

    @property
    def camera(self) -> Camera:
        """The camera of the frames that it was trained on; where that is not known, xR-EgoPose's."""
        return self.preprocessing.frame if self.preprocessing else CAMERA

    @property
    def crop(self) -> Crop:
        """What the network sees of a frame; where that is not known, the center square, as in the reference code."""
        return self.preprocessing.crop if self.preprocessing else "square"

    @property
    def backbone(self) -> str | None:
        """Backbone of the heatmap network; None without one of the engine's."""
        own = self.network is not None or "heatmap_net" not in self.stage.networks(self.model)
        return None if own else self.stage.config.backbone

    @property
    def network(self) -> str | None:
        """Class of a network of a user's own; None for the engine's."""
        return self.stage.config.network

    @property
    def window(self) -> tuple[int, int]:
        """Frames of a sample, and how far they are apart (frame numbers)."""
        data = self.run.get("data", {}) if self.stage.sees_windows else {}
        return data.get("window", 1), data.get("stride", 1)


def read_model(path: Path, device: torch.device) -> LoadedModel:
    """Load a network for use. Raises InputError if the file is no checkpoint or does not fit together."""
    saved = checkpoint.load_any(path)
    if not isinstance(saved, checkpoint.Checkpoint):
        saved = describe_reference(saved, path)
    if saved.stage not in STAGES and ":" not in saved.stage:
        raise InputError(f"{path} is of stage {saved.stage}, this program knows {', '.join(STAGES)}: update it")
    # the checkpoint holds all weights: the pretrained backbone that the run began with may be gone
    config = dataclasses.replace(_restored(ModelConfig, saved.config.get("model"), path), pretrained=None)
    fits = 0 < saved.image_size <= _LARGEST
    if "lifting_net" in saved.weights and not is_own(saved.stage, config):
        fits = heatmap_size(saved.image_size) == heatmap_size(image_size_of(saved.weights["lifting_net"], path))
    if not fits:
        raise InputError(f"{path} was altered: its networks are not for image_size {saved.image_size}")
    preprocessing = _restored(Preprocessing, upgraded(saved.preprocessing), path) if saved.preprocessing else None
    head = _restored(HeadPosition, saved.head, path) if saved.head else None
    skeleton = _restored(Skeleton, saved.skeleton, path) if saved.skeleton else SKELETON
    stage = build_stage(saved.stage, config, saved.image_size, skeleton=skeleton)
    model = build_network(stage)
    if absent := stage.networks(model).keys() - saved.weights.keys():
        raise InputError(f"{path} is of {stage.name}, but holds no {' and no '.join(sorted(absent))}: it was altered")
    stage.load_weights(model, saved.weights, path)
    return LoadedModel(path, stage.to(device), moved(model.eval(), device), saved.config, preprocessing, head)


def _restored(kind: type[T], values: Any, path: Path) -> T:
    """Return an object as a checkpoint holds its fields. Raises InputError if it does not."""
    try:
        return from_plain(kind, values)
    except UnknownFieldError as error:
        raise InputError(f"{path} was written by a newer program, which knows {error}: update this one") from None
    except ValueError as error:
        raise InputError(f"{path} was altered: {error}") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def describe_reference(weights: checkpoint.Weights, path: Path) -> checkpoint.Checkpoint:
    """Return a reference checkpoint's weights as a checkpoint of ours.

    Stage, backbone and image size are read off the networks. Raises InputError if that fails.
    """
    image_size = REFERENCE_IMAGE_SIZE
    stage: StageName = "train2d"
    config = ModelConfig(quantized_targets=True, unseen_targets=True)
    if "lifting_net" in weights:
        stage = "finetune" if "heatmap_net" in weights else "train3d"
        image_size = image_size_of(weights["lifting_net"], path)
    if "heatmap_net" in weights:
        names = weights["heatmap_net"]
        blocks = {name.split(".")[1] for name in names if name.startswith("layer3.")}
        backbone = _BLOCKS.get(("conv3" if "layer1.0.conv3.weight" in names else "conv2", len(blocks)))
        if backbone is None:
            raise InputError(f"{path}: its heatmap network has none of the backbones {', '.join(_BLOCKS.values())}")
        config = dataclasses.replace(config, backbone=backbone)
    used = {"stage": stage, "model": dataclasses.asdict(config)}
    return checkpoint.Checkpoint(stage=stage, image_size=image_size, weights=weights, config=used)


def image_size_of(state: dict[str, torch.Tensor], path: Path) -> int:
    """Return the side of the images whose heatmaps a lifting network takes (pixels)."""
    shapes = [state[name].ndim if name in state else 0 for name in ("fc1.weight", "conv3.weight")]
    if shapes != [2, 4]:
        raise InputError(f"{path}: its lifting network has no conv3 and fc1: it is not the reference's")
    side: int = round((state["fc1.weight"].shape[1] / state["conv3.weight"].shape[0]) ** 0.5)
    if 8 * side == heatmap_size(REFERENCE_IMAGE_SIZE):
        return REFERENCE_IMAGE_SIZE
    # other sizes are ours alone; the largest image with such heatmaps stands for all
    return 64 * side
