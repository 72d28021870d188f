"""A network and all that changes it: loss, precision, optimizer. One step is one update of the weights."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from engine.checkpoint import format as checkpoint
from engine.config import TrainConfig
from engine.distributed import Process
from engine.optimizer import build_average, build_optimizer, load_optimizer
from engine.precision import Precision
from engine.stages import Prediction, Stage
from loaders import PoseBatch
from loaders.errors import InputError


class Objective(nn.Module):
    """A stage's network and its loss as one module, so that both are compiled together."""

    def __init__(self, stage: Stage, model: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.model = model

    def forward(self, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """Return what the network says about a batch, and the weighted terms whose sum is the loss."""
        return self.stage.learn(self.model, batch)


class Learner:
    """Trains a stage's network, step by step."""

    def __init__(self, config: TrainConfig, stage: Stage, process: Process) -> None:
        """Build the network and its optimizer. Raises InputError if weights to begin with do not fit."""
        _check_device(config, process.device)
        self.stage = stage
        self.model = _new_model(config, stage, process)
        """The network itself, on the device."""
        self.optimizer = build_optimizer(config.optim, self.model)
        self.precision = Precision.choose(config.precision, process.device)
        self.scaler = self.precision.scaler()
        self._config = config.optim
        self._device = process.device
        self._average = build_average(config.optim, self.model)
        self._objective = _wrap(Objective(stage, self.model), config, process)
        self._trainable = [p for p in self.model.parameters() if p.requires_grad]

    @property
    def judged(self) -> nn.Module:
        """The network to use: that of averaged weights, if they are averaged."""
        return self.model if self._average is None else self._average.module

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, batch: PoseBatch, *, measure: bool = False) -> dict[str, Tensor]:
        """Update the weights by one batch. Nothing here waits for the device.

        Args:
            batch: what to learn from.
            measure: measure the norm of the gradient, which takes a pass over all weights.

        Returns:
            "loss", its terms as "loss/NAME", and "gradient_norm" if measured: before clipping, and no finite number
            where fp16 overflowed, which skips the update.
        """
        found: dict[str, Tensor] = {}
        parts = batch.split(self._config.accum_sizes(len(batch)))
        for i, part in enumerate(parts):
            # gradients are exchanged once, after the last part
            with self._without_exchange(i + 1 < len(parts)):
                with record_function("forward"), self.precision.autocast():
                    _, terms = self._objective(part)
                terms = {name: term * (len(part) / len(batch)) for name, term in terms.items()}
                loss = torch.stack(list(terms.values())).sum()
                with record_function("backward"):
                    self.scaler.scale(loss).backward()
            for name, value in {"loss": loss, **{f"loss/{name}": term for name, term in terms.items()}}.items():
                found[name] = found[name] + value.detach() if i else value.detach()
        with record_function("optimizer"):
            norm = self._update(measure)
        return found if norm is None else found | {"gradient_norm": norm}

    @property
    def weights(self) -> checkpoint.Weights:
        """The weights to use, network by network."""
        return self._networks(self.judged)

    def resume_state(self) -> dict[str, Any]:
        """Return the learner's fields of a `ResumeState`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "training_weights": None if self._average is None else self._networks(self.model),
            "averaged_steps": None if self._average is None else self._average.n_averaged,
        }

    def resume(self, weights: checkpoint.Weights, state: checkpoint.ResumeState, source: Path) -> None:
        """Go on from a checkpoint's weights and state. Raises InputError if they do not fit."""
        averaged = state.training_weights is not None
        if averaged != (self._average is not None):
            raise InputError(f"{source} was trained {'with' if averaged else 'without'} optim.ema: keep it")
        self.stage.load_weights(self.judged, weights, source)
        if self._average is not None:
            assert state.training_weights is not None and state.averaged_steps is not None
            self.stage.load_weights(self.model, state.training_weights, source)
            self._average.n_averaged.copy_(state.averaged_steps)
        load_optimizer(self.optimizer, state.optimizer)
        if state.scaler:  # else it was trained in another precision, whose scaler has no state
            self.scaler.load_state_dict(state.scaler)

    def is_finite(self) -> bool:
        """Return whether weights, buffers and what the optimizer remembers are finite. Waits for the device."""
        states = [self.model.state_dict(), self.judged.state_dict(), *self.optimizer.state.values()]
        tensors = [v.to(self._device) for state in states for v in state.values() if isinstance(v, Tensor)]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def _networks(self, model: nn.Module) -> checkpoint.Weights:
        return {name: network.state_dict() for name, network in self.stage.networks(model).items()}

    def _update(self, measure: bool) -> Tensor | None:
        """Return the norm of the gradient if it had to be found."""
        norm = None
        if measure or self._config.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in self._trainable if p.grad is not None])
        if norm is not None and self._config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._trainable, self._config.max_grad_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return norm

    def _without_exchange(self, unfinished: bool) -> contextlib.AbstractContextManager[None]:
        if unfinished and isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()
        return contextlib.nullcontext()


def _check_device(config: TrainConfig, device: torch.device) -> None:
    gpu_only = {"optim.apex": config.optim.apex, "distributed.sync_batchnorm": config.distributed.sync_batchnorm}
    for name, wanted in gpu_only.items():
        if wanted and device.type != "cuda":
            raise InputError(f"{name} works on GPUs only: leave it out on a CPU")


def _new_model(config: TrainConfig, stage: Stage, process: Process) -> nn.Module:
    model = stage.build_model()
    for network, path in (("heatmap_net", config.load_2d), ("lifting_net", config.load_3d)):
        if path is not None:
            stage.load_weights(model, {network: checkpoint.load_network(path, network)}, path)
    if config.distributed.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(process.device).to(memory_format=torch.channels_last)


def _wrap(objective: Objective, config: TrainConfig, process: Process) -> nn.Module:
    wrapped: nn.Module = objective
    if config.compile != "off":
        # the key of its cache leaves this out, and code for one instruction set crashes a program limited to another
        torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
        wrapped = torch.compile(objective, mode=config.compile)  # type: ignore[assignment]
    return process.parallel(wrapped, config.distributed)
