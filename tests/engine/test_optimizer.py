import math
import sys
from functools import partialmethod
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from engine.optimizer import OptimConfig, WeightAverage, build_optimizer, load_optimizer
from engine.training import learner
from loaders import InputError
from tests.engine.training_runs import flags, run
from tests.shard_factory import make_shard_set


def test_steps_fall_every_so_many_epochs():
    config = OptimConfig(lr=1.0, schedule="step", step_epochs=10, gamma=0.1)
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


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_every_optimizer_descends(name):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    x, y = torch.randn(64, 3), torch.randn(64, 1)
    optimizer = build_optimizer(OptimConfig(name=name, lr=0.05), model)
    losses = []
    for _ in range(50):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def stepped(config, state=None):
    """Return an optimizer after a step, beginning with ``state``, and its weights."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(config, model)
    if state is not None:
        load_optimizer(optimizer, state)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return optimizer, model.weight.detach()


@pytest.mark.parametrize(
    ("saved", "present"),
    [
        ({"name": "adamw", "weight_decay": 0.1}, {"name": "adamw", "weight_decay": 0.5}),
        ({"name": "adam", "weight_decay": 0.1}, {"name": "adamw", "weight_decay": 0.1}),
        ({"name": "sgd", "momentum": 0.9}, {"name": "sgd", "momentum": 0.2, "weight_decay": 0.3}),
        ({"name": "sgd", "momentum": 0.0}, {"name": "sgd", "momentum": 0.9}),
    ],
)
def test_a_loaded_state_keeps_the_present_options(saved, present):
    state = stepped(OptimConfig(**saved))[0].state_dict()
    fresh = build_optimizer(OptimConfig(**present), nn.Linear(3, 2))
    optimizer, _ = stepped(OptimConfig(**present), state)
    assert optimizer.state_dict()["param_groups"] == fresh.state_dict()["param_groups"]
    if saved["name"] != "sgd":
        assert {float(value["step"]) for value in optimizer.state.values()} == {2}
    elif saved["momentum"]:  # the second gradient is the first one, ones, beside the decay of the weights
        _, before = stepped(OptimConfig(name="sgd", lr=1e-9))
        expected = 0.2 * 1 + 1 + 0.3 * before
        torch.testing.assert_close(next(iter(optimizer.state.values()))["momentum_buffer"], expected)


def test_what_apex_counts_in_its_options_is_state():
    state = stepped(OptimConfig(name="adam"))[0].state_dict()
    for group in state["param_groups"]:
        group["step"] = 7
    optimizer, _ = stepped(OptimConfig(name="adam"), state)
    assert [group["step"] for group in optimizer.param_groups] == [7, 7]


def layers(number):
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)) for _ in range(number)))


def test_averaged_weights_are_torchs():
    torch.manual_seed(0)
    model = layers(3)
    ours = WeightAverage(model, 0.9)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        for tensor in model.state_dict().values():
            tensor.add_(torch.randn(tensor.shape) if tensor.is_floating_point() else 1)
        ours.follow()
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    for name, tensor in ours.model.state_dict().items():
        counted = name.endswith("num_batches_tracked")
        assert torch.equal(tensor, torch.tensor(4) if counted else expected[name])


@pytest.mark.parametrize("number", [1, 50])
def test_averaging_takes_two_calls_and_reads_nothing_back(number):
    model = layers(number).to("meta")  # reading a value there is an error
    average = WeightAverage(model, 0.9)
    average.follow()
    calls = []

    class Operators(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            calls.append(func.name())
            return func(*args, **(kwargs or {}))

    with Operators():
        average.follow()
    assert calls == ["aten::_foreach_lerp_.Scalar", "aten::_foreach_copy_"]


class ApexAdam(torch.optim.Adam):
    """Takes what Apex's optimizers take: Apex itself needs a GPU. Its `zero_grad` has no arguments."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, kernels=True, **more):
        if not kernels:
            raise RuntimeError("requires cuda extensions")
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        self.more = more

    def zero_grad(self):
        super().zero_grad()


def install_apex(monkeypatch, **more):
    names = ("FusedAdam", "FusedLAMB", "FusedSGD")
    optimizers = {
        name: type(name, (ApexAdam,), {"__init__": partialmethod(ApexAdam.__init__, **more)}) for name in names
    }
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", SimpleNamespace(**optimizers))


@pytest.mark.parametrize(
    ("name", "fused", "more"),
    [
        ("adam", "FusedAdam", {"adam_w_mode": False}),
        ("adamw", "FusedAdam", {"adam_w_mode": True}),
        ("sgd", "FusedSGD", {"momentum": 0.7}),
        ("lamb", "FusedLAMB", {"max_grad_norm": math.inf}),
    ],
)
def test_apex_is_told_what_torch_would_be(monkeypatch, name, fused, more):
    install_apex(monkeypatch)
    model = nn.Linear(2, 3)
    config = OptimConfig(name=name, apex=True, lr=0.5, weight_decay=0.1, momentum=0.7)
    optimizer = build_optimizer(config, model)
    assert type(optimizer).__name__ == fused
    assert optimizer.more == more
    found = [(group["params"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [([model.weight], 0.5, 0.1), ([model.bias], 0.5, 0.0)]


def test_apex_takes_training_steps(monkeypatch, tmp_path):
    install_apex(monkeypatch)
    monkeypatch.setattr(learner, "_check_device", lambda *_: None)
    shards = make_shard_set(tmp_path / "shards", {"train": 8, "val": 2})
    more = ("--optim.apex", "--optim.name", "lamb", "--epochs", "2")
    assert run(monkeypatch, *flags(shards, tmp_path / "run", "train3d", *more)) == 0


def test_apex_without_its_kernels_is_as_good_as_none(monkeypatch):
    install_apex(monkeypatch, kernels=False)
    with pytest.raises(InputError, match="requires cuda extensions"):
        build_optimizer(OptimConfig(apex=True), nn.Linear(1, 1))


def test_apex_says_how_to_get_it():
    with pytest.raises(InputError, match="built from its source"):
        build_optimizer(OptimConfig(apex=True), nn.Linear(1, 1))
