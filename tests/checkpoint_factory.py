"""Checkpoints of networks that nobody trained, but whose predictions depend on the image."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine.checkpoint import format as checkpoint
from engine.config import to_plain
from engine.stages import STAGES, ModelConfig


def checkpoint_of(config: dict[str, Any] | None = None, **more: Any) -> checkpoint.Checkpoint:
    """Return a checkpoint without networks."""
    return checkpoint.Checkpoint(
        **{"stage": "train2d", "image_size": 64, "config": config or {}, "weights": {}, **more}
    )


def make_resume_state(**changes: Any) -> checkpoint.ResumeState:
    """Return what a run leaves that has not begun."""
    state = checkpoint.ResumeState(
        best=math.inf,
        validations=[],
        validated_at=None,
        optimizer={},
        scaler={},
        training_weights=None,
        averaged_steps=None,
        loader={},
        random={},
        running_means={},
        log_position=0,
    )
    return dataclasses.replace(state, **changes)


def make_checkpoint(path: Path, stage: str = "finetune", *, image_size: int = 64, seed: int = 0, **more: Any) -> Path:
    """Write what a training run with a ResNet-18 leaves, as far as others than the trainer read it.

    Args:
        path: of the file.
        stage: what trained it.
        image_size: side of its images (pixels).
        seed: of its weights.
        more: fields of `Checkpoint`.
    """
    torch.manual_seed(seed)
    config = ModelConfig(backbone="resnet18", pretrained="a file that is gone")
    built = STAGES[stage](ModelConfig(backbone="resnet18"), image_size)
    model = built.build_model()
    # new networks say next to nothing about an image: their last layers begin at almost zero
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2 / module.in_features**0.5)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight)
    checkpoint.save(
        path,
        checkpoint.Checkpoint(
            stage=stage,
            image_size=image_size,
            weights={name: net.state_dict() for name, net in built.networks(model).items()},
            config={"stage": stage, "model": to_plain(config), "optim": {"lr": 0.001}},
            **more,
        ),
    )
    return path
