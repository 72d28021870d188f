"""What differs between train2d, train3d, finetune and stages of users' own: network, inputs, loss, metric."""

from engine.stages.base import ModelConfig, Stage
from engine.stages.builtin import Finetune, Train2d, Train3d
from engine.stages.finding import STAGES, StageName, build_network, build_stage, find_stage, is_own
from engine.stages.prediction import Prediction

__all__ = [
    "STAGES",
    "Finetune",
    "ModelConfig",
    "Prediction",
    "Stage",
    "StageName",
    "Train2d",
    "Train3d",
    "build_network",
    "build_stage",
    "find_stage",
    "is_own",
]
