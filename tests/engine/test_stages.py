"""What a stage makes of its configuration."""

import pytest

from engine.stages import STAGES, ModelConfig
from loaders import InputError


def test_pretrained_weights_that_nobody_has_are_named():
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18", pretrained="IMAGENET2K"), 64)
    with pytest.raises(InputError, match="'IMAGENET2K': neither a file nor torchvision weights of resnet18"):
        stage.build_model()


def test_a_network_that_a_stage_does_not_train_is_named(tmp_path):
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18"), 64)
    with pytest.raises(InputError, match=r"best\.pt holds a lifting_net, which train2d does not train"):
        stage.load_weights(stage.build_model(), {"lifting_net": {}}, tmp_path / "best.pt")
