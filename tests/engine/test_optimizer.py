import math

import pytest
import torch
from torch import nn

from engine.optimizer import OptimConfig, build_optimizer
from loaders import InputError


def test_steps_fall_every_so_many_epochs():
    config = OptimConfig(lr=1.0, schedule="step", step_epochs=10, step_factor=0.1)
    assert [config.lr_at(e, 30) for e in (0, 9.99, 10, 19.5, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_rises_then_falls_to_zero():
    config = OptimConfig(lr=2.0, schedule="cosine", warmup_epochs=1)
    assert config.lr_at(0.5, 11) == pytest.approx(1.0)
    assert config.lr_at(1, 11) == pytest.approx(2.0)
    assert config.lr_at(6, 11) == pytest.approx(1.0)
    assert config.lr_at(3.5, 11) == pytest.approx(1 + math.cos(math.pi / 4))
    assert config.lr_at(11, 11) == pytest.approx(0)


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    optimizer = build_optimizer(OptimConfig(weight_decay=0.1), model)
    decaying = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decaying == {id(model[0].weight), id(model[2].weight)}


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_every_kind_descends(kind):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x, y = torch.randn(64, 3), torch.randn(64, 1)
    optimizer = build_optimizer(OptimConfig(kind=kind, lr=0.05), model)
    losses = []
    for _ in range(50):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_apex_says_how_to_get_it():
    with pytest.raises(InputError, match="built from its source"):
        build_optimizer(OptimConfig(apex=True), nn.Linear(1, 1))
