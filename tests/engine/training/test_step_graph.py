"""A recorded step trains as the step it was recorded of; on a GPU alone."""

import numpy as np
import pytest
import torch

from engine.distributed import DistributedConfig, Process
from engine.optimizer import OptimConfig
from engine.stages import STAGES, ModelConfig
from engine.training.learner import Learner
from loaders import PoseBatch
from models.camera import IN_IMAGE
from models.xr_egopose import CAMERA, NECK
from tests.shard_factory import random_pose

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

SIDE, BATCH, STEPS = 64, 8, 8


def batches():
    random, camera, device = np.random.default_rng(0), CAMERA.cropped("square", SIDE), torch.device("cuda", 0)
    for number in range(STEPS):
        poses = [random_pose(camera, random) for _ in range(BATCH)]
        joints_2d, joints_3d = (np.stack(part).astype(np.float32) for part in zip(*poses, strict=True))
        image = torch.from_numpy(random.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)).permute(0, 3, 1, 2)
        yield PoseBatch(
            joints_2d=torch.from_numpy(joints_2d).to(device),
            joints_3d=torch.from_numpy(joints_3d - joints_3d[:, NECK : NECK + 1]).to(device),
            visible=torch.full((BATCH, 16), IN_IMAGE, dtype=torch.uint8, device=device),
            meta=torch.zeros(BATCH, 4, dtype=torch.int32, device=device),
            index=torch.arange(BATCH, device=device) + number * BATCH,
            image=image.to(device),
        )


def train(stage, precision, *, graph, max_grad_norm=None):
    """Return the losses of each step, and the weights in the end."""
    torch.manual_seed(0)
    process = Process(0, 1, torch.device("cuda", 0))
    learner = Learner(
        STAGES[stage](ModelConfig(backbone="resnet18"), SIDE),
        process,
        optim=OptimConfig(lr=1e-4, max_grad_norm=max_grad_norm, ema=0.9),
        distributed=DistributedConfig(),
        precision=precision,
        cuda_graph=graph,
    )
    losses = [learner.step(batch, with_gradient_norm=True) for batch in batches()]
    found = [{name: value.item() for name, value in step.items()} for step in losses]
    return found, {name: value.clone() for name, value in learner.model.state_dict().items()}


@pytest.mark.parametrize("stage", ["train2d", "train3d", "finetune"])
@pytest.mark.parametrize(("precision", "max_grad_norm"), [("fp32", None), ("bf16", None), ("fp16", 1.0)])
def test_losses_and_weights_are_those_of_eager_steps(stage, precision, max_grad_norm):
    (eager, weights), (graph, recorded) = (
        train(stage, precision, graph=graph, max_grad_norm=max_grad_norm) for graph in (False, True)
    )
    assert [list(step) for step in graph] == [list(step) for step in eager]
    for a, b in zip(eager, graph, strict=True):
        # kernels may sum in another order each time
        assert b["loss"] == pytest.approx(a["loss"], rel=2e-2)
    assert len({step["loss"] for step in graph}) == STEPS  # each from its own batch, kept apart from the next
    for name, weight in weights.items():
        if weight.is_floating_point():
            torch.testing.assert_close(recorded[name], weight, rtol=0.05, atol=2e-3)
        else:
            assert torch.equal(recorded[name], weight), name
