"""A training run in memory: its data, its network, and how far it has come."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from torch import Tensor

from engine.checkpoint.checkpointer import LAST, load_newest
from engine.checkpoint.format import (
    Checkpoint,
    ResumeState,
    load_network,
    load_weights,
    random_state,
    restore_random_state,
    seed_all,
)
from engine.config import TrainConfig, ignored_values, used_values
from engine.device import choose_kernels
from engine.distributed import Process
from engine.stages import build_stage, find_stage
from engine.training.compilation import choose_graph, choose_mode
from engine.training.consistency import changes, check_processes, check_resumable
from engine.training.learner import Learner
from engine.training.running_means import RunningMeans
from engine.training.schedule import Schedule
from loaders import Loader, PoseBatch, ShardSet, build_loader
from loaders.errors import InputError
from loaders.format.sample import POSE
from models.head import HeadPosition

logger = logging.getLogger(__name__)

_HEAD_SAMPLES: Final = 4096
"""Poses that stand for a training split where the place of Head is found: each is a read from the disk (samples)."""

Claim = Callable[..., contextlib.AbstractContextManager[None]]
"""Takes run folder, process and ``resume``; refuses, on all processes, a folder that is not the run's to use."""


class Run:
    """What is trained, up to the first step and from one step to the next; nothing of it writes in the run folder."""

    def __init__(
        self, config: TrainConfig, process: Process, claim: Claim, build: Callable[..., Loader] = build_loader
    ) -> None:
        """Prepare everything that can fail before the first step.

        Args:
            config: of the run.
            process: this one.
            claim: holds the run folder, or looks at it.
            build: makes the loaders; takes what `build_loader` takes.

        Raises:
            InputError: the data, a checkpoint, the run folder or the machine is not what the configuration needs.
        """
        choose_kernels(process.device, deterministic=config.deterministic, matmul_precision=config.matmul_precision)
        config = dataclasses.replace(config, compile=choose_mode(config, process))
        config = dataclasses.replace(config, cuda_graph="always" if choose_graph(config, process) else "never")
        self.config = config
        """The configuration; what is "auto" about compiling and recording is resolved."""
        self.process = process
        self.used_config = used_values(config)
        """The configuration as plain values."""
        resume = config.resume or process.restarted
        with contextlib.ExitStack() as opened:
            self.loader = opened.enter_context(contextlib.closing(self._build_loader(build, "train")))
            self.val_loader = opened.enter_context(contextlib.closing(self._build_loader(build, "val")))
            flags = self.used_config | {"dry_run": config.dry_run}
            check_processes(flags, {"train": self.loader, "val": self.val_loader}, process)
            seed_all(config.seed)
            built_of = self._network_config()
            self.stage = build_stage(
                config.stage, built_of.model, self.loader.image_size, config.loss, self.loader.skeleton
            )
            if config.data.window > 1 and not self.stage.sees_windows:
                who = config.model.network or config.stage
                raise InputError(f"data.window is {config.data.window}, and {who} sees single frames: leave it out")
            opened.enter_context(claim(config.run_dir, process, resume=resume))
            self.learner = self._build_learner(built_of)
            self.step = 0
            self.best = math.inf
            """The lowest validation metric."""
            self.validations: list[dict[str, float]] = []
            self.validated_at: int | None = None
            """Step of the last validation."""
            self.log_position = 0
            """Length of metrics.jsonl (bytes)."""
            self.schedule = Schedule(self.loader, config.epochs, config.max_steps, config.validate_every)
            self.means = RunningMeans(process, self.loader.shard_set.key)
            self.head: dict[str, Any] | None = None
            """Where the head is in the camera frame, as checkpoints say it; the main process alone knows."""
            self.resumed = resume and self._resume()
            """Whether it goes on from a checkpoint; else it begins."""
            if process.is_main:
                self.head = self.head or _find_head(self.loader.shard_set)
                for loader in (self.loader, self.val_loader):
                    if loader.left_out:
                        logger.info("%s: %s", loader.shard_set.folder, loader.left_out)
                for key, value in ignored_values(config).items():
                    logger.info("%s ignores %s %s here", config.stage, key, value)
            self._opened = opened.pop_all()

    def update(self, batch: PoseBatch, *, with_gradient_norm: bool = False) -> Tensor | None:
        """Update the weights by one batch; return the norm of the gradient if it had to be computed."""
        self.step += 1
        losses = self.learner.step(batch, with_gradient_norm=with_gradient_norm)
        gradient_norm = losses.pop("gradient_norm", None)
        self.means.add(losses, batch.predicted.index)
        self.set_learning_rate()
        return gradient_norm

    def set_learning_rate(self) -> None:
        """Set the learning rate of the next step."""
        self.learner.lr = self.config.optim.lr_at(self.loader.progress, self.schedule.length)

    def checkpoint(self) -> Checkpoint:
        """Return the run as it is now; the device must have been waited for."""
        return Checkpoint(
            stage=self.stage.name,
            image_size=self.stage.image_size,
            config=self.used_config,
            weights=self.learner.weights,
            step=self.step,
            preprocessing=dataclasses.asdict(self.loader.shard_set.manifest.preprocessing),
            head=self.head,
            skeleton=dataclasses.asdict(self.stage.skeleton),
            resume_state=ResumeState(
                best=self.best,
                validations=self.validations,
                validated_at=self.validated_at,
                **self.learner.resume_state(),
                loader=self.loader.state_dict(),
                random=random_state(),
                running_means=self.means.state_dict(),
                log_position=self.log_position,
            ),
        )

    def close(self) -> None:
        """Free loaders and run folder."""
        self._opened.close()

    def _build_loader(self, build: Callable[..., Loader], split: str) -> Loader:
        return build(
            self.config.data,
            split,
            rank=self.process.rank,
            world_size=self.process.world_size,
            device=self.process.device,
            training=split == "train",
            outputs=find_stage(self.config.stage).outputs,
        )

    def _network_config(self) -> TrainConfig:
        """Return the configuration that the network is built of."""
        return self.config

    def _build_learner(self, config: TrainConfig) -> Learner:
        initial = [(config.load, load_weights(config.load, self.stage.skeleton))] if config.load else []
        for network, path in (("heatmap_net", config.load_2d), ("lifting_net", config.load_3d)):
            if path is not None:
                initial.append((path, {network: load_network(path, network, self.stage.skeleton)}))
        return Learner(
            self.stage,
            self.process,
            optim=config.optim,
            distributed=config.distributed,
            precision=config.precision,
            compile_mode=config.compile,
            cuda_graph=config.cuda_graph == "always",
            initial_weights=initial,
        )

    def _resume(self) -> bool:
        """Go on from the newest checkpoint that is whole; return whether there is one.

        It is read once: all processes go on from the same one, also where they share no disk.
        """
        newest = load_newest(self.config.run_dir) if self.process.is_main else (None, [])
        checkpoint, faults = self.process.from_main(newest)
        if checkpoint is None:
            return False
        source = self.config.run_dir / LAST
        state = check_resumable(checkpoint, self.used_config, self.stage.image_size, source)
        self.learner.resume(checkpoint.weights, state, source)
        self.loader.load_state_dict(state.loader)
        self.means.load_state_dict(state.running_means)
        restore_random_state(state.random)
        self.step, self.log_position = checkpoint.step, state.log_position
        self.head = checkpoint.head
        self.best, self.validations, self.validated_at = state.best, state.validations, state.validated_at
        if self.process.is_main:
            for fault in faults:
                logger.warning("%s; going on from another checkpoint, step %d", fault, self.step)
            for change in changes(checkpoint, self.used_config):
                logger.info("resumed: %s", change)
        return True


def _find_head(shard_set: ShardSet) -> dict[str, Any] | None:
    """Return where the head is in the camera frame, as plain values of `HeadPosition`.

    None if the skeleton has none, or if labels cannot be read.

    Samples lie in random order in their shards, so evenly spaced ones stand for the split.
    """
    skeleton = shard_set.manifest.skeleton
    if skeleton.head is None:
        return None
    if shard_set.remote:
        logger.info(
            "checkpoints will not say where the head is in the camera frame, so poses will be relative to %s alone: "
            "labels are in the tars, and these are not on this machine (data.remote)",
            skeleton.joints[skeleton.root],
        )
        return None
    count = len(shard_set)
    chosen = np.arange(0, count, -(-count // _HEAD_SAMPLES))
    shard_set.read_ahead(chosen, [POSE])
    return dataclasses.asdict(HeadPosition.of(shard_set.pose(chosen)[..., 2:], skeleton.head))
