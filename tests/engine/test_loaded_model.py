import pytest
import torch

from engine.loaded_model import read_model
from loaders import InputError
from tests.checkpoint_factory import make_checkpoint


@pytest.mark.parametrize("stage", ["train2d", "train3d", "finetune"])
def test_model_and_stage_are_on_the_device(tmp_path, stage):
    loaded = read_model(make_checkpoint(tmp_path / "best.pt", stage), torch.device("meta"))
    assert not loaded.model.training
    tensors = (*loaded.model.state_dict().values(), *loaded.stage.buffers())
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("image_size", [0, -64, 10**9])
@pytest.mark.parametrize("stage", ["train2d", "train3d"])
def test_an_altered_image_size_is_refused(tmp_path, stage, image_size):
    path = make_checkpoint(tmp_path / "best.pt", stage)
    torch.save({**torch.load(path, weights_only=True), "image_size": image_size}, path)
    with pytest.raises(InputError, match=f"not for image_size {image_size}"):
        read_model(path, torch.device("cpu"))
