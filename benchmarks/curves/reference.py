"""The reference way of training, evaluated every so many images on the validation split of our shards."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import torch

from benchmarks.curves.curve import Clock, Curve, Point, Task
from benchmarks.peers.common import from_workers
from benchmarks.peers.reference_training import Recipe
from benchmarks.peers.reference_way import RECIPE_BATCH, frame_loader
from engine.distributed import Process
from engine.precision import Precision
from engine.stages import STAGES, ModelConfig
from engine.training.validation import validate
from loaders import DataConfig, build_loader
from loaders.system.cores import available_cores
from models.heatmap_net import Backbone

_CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Reference:
    """The settings of the reference recipe."""

    name: ClassVar[str] = "reference way"
    dataset: Path
    """Frames as they were extracted."""
    shards: Path
    """The same frames; only their validation split is read."""
    runs: Path
    """Folder of the weights of each stage and seed."""
    backbone: Backbone
    image_size: int
    """Side of the image (pixels)."""

    def train(self, task: Task, began: float) -> Curve:
        """As `Way`. Goes on beyond its epochs until the error is reached, or the limit."""
        clock = Clock(began)
        torch.manual_seed(task.seed)
        recipe = Recipe(task.stage, self.backbone, self.image_size, _CPU)
        if task.stage == "finetune":
            recipe.load([self._weights(stage, task.seed) for stage in ("train2d", "train3d")])
        evaluations = _Evaluations(self, task, recipe, clock)
        workers, images, epochs, end = available_cores(), 0, 0, None
        loader = frame_loader(self.dataset, self.image_size, RECIPE_BATCH, workers, seed=task.seed)
        frames = len(loader.dataset)  # type: ignore[arg-type]
        evaluations.add(images)
        with from_workers(loader, workers) as batches:
            while end is None or not (evaluations.reached or clock.seconds >= task.limit):
                batch = next(batches.stream)
                recipe.step(batch)
                images += len(batch[0])
                if ends := images // frames > epochs:
                    epochs += 1
                    recipe.end_epoch()
                if ends and epochs == task.epochs:
                    end = evaluations.add(images)
                    with clock.paused():
                        recipe.save(self._weights(task.stage, task.seed))
                elif images >= evaluations.points[-1].images + task.every or (end and clock.seconds >= task.limit):
                    evaluations.add(images)
        return Curve(evaluations.points, end)

    def _weights(self, stage: str, seed: int) -> Path:
        return self.runs / f"reference-{stage}-{seed}.pt"


class _Evaluations:
    """What a training has reached, by the metric of our stage; while it is evaluated the clock stands."""

    def __init__(self, way: Reference, task: Task, recipe: Recipe, clock: Clock) -> None:
        self.points: list[Point] = []
        self._error = task.error
        self._model = recipe.model
        self._clock = clock
        self._stage = STAGES[task.stage](ModelConfig(backbone=way.backbone), way.image_size)
        with clock.paused():
            config = DataConfig(shards=way.shards)
            with contextlib.closing(build_loader(config, "val", outputs=self._stage.outputs)) as loader:
                self._batches = list(loader)

    @property
    def reached(self) -> bool:
        """Whether an evaluation did, or there is no error to reach."""
        return self._error is None or any(point.error <= self._error for point in self.points)

    def add(self, images: int) -> Point:
        """Evaluate after so many images."""
        with self._clock.paused() as seconds, _children_stopped():
            process, precision = Process(0, 1, _CPU), Precision.choose("fp32", _CPU)
            metrics = validate(self._stage, self._model, self._batches, process, precision).metrics
        self.points.append(Point(seconds, images, metrics[self._stage.metric]))
        return self.points[-1]


@contextlib.contextmanager
def _children_stopped() -> Iterator[None]:
    """Stop the workers meanwhile: batches that they prepared off the clock would be a gift."""
    workers = multiprocessing.active_children()
    for worker in workers:
        os.kill(worker.pid or 0, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker.pid or 0, signal.SIGCONT)
