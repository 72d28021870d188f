"""The training loop: one for all stages."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from typing import Any

import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from engine import checkpoint
from engine.command import Failure
from engine.config import TrainConfig, to_plain
from engine.distributed import Process, StopRequest
from engine.drawing import overlay_grid
from engine.optimizer import build_optimizer
from engine.precision import Precision
from engine.run_log import RunLog
from engine.running_means import RunningMeans
from engine.stages import STAGES
from engine.throughput import Stopwatch
from engine.validation import Validation, validate
from loaders import DataConfig, Loader, PoseBatch, build_loader
from loaders.errors import InputError
from loaders.files import remove_partials
from models.heatmaps import find_joints, select_heatmap_joints


class Trainer:
    """Trains one stage. Build it, then `fit` it; `close` in any case."""

    def __init__(self, config: TrainConfig, process: Process) -> None:
        """Prepare everything that can fail before the first step.

        Raises:
            InputError: the data, a checkpoint or the run folder is not what the configuration needs.
        """
        self.config = config
        self.process = process
        self._last = config.run_dir / "last.pt"
        if (config.run_dir / "config.yaml").exists() and not config.resume:
            raise InputError(
                f"{config.run_dir} already holds a run: add --resume to continue it, or give another folder"
            )
        stage = STAGES[config.stage]
        data = dataclasses.replace(config.data, outputs=stage.outputs)
        self.loader = self._loader(data, "train", training=True)
        self.val_loader = self._loader(data, "val", training=False)
        self.stage = stage(config.model, self.loader.image_size, config.loss)

        torch.manual_seed(config.seed)
        self.model = self._new_model()
        self.optimizer = build_optimizer(config.optim, self.model)
        self.precision = Precision.choose(config.precision, process.device)
        self.scaler = self.precision.scaler()
        self.step = 0
        self.best = math.inf
        self.means = RunningMeans()
        self._log_position = 0
        self.validations: list[dict[str, float]] = []
        self.skipped: set[str] = set()
        """Samples that cannot be decoded, on all processes."""
        if config.resume and self._last.exists():
            self._load_state(checkpoint.load(self._last))
        self.trained = self._wrap(self.model)

        self.stopwatch = Stopwatch()
        process.barrier()
        if process.is_main:
            config.run_dir.mkdir(parents=True, exist_ok=True)
            remove_partials(config.run_dir)
            (config.run_dir / "config.yaml").write_text(yaml.safe_dump(to_plain(config), sort_keys=False))
        self.log = RunLog(
            config.run_dir,
            on=process.is_main,
            position=self._log_position,
            step=self.step,
            total_steps=self.step + self.steps_left,
        )
        self.stop = StopRequest(process)

    def fit(self) -> int:
        """Train to the end, or until a signal asks to stop. Returns that signal, 0 at the end."""
        if self.step == 0:
            self.validate()
        while not self.finished():
            epoch = self.loader.epoch
            self.set_learning_rate()
            for batch in self.stopwatch.waiting(self.loader):
                self.train_step(batch)
                self.set_learning_rate()
                if self.step % self.config.log_every == 0:
                    self.write_log()
                if number := self.stop.received():
                    self.save("last.pt")
                    return number
                if self.finished():
                    break
                if self.step % self.config.checkpoint_every == 0:
                    self.save("last.pt")
            if self.finished() or (epoch + 1) % self.config.validate_every == 0:
                self.validate()
            self.save("last.pt")
        self.write_summary()
        return 0

    def train_step(self, batch: PoseBatch) -> None:
        """Update the weights by one batch. Nothing here waits for the device."""
        parts = batch.split(self.config.optim.micro_sizes(len(batch)))
        for i, part in enumerate(parts):
            # gradients are exchanged once, after the last part
            with self._without_exchange(i + 1 < len(parts)):
                with self.precision.autocast():
                    _, terms = self.stage.learn(self.trained, part)
                terms = {name: term * (len(part) / len(batch)) for name, term in terms.items()}
                loss = torch.stack(list(terms.values())).sum()
                self.scaler.scale(loss).backward()
            self.means.add({"loss": loss, **{f"loss/{name}": term for name, term in terms.items()}})
        if self.config.optim.clip is not None:
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.clip)
            self.means.add({"gradient_norm": norm})
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.means.end_step(batch.index)
        self.stopwatch.count(len(batch) * self.process.world_size)
        self.log.advance()

    def set_learning_rate(self) -> None:
        """Set the learning rate of the next step."""
        rate = self.config.optim.lr_at(self.loader.progress, self.horizon)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def write_log(self) -> None:
        """Write the means since the last entry. Waits for the device; raises Failure for a non-finite loss."""
        means = self._finite_means()
        self.means.clear()
        rate = self.stopwatch.read()
        values = {
            **{f"train/{name}": value for name, value in means.items()},
            "train/lr": self.optimizer.param_groups[0]["lr"],
            "train/epoch": self.loader.progress,
            "speed/images_per_second": rate.images_per_second,
            "speed/data_wait_share": rate.wait_share,
        }
        if self.process.device.type == "cuda":
            values["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.log.scalars(self.step, values)
        self.log.show({"loss": f"{means['loss']:.4g}", "images/s": f"{rate.images_per_second:.0f}"})

    def validate(self) -> None:
        """Judge the network on the validation split, and keep it if it is the best so far."""
        with self.stopwatch.paused():
            found = validate(self.stage, self.model, self.val_loader, self.process, self.precision)
        self.validations.append(found.values)
        self.log.scalars(self.step, {f"val/{name}": value for name, value in found.values.items()})
        figures = ", ".join(f"{name} {value:.4g}" for name, value in found.values.items() if "/" not in name)
        self.log.note(f"step {self.step}: validation on {found.frames} frames: {figures}")
        self._log_pictures(found)
        self.note_skipped()
        if found.values[self.stage.measure] < self.best:
            self.best = found.values[self.stage.measure]
            self.save("best.pt")

    def note_skipped(self) -> None:
        """Name the samples that were skipped since the last call."""
        own = [*self.loader.skipped.values(), *self.val_loader.skipped.values()]
        for sample in self.process.everyones_keys(dict.fromkeys(own)):
            if sample not in self.skipped:
                self.skipped.add(sample)
                self.log.note(f"skipped: {sample}")

    def save(self, name: str) -> None:
        """Write a checkpoint. A network spoilt by a non-finite loss is never written."""
        with self.stopwatch.paused():
            self._finite_means()
            if self.process.is_main:
                checkpoint.save(self.config.run_dir / name, self._state())
            self.process.barrier()

    def write_summary(self) -> None:
        """Write summary.json: how fast, how good."""
        rate = self.stopwatch.overall()
        summary = {
            "stage": self.stage.name,
            "steps": self.step,
            "epochs": self.loader.progress,
            "images_per_second": round(rate.images_per_second, 2),
            "data_wait_share": round(rate.wait_share, 4),
            "skipped_samples": len(self.skipped),
            "processes": self.process.world_size,
            "device": self.process.device.type,
            "precision": self.precision.name,
            "best": {self.stage.measure: self.best},
            "first_validation": self.validations[0],
            "last_validation": self.validations[-1],
        }
        if self.process.is_main:
            path = self.config.run_dir / "summary.json"
            path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Free loaders, log and signal handlers."""
        self.stop.close()
        self.log.close()
        self.loader.close()
        self.val_loader.close()

    def finished(self) -> bool:
        """Whether the run has reached its end."""
        steps = self.config.max_steps
        return self.loader.epoch >= self.config.epochs or (steps is not None and self.step >= steps)

    @property
    def steps_left(self) -> int:
        """Steps to the end with the present number of processes."""
        epochs_left = self.config.epochs - self.loader.epoch - 1
        left = max(0, len(self.loader) + epochs_left * self.loader.batches_per_epoch)
        return left if self.config.max_steps is None else min(left, self.config.max_steps - self.step)

    @property
    def horizon(self) -> float:
        """Length of the run (epochs)."""
        if self.config.max_steps is None:
            return self.config.epochs
        return min(self.config.epochs, self.config.max_steps / self.loader.batches_per_epoch)

    def _loader(self, data: DataConfig, split: str, *, training: bool) -> Loader:
        process = self.process
        return build_loader(
            data, split, rank=process.rank, world_size=process.world_size, device=process.device, training=training
        )

    def _new_model(self) -> nn.Module:
        model = self.stage.build_model()
        for network, path in (("heatmap_net", self.config.load_2d), ("lifting_net", self.config.load_3d)):
            if path is not None:
                self.stage.load_weights(model, {network: checkpoint.load_network(path, network)}, path)
        return model.to(self.process.device).to(memory_format=torch.channels_last)

    def _wrap(self, model: nn.Module) -> nn.Module:
        if self.config.distributed.sync_batchnorm and self.process.world_size > 1:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.config.compile != "off":
            model = torch.compile(model, mode=self.config.compile)  # type: ignore[assignment]
        return self.process.parallel(model, self.config.distributed)

    def _without_exchange(self, unfinished: bool) -> contextlib.AbstractContextManager[None]:
        if unfinished and isinstance(self.trained, DistributedDataParallel):
            return self.trained.no_sync()
        return contextlib.nullcontext()

    def _finite_means(self) -> dict[str, float]:
        """Return the means since the last log entry. Raises Failure if one is not a finite number."""
        means = self.means.read(self.process)
        if not all(map(math.isfinite, means.values())):
            keys = ", ".join(map(self.loader.shard_set.key, self.means.last_samples[:3]))
            raise Failure(
                f"the loss is not finite: step {self.step} or one of the {self.means.steps - 1} before it (last batch: "
                f"{keys}, ...); continue from {self._last} with a lower optim.lr, with optim.clip, or in "
                "--precision bf16 or fp32"
            )
        return means

    def _log_pictures(self, found: Validation) -> None:
        if not self.process.is_main or found.example is None:
            return
        batch, prediction = found.example
        if batch.image is None or prediction.heatmap is None:
            return
        predicted, _ = find_joints(prediction.heatmap[:8], self.stage.image_size)
        pictures = overlay_grid(
            batch.image[:8].permute(0, 2, 3, 1).cpu().numpy(),
            predicted.cpu().numpy(),
            select_heatmap_joints(batch.joints_2d[:8]).cpu().numpy(),
        )
        self.log.picture(self.step, "val/examples", pictures)

    def _state(self) -> dict[str, Any]:
        return {
            "stage": self.stage.name,
            "image_size": self.stage.image_size,
            "step": self.step,
            "best": self.best,
            "validations": self.validations,
            "means": self.means.state_dict(),
            "log_position": self.log.position,
            "model": {name: net.state_dict() for name, net in self.stage.networks(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loader": self.loader.state_dict(),
            "random": {
                "torch": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if self.process.device.type == "cuda" else [],
            },
            "config": to_plain(self.config),
        }

    def _load_state(self, state: dict[str, Any]) -> None:
        if state["stage"] != self.stage.name:
            raise InputError(f"{self._last} is a {state['stage']} run, not {self.stage.name}: give another folder")
        self.stage.load_weights(self.model, state["model"], self._last)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        torch.set_rng_state(state["random"]["torch"])
        if state["random"]["cuda"]:
            torch.cuda.set_rng_state_all(state["random"]["cuda"])
        self.step, self.best, self.validations = state["step"], state["best"], state["validations"]
        self.means.load_state_dict(state["means"], self.process.device)
        self._log_position = state["log_position"]
