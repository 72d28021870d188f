import math

import pytest
import torch

from models.losses import LossWeights, PoseLoss, heatmap_loss, reconstruction_loss
from models.xr_egopose import SKELETON

UNWEIGHTED = PoseLoss(LossWeights(pose=1, cosine=1, bone=1), SKELETON)


@pytest.fixture
def poses():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 16, 3, generator=generator), torch.randn(3, 16, 3, generator=generator)


def test_by_hand():
    true = torch.zeros(1, 16, 3)
    true[0, 1] = torch.tensor([0.0, 0.0, 0.2])
    predicted = true.clone()
    predicted[0, 1] = torch.tensor([0.0, 0.3, 0.0])
    terms = UNWEIGHTED(predicted, true)
    # one of 16 joints is off by sqrt(.3^2 + .2^2)
    assert float(terms["pose"]) == pytest.approx(math.hypot(0.3, 0.2) / 16)
    # one bone (0 > 1) is 0.3 instead of 0.2 long, at a right angle; the others have no length
    assert float(terms["bone"]) == pytest.approx(math.hypot(0.3, 0.2))
    assert float(terms["cosine"]) == pytest.approx(0)
    assert float(UNWEIGHTED(true, true)["cosine"]) == pytest.approx(-1)


def test_by_loops(poses):
    predicted, true = poses
    distance = cosine = length = 0.0
    for p, t in zip(predicted.tolist(), true.tolist(), strict=True):
        distance += sum(math.dist(p[j], t[j]) for j in range(16)) / 16
        for a, b in SKELETON.bones:
            bone_p = [p[b][k] - p[a][k] for k in range(3)]
            bone_t = [t[b][k] - t[a][k] for k in range(3)]
            norm_p, norm_t = math.hypot(*bone_p), math.hypot(*bone_t)
            cosine += sum(x * y for x, y in zip(bone_p, bone_t, strict=True)) / (norm_p * norm_t)
            length += math.dist(bone_p, bone_t)
    terms = UNWEIGHTED(predicted, true)
    assert float(terms["pose"]) == pytest.approx(distance / 3, rel=1e-5)
    assert float(terms["cosine"]) == pytest.approx(-cosine / 3, rel=1e-5)
    assert float(terms["bone"]) == pytest.approx(length / 3, rel=1e-5)
    terms = PoseLoss(LossWeights(), SKELETON)(predicted, true)
    expected = 0.1 * distance / 3 - 0.01 * cosine / 3 + 0.5 * length / 3
    assert float(sum(terms.values())) == pytest.approx(expected, rel=1e-5)


def test_heatmap_losses_by_hand():
    true = torch.zeros(2, 15, 4, 4)
    predicted = true.clone()
    predicted[0, 0, 0, 0] = 2
    predicted[1, 3, 2, 1] = 1
    assert float(heatmap_loss(predicted, true)) == pytest.approx(5 / (2 * 15 * 16))
    assert float(reconstruction_loss(predicted, true)) == pytest.approx(5 / 2)


def test_the_losses_are_in_full_precision_under_bf16(poses):
    predicted, true = poses
    with torch.autocast("cpu", torch.bfloat16):
        assert all(term.dtype == torch.float32 for term in UNWEIGHTED(predicted.bfloat16(), true).values())


def test_constants_are_buffers_that_no_checkpoint_holds():
    loss = PoseLoss(LossWeights(), SKELETON)
    assert not loss.state_dict()
    assert {buffer.device.type for buffer in loss.to("meta").buffers()} == {"meta"}
