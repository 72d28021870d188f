"""Stages by their names, the engine's and users' own."""

from __future__ import annotations

from typing import Final, Literal

from torch import nn

from engine.own_class import NAMED, find_class
from engine.stages.base import ModelConfig, Stage
from engine.stages.builtin import Finetune, Train2d, Train3d
from loaders.errors import InputError
from models.losses import LossWeights
from models.skeleton import Skeleton
from models.xr_egopose import SKELETON

StageName = Literal["train2d", "train3d", "finetune"]

STAGES: Final[dict[str, type[Stage]]] = {stage.name: stage for stage in (Train2d, Train3d, Finetune)}
"""The engine's own, by their names."""


def is_own(name: str, config: ModelConfig) -> bool:
    """Return whether a stage or its network is a user's own, of which nothing is known."""
    return name not in STAGES or config.network is not None


def find_stage(name: str) -> type[Stage]:
    """Return a stage by its name, one of `STAGES` or of a user's own. Raises InputError if there is none of it."""
    if name in STAGES:
        return STAGES[name]
    if ":" not in name:
        raise InputError(f"stage is {name}: give {', '.join(STAGES)}, or a class of your own as {NAMED}")
    found = find_class(name, Stage, ("outputs", "metric"))  # type: ignore[type-abstract]
    found.name = name
    return found


def build_stage(
    name: str,
    config: ModelConfig,
    image_size: int,
    weights: LossWeights | None = None,
    skeleton: Skeleton = SKELETON,
) -> Stage:
    """Return a stage by its name. Raises InputError if there is none of it, or if it is not made as `Stage` is."""
    kind = find_stage(name)
    try:
        return kind(config, image_size, weights, skeleton)
    except TypeError as error:
        if name in STAGES:
            raise
        raise InputError(f"{name} is not made as engine.stages.Stage is: {error}") from error


def build_network(stage: Stage) -> nn.Module:
    """Return a stage's network with new weights. Raises InputError if that is none."""
    model = stage.build_model()
    if not isinstance(model, nn.Module):
        raise InputError(f"{stage.name}: build_model returns a {type(model).__name__}, not a torch.nn.Module")
    return model
