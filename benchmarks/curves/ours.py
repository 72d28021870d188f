"""Our training as a user starts it, from shards, with an evaluation every so many images."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from benchmarks.curves.curve import Clock, Curve, Point, Task
from benchmarks.harness import ROOT
from benchmarks.peers.reference_way import RECIPE_BATCH
from engine.checkpoint.checkpointer import LAST
from engine.config import TrainConfig, parse_train
from engine.distributed import Process, join_processes
from engine.training.trainer import Trainer
from loaders import PoseBatch
from models.heatmap_net import Backbone

_NEVER: Final = 10**6


@dataclass(frozen=True)
class Ours:
    """The demo's settings and the reference recipe's batch."""

    name: ClassVar[str] = "ours"
    shards: Path
    runs: Path
    """Folder of the run folders, one for each stage and seed."""
    backbone: Backbone
    image_size: int
    """Side of the images (pixels)."""

    def train(self, task: Task, began: float) -> Curve:
        """As `Way`. The run ends with its epochs, whether it has reached the error or not."""
        config = parse_train(self.command_line(task))
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))  # its progress bar
            process = stack.enter_context(join_processes(config.device, config.distributed.timeout))
            trainer = _EvaluatedTrainer(config, process, task.every, Clock(began))
            stack.callback(trainer.close)
            if trainer.fit():  # the number of a signal; the trainer takes Ctrl-C for itself
                raise KeyboardInterrupt
        return Curve(trainer.points, trainer.points[-1])

    def command_line(self, task: Task) -> list[str]:
        """Return the arguments of ``engine/train.py``."""
        words: list[Any] = ["--config", ROOT / "configs" / "demo" / f"{task.stage}.yaml", "--data.shards", self.shards]
        words += ["--run-dir", self._run(task.stage, task.seed), "--epochs", task.epochs, "--validate-every", _NEVER]
        words += ["--seed", task.seed, "--data.seed", task.seed, "--data.image-size", self.image_size]
        # the demo's train3d has 64, of which a few hundred frames make too few steps
        words += ["--data.batch-size", RECIPE_BATCH, "--device", "cpu"]
        if task.stage != "train3d":
            words += ["--model.backbone", self.backbone]
        if task.stage == "finetune":
            words += ["--load-2d", self._run("train2d", task.seed) / LAST]
            words += ["--load-3d", self._run("train3d", task.seed) / LAST]
        return list(map(str, words))

    def _run(self, stage: str, seed: int) -> Path:
        return self.runs / f"{stage}-{seed}"


class _EvaluatedTrainer(Trainer):
    """A trainer that validates more often than at the ends of epochs."""

    def __init__(self, config: TrainConfig, process: Process, every: int, clock: Clock) -> None:
        super().__init__(config, process)
        self.points: list[Point] = []
        self._every = every
        self._clock = clock
        self._images = 0

    def train_step(self, batch: PoseBatch) -> None:
        super().train_step(batch)
        self._images += len(batch)
        if self._images >= self.points[-1].images + self._every:
            self.validate()

    def validate(self) -> None:
        with self._clock.paused() as seconds:
            super().validate()
        self.points.append(Point(seconds, self._images, self.validations[-1][self.stage.metric]))
