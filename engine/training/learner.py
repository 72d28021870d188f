"""A network and what updates its weights: loss, precision, gradient accumulation, optimizer, average."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.profiler import record_function

from engine.checkpoint import format as checkpoint
from engine.config import CompileMode
from engine.device import moved
from engine.distributed import DistributedConfig, Process
from engine.optimizer import OptimConfig, build_average, build_optimizer, load_optimizer
from engine.precision import Precision, PrecisionName
from engine.stages import Prediction, Stage, build_network
from engine.training.compilation import GRAPH_MODES, compiled
from engine.training.step_graph import StepGraph
from loaders import PoseBatch
from loaders.errors import InputError


class Objective(nn.Module):
    """A stage's network and its loss as one module, so that both are compiled together."""

    def __init__(self, stage: Stage, model: nn.Module) -> None:
        super().__init__()
        self.stage = stage
        self.model = model

    def forward(self, batch: PoseBatch) -> tuple[Prediction, dict[str, Tensor]]:
        """Return the network's prediction for a batch, and the weighted terms whose sum is the loss."""
        return self.stage.run(self.model, batch)


class Learner:
    """Trains a stage's network, step by step."""

    def __init__(
        self,
        stage: Stage,
        process: Process,
        *,
        optim: OptimConfig,
        distributed: DistributedConfig,
        precision: PrecisionName = "auto",
        compile_mode: CompileMode = "off",
        cuda_graph: bool = False,
        initial_weights: Sequence[tuple[Path, checkpoint.Weights]] = (),
    ) -> None:
        """Build the network and its optimizer; move the stage to the device.

        Args:
            stage: what to train.
            process: this process; its device is where to train.
            optim: how weights are updated.
            distributed: how processes work together.
            precision: type of matrix products.
            compile_mode: as `choose_mode` returns it.
            cuda_graph: record forward and backward pass; as `choose_graph` returns it.
            initial_weights: what the network begins with, and where it comes from; the last of several counts.

        Raises:
            InputError: the device cannot do what is asked for, or initial weights do not fit.
        """
        _check_device(optim, distributed, process.device)
        model = build_network(stage)
        for path, weights in initial_weights:
            stage.load_weights(model, weights, path)
        if distributed.sync_batchnorm:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.stage = stage.to(process.device)
        self.model: nn.Module = moved(model, process.device)
        """The network itself, on the device."""
        self.optimizer = build_optimizer(optim, self.model)
        self.precision = Precision.choose(precision, process.device)
        self.scaler = self.precision.scaler()
        self._config = optim
        self._device = process.device
        self._average = build_average(optim, self.model)
        self._objective = process.parallel(compiled(Objective(stage, self.model), compile_mode, process), distributed)
        self._records_graphs = compile_mode in GRAPH_MODES
        self._terms: tuple[str, ...] = ()
        """Names of the loss's terms."""
        self._graph = StepGraph(self._differentiate) if cuda_graph else None
        self._trainable = [p for p in self.model.parameters() if p.requires_grad]

    @property
    def eval_model(self) -> nn.Module:
        """The network to evaluate and to keep: that of averaged weights, if they are averaged."""
        return self.model if self._average is None else self._average.model

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @lr.setter
    def lr(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, batch: PoseBatch, *, with_gradient_norm: bool = False) -> dict[str, Tensor]:
        """Update the weights by one batch. Nothing here waits for the device, but a graph for its replay before last.

        Args:
            batch: what to learn from.
            with_gradient_norm: compute the norm of the gradient also if it is not clipped: a pass over all weights.

        Returns:
            "loss", its terms as "loss/NAME", and "gradient_norm" if computed: before clipping, and no finite number
            where fp16 overflowed, which skips the update.
        """
        if self._records_graphs:  # nothing of the step before is read any more: its memory is free
            torch.compiler.cudagraph_mark_step_begin()
        if self._graph is None:
            values = self._differentiate(batch)
        else:
            values = self._graph(batch)
        losses = dict(zip(("loss", *(f"loss/{name}" for name in self._terms)), values.unbind(), strict=True))
        with record_function("optimizer"):
            norm = self._update(with_gradient_norm)
        return losses if norm is None else losses | {"gradient_norm": norm}

    def _differentiate(self, batch: PoseBatch) -> Tensor:
        """Make the gradients of a batch; return the loss and its terms in one tensor."""
        parts = batch.split(self._config.accum_sizes(len(batch)))
        sums: list[Tensor] = []
        for i, part in enumerate(parts):
            # processes exchange gradients once, after the last part
            with self._no_sync() if i + 1 < len(parts) else contextlib.nullcontext():
                with record_function("forward"), self.precision.autocast():
                    _, terms = self._objective(part)
                # also copies of what the next replay of a CUDA graph overwrites
                values = torch.stack(list(terms.values())) * (len(part) / len(batch))
                loss = values.sum()
                with record_function("backward"):
                    self.scaler.scale(loss).backward()
            sums.append(torch.cat([loss[None], values]).detach())
            self._terms = tuple(terms)
        return torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]

    @property
    def weights(self) -> checkpoint.Weights:
        """The weights to use, network by network."""
        return self._networks(self.eval_model)

    def resume_state(self) -> dict[str, Any]:
        """Return the learner's fields of a `ResumeState`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "training_weights": None if self._average is None else self._networks(self.model),
            "averaged_steps": None if self._average is None else torch.tensor(self._average.steps),
        }

    def resume(self, weights: checkpoint.Weights, state: checkpoint.ResumeState, source: Path) -> None:
        """Go on from a checkpoint's weights and state. Raises InputError if they do not fit."""
        averaged = state.training_weights is not None
        if averaged != (self._average is not None):
            raise InputError(f"{source} was trained {'with' if averaged else 'without'} optim.ema: keep it")
        self.stage.load_weights(self.eval_model, weights, source)
        if self._average is not None:
            assert state.training_weights is not None and state.averaged_steps is not None
            self.stage.load_weights(self.model, state.training_weights, source)
            self._average.steps = int(state.averaged_steps)
        load_optimizer(self.optimizer, state.optimizer)
        if state.scaler:  # else it was trained in another precision, whose scaler has no state
            self.scaler.load_state_dict(state.scaler)

    @property
    def exchange_time(self) -> float:
        """How long a step exchanges gradients, or waits for slower processes, with nothing to compute (seconds).

        The mean over the steps that DistributedDataParallel times: the first ten, and every hundredth.
        """
        if not isinstance(self._objective, DistributedDataParallel):
            return 0.0
        timed = self._objective._get_ddp_logging_data()
        names = "avg_backward_comm_time", "avg_backward_compute_comm_overlap_time"
        exchange, hidden = (float(timed.get(name, 0)) / 1e9 for name in names)
        return max(0.0, exchange - hidden)

    def is_finite(self) -> bool:
        """Return whether weights, buffers and the state of the optimizer are finite. Waits for the device."""
        states = [self.model.state_dict(), self.eval_model.state_dict(), *self.optimizer.state.values()]
        tensors = [v.to(self._device) for state in states for v in state.values() if isinstance(v, Tensor)]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def _networks(self, model: nn.Module) -> checkpoint.Weights:
        return {name: network.state_dict() for name, network in self.stage.networks(model).items()}

    def _update(self, with_gradient_norm: bool) -> Tensor | None:
        """Return the norm of the gradient if it had to be computed."""
        norm = None
        if with_gradient_norm or self._config.max_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.get_total_norm([p.grad for p in self._trainable if p.grad is not None])
        if norm is not None and self._config.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(self._trainable, self._config.max_grad_norm, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self._graph is None or not self._graph.recorded:
            self.optimizer.zero_grad()
        if self._average is not None:
            self._average.follow()
        return norm

    def _no_sync(self) -> contextlib.AbstractContextManager[None]:
        if isinstance(self._objective, DistributedDataParallel):
            return self._objective.no_sync()
        return contextlib.nullcontext()


def _check_device(optim: OptimConfig, distributed: DistributedConfig, device: torch.device) -> None:
    gpu_only = {"optim.apex": optim.apex, "distributed.sync_batchnorm": distributed.sync_batchnorm}
    for name, wanted in gpu_only.items():
        if wanted and device.type != "cuda":
            raise InputError(f"{name} works on GPUs only: leave it out on a CPU")
