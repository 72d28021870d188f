"""What a stage makes of its configuration."""

import dataclasses

import pytest
import torch

from engine.distributed import Process
from engine.precision import Precision
from engine.stages import STAGES, ModelConfig, Prediction
from engine.training.validation import validate
from loaders import InputError, PoseBatch
from models.camera import IN_IMAGE, IN_LENS, UNSEEN
from models.heatmaps import HeatmapEncoder
from models.xr_egopose import HEAD, JOINTS, SKELETON

CPU = torch.device("cpu")


def make_batch(visible):
    n = len(visible)
    random = torch.Generator().manual_seed(n)
    return PoseBatch(
        joints_2d=20 + 24 * torch.rand(n, len(JOINTS), 2, generator=random),
        joints_3d=torch.rand(n, len(JOINTS), 3, generator=random),
        visible=visible,
        meta=torch.zeros(n, 4, dtype=torch.int32),
        index=torch.arange(n),
        image=torch.zeros(n, 3, 64, 64, dtype=torch.uint8),
    )


class Shifted(torch.nn.Module):
    """Answers with the heatmaps of the batches' joints, each so many pixels to the right, in the order of batches."""

    def __init__(self, batches, pixels):
        super().__init__()
        self.joints = [batch.joints_2d[:, list(SKELETON.heatmap_joints)].clone() for batch in batches]
        for joints, shift in zip(self.joints, pixels, strict=True):
            joints[..., 0] += shift

    def forward(self, image):
        assert len(image) == len(self.joints[0])
        return HeatmapEncoder(64, 8)(self.joints.pop(0))


def test_pretrained_weights_that_nobody_has_are_named():
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18", pretrained="IMAGENET2K"), 64)
    with pytest.raises(InputError, match="'IMAGENET2K': neither a file nor torchvision weights of resnet18"):
        stage.build_model()


def test_a_network_that_a_stage_does_not_train_is_named(tmp_path):
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18"), 64)
    with pytest.raises(InputError, match=r"best\.pt holds a lifting_net, which train2d does not train"):
        stage.load_weights(stage.build_model(), {"lifting_net": {}}, tmp_path / "best.pt")


def test_the_2d_error_is_the_mean_over_frames_of_joints_in_the_image_and_says_what_it_leaves_out():
    few = torch.full((1, len(JOINTS)), UNSEEN, dtype=torch.uint8)
    few[0, 2] = IN_IMAGE
    few[0, 3] = IN_LENS
    many = torch.full((3, len(JOINTS)), IN_IMAGE, dtype=torch.uint8)
    many[:, 5] = IN_LENS
    many[1, HEAD] = UNSEEN  # has no heatmap
    batches = [make_batch(few), make_batch(many)]
    # the joints that do not count are where the network does not see them
    for batch in batches:
        batch.joints_2d[batch.visible != IN_IMAGE] += 1000
    model = Shifted(batches, [3.0, 1.0])
    stage = STAGES["train2d"](ModelConfig(backbone="resnet18"), 64)
    result = validate(stage, model, batches, Process(0, 1, CPU), Precision.choose("fp32", CPU))
    # as `evaluate` has it: a frame's joints first, then the frames
    assert result.metrics["error_px"] == pytest.approx((3.0 + 3 * 1.0) / 4, abs=0.02)
    assert result.metrics["joints_outside_image"] == 1 + 3
    assert result.metrics["joints_unseen"] == 13
    assert result.frames == 4
    nothing = [dataclasses.replace(batches[0], visible=torch.zeros_like(few))]
    with pytest.raises(InputError, match="no joint of the validation split is in its image"):
        validate(stage, Shifted(nothing, [0.0]), nothing, Process(0, 1, CPU), Precision.choose("fp32", CPU))


@pytest.mark.parametrize("stage", STAGES)
def test_targets_of_unseen_joints_are_empty_unless_they_are_asked_for(stage):
    visible = torch.full((2, len(JOINTS)), IN_LENS, dtype=torch.uint8)
    visible[:, [1, 4]] = UNSEEN
    batch = make_batch(visible)
    empty, drawn = (STAGES[stage](ModelConfig(unseen_targets=flag), 64).targets(batch) for flag in (False, True))
    assert (drawn.amax((2, 3)) > 0.5).all()
    assert torch.equal(empty[:, 3], torch.zeros_like(empty[:, 3]))  # joint 4: Head has no heatmap
    assert torch.equal(empty[:, [0, 1, 2, *range(4, 15)]], drawn[:, [0, 1, 2, *range(4, 15)]])


def test_3d_terms_keep_all_joints():
    stage = STAGES["train3d"](ModelConfig(), 64)
    batch = make_batch(torch.zeros(2, len(JOINTS), dtype=torch.uint8))
    prediction = Prediction(joints_3d=batch.joints_3d + torch.tensor([0.0, 0.003, 0.004]))
    errors = stage.errors(prediction, batch)["mpjpe_mm"]
    assert float(errors.sum / errors.frames) == pytest.approx(5, rel=1e-4)
    assert not stage.left_out(prediction, batch)


@pytest.mark.parametrize("stage", ["train3d", "finetune"])
@pytest.mark.parametrize(("size", "fitting"), [(96, 97), (130, 161), (200, 225)])
def test_an_image_size_without_a_lifting_network_is_one_line(stage, size, fitting):
    message = rf"data.image_size is {size}, .* {stage} wants a multiple of 8: give {fitting}, or any multiple of 64"
    with pytest.raises(InputError, match=message):
        STAGES[stage](ModelConfig(backbone="resnet18"), size).build_model()
    STAGES["train3d"](ModelConfig(), fitting).build_model()
