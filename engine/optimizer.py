"""Optimizers, and the learning rate as a pure function of the epochs that have passed."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from loaders.errors import InputError
from loaders.ranges import POSITIVE, Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights are updated."""

    name: Literal["adam", "adamw", "sgd", "lamb"] = "adamw"
    """Optimizer; lamb is Apex's alone."""
    lr: float = 1e-3
    """Highest learning rate."""
    weight_decay: float = 0.0
    """Weight decay (per step, times the learning rate for adamw); norms and biases have none."""
    momentum: float = 0.9
    """Momentum of sgd (0 to 1)."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    """Course of the learning rate; cosine ends at zero."""
    step_epochs: float = 10.0
    """Interval of the step schedule (epochs)."""
    gamma: float = 0.1
    """Factor of each step (0 to 1)."""
    warmup_epochs: float = 0.0
    """Linear rise at the beginning (epochs)."""
    max_grad_norm: float | None = None
    """Largest norm of the gradient; None does not clip."""
    grad_accum_steps: int = 1
    """Parts that a process's batch is computed in, one after another; equal to the whole, with less memory."""
    apex: bool = False
    """Take NVIDIA Apex's fused optimizer."""
    ema: float | None = None
    """Decay of an exponential average of the weights, such as 0.999; the average is evaluated and kept. None: none."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "optim.",
            lr=POSITIVE,
            weight_decay=Range(0),
            momentum=Range(0, 1),
            step_epochs=POSITIVE,
            gamma=Range(0, 1),
            warmup_epochs=Range(0),
            max_grad_norm=POSITIVE,
            grad_accum_steps=Range(1),
            ema=Range(0, 1, inside=True),
        )
        if self.name == "lamb" and not self.apex:
            raise InputError("optim.name lamb is NVIDIA Apex's: add --optim.apex, or take adamw")

    def accum_sizes(self, samples: int) -> list[int]:
        """Return the sizes of the parts that a batch of ``samples`` is computed in; nearly equal, none empty."""
        parts = min(self.grad_accum_steps, samples)
        return [(samples + part) // parts for part in range(parts)]

    def lr_at(self, epochs: float, horizon: float) -> float:
        """Return the learning rate after ``epochs`` of a run of ``horizon`` epochs."""
        if epochs < self.warmup_epochs:
            # at a rate of exactly zero the first step would change nothing
            return self.lr * max(epochs / self.warmup_epochs, 1e-3)
        if self.schedule == "step":
            return self.lr * self.gamma ** math.floor(epochs / self.step_epochs)
        if self.schedule == "cosine":
            passed = (epochs - self.warmup_epochs) / max(horizon - self.warmup_epochs, 1e-9)
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(passed, 1.0)))
        return self.lr


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer of the model's trainable parameters."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.apex:
        return _apex_optimizer(config, groups)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    adam = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return adam(groups, lr=config.lr, fused=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load the state of the same optimizer; the options stay those that this one was built with."""
    groups = [
        # what is not an option is state: Apex counts its steps here
        {**saved, **{name: group[name] for name in optimizer.defaults}}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


class WeightAverage:
    """Exponential average of a model's weights and of its norms' statistics; what counts batches is copied.

    The floats are those of torch's AveragedModel, to the bit. That one, however, copies its count of steps to the
    device and waits for it at every step, and takes several calls for each integer; here the number of calls is fixed.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Begin with a copy of the model, whose tensors may only change in place from here on."""
        self.model = copy.deepcopy(model)
        """The network with averaged weights."""
        self.steps = 0
        """How many steps were averaged."""
        self._weight = 1 - decay
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        self._floats = _columns(pair for pair in pairs if pair[0].is_floating_point())
        self._integers = _columns(pair for pair in pairs if not pair[0].is_floating_point())

    @torch.no_grad()
    def follow(self) -> None:
        """Follow the model by one step; the first one copies it."""
        own, followed = self._floats
        if self.steps == 0:
            torch._foreach_copy_(own, followed)
        else:
            torch._foreach_lerp_(own, followed, self._weight)
        own, followed = self._integers
        if own:
            torch._foreach_copy_(own, followed)
        self.steps += 1


def build_average(config: OptimConfig, model: nn.Module) -> WeightAverage | None:
    """Return the average of the model's weights and buffers, if there is to be one."""
    return None if config.ema is None else WeightAverage(model, config.ema)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Yield weights and buffers in a fixed order."""
    yield from itertools.chain(model.parameters(), model.buffers())


def _columns(pairs: Iterable[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    rows = list(pairs)
    return [first for first, _ in rows], [second for _, second in rows]


def _apex_optimizer(config: OptimConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer
    try:
        from apex.optimizers import FusedAdam, FusedLAMB, FusedSGD  # noqa: PLC0415

        if config.name == "sgd":
            optimizer = FusedSGD(groups, lr=config.lr, momentum=config.momentum)
        elif config.name == "lamb":
            # by default it clips to 1, which optim.max_grad_norm decides here
            optimizer = FusedLAMB(groups, lr=config.lr, max_grad_norm=math.inf)
        else:
            optimizer = FusedAdam(groups, lr=config.lr, adam_w_mode=config.name == "adamw")
    except (ImportError, RuntimeError) as error:  # absent, or built without its kernels
        raise InputError(
            f"optim.apex needs NVIDIA Apex, built from its source with --cuda_ext ({error}; the package named apex in "
            "the registry is another one); without it leave optim.apex out, torch's fused optimizers serve as well"
        ) from None
    return optimizer
