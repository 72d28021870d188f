"""The ways to train that `benchmarks.training` compares, and what they are held against."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import torch

from benchmarks.harness import Candidate, Measured, Target
from benchmarks.peers.reference_training import reference_training
from benchmarks.peers.reference_way import RECIPE_BATCH
from benchmarks.results import Projection
from benchmarks.train_steps import train_steps
from engine.config import CompileMode, TrainConfig
from engine.precision import PrecisionName
from engine.stages import Backbone, ModelConfig, StageName
from loaders import DataConfig
from loaders.system.cores import available_cores

FRAMES: Final = 380_000
"""Size of the whole data set (frames)."""
_STAGES: Final[tuple[StageName, ...]] = ("train2d", "train3d", "finetune")
_SOURCES: Final = ("shards", "resident")
_H200_RATES: Final[dict[Backbone, float]] = {"resnet50": 2950.0, "resnet101": 1800.0}
_FOR_A_GPU: Final = "the target is for a GPU"


@dataclass(frozen=True)
class Training:
    """A stage as it is trained."""

    stage: StageName
    backbone: Backbone
    precision: PrecisionName
    compile: CompileMode

    @property
    def work(self) -> str:
        """What is trained; train3d has no backbone."""
        return self.stage if self.stage == "train3d" else f"{self.stage} {self.backbone}"

    @property
    def title(self) -> str:
        """What is trained, and how."""
        return f"{self.work} {self.precision}" + (f" {self.compile}" if self.compile != "off" else "")

    def reading(self, source: str) -> str:
        """Return the name of the candidate that reads from ``source``."""
        return f"{self.title}, {source}"

    @property
    def reference(self) -> str:
        """Name of the candidate that trains the same in the reference way."""
        return f"{self.work}, reference way"


@dataclass(frozen=True)
class Bench:
    """What all trainings of a run share."""

    data: DataConfig
    dataset: Path | None
    """Frames as they were extracted, for the reference way."""
    image_size: int
    """Side of the images (pixels)."""
    device: torch.device


def candidates(bench: Bench, trainings: Sequence[Training]) -> list[Candidate]:
    """Return each training, from shards and from a resident batch, and beside each work the reference way."""
    found = [
        Candidate(
            training.reading(source),
            partial(train_steps, _config(bench, training, source), cached_batch=source == "resident"),
            group=training.work,
            ours=source == "shards",
        )
        for training in trainings
        for source in _SOURCES
    ]
    return found + list(_reference(bench, trainings))


def _config(bench: Bench, training: Training, source: str) -> TrainConfig:
    """Return the configuration of a training; its run folder is set where it runs."""
    return TrainConfig(
        stage=training.stage,
        run_dir=Path(source),
        data=bench.data,
        model=ModelConfig(backbone=training.backbone),
        epochs=1_000_000,
        precision=training.precision,
        compile=training.compile,
        device="cuda" if bench.device.type == "cuda" else "cpu",
        seed=bench.data.seed,
    )


def _reference(bench: Bench, trainings: Sequence[Training]) -> Iterator[Candidate]:
    for training in {one.work: one for one in trainings}.values():
        way = partial(
            reference_training,
            bench.dataset or Path(),
            training.stage,
            training.backbone,
            image_size=bench.image_size,
            batch_size=min(bench.data.batch_size, RECIPE_BATCH),
            workers=bench.data.threads or available_cores(),
            device=bench.device,
            seed=bench.data.seed,
        )
        absent = "" if bench.dataset else "no frames given: --dataset"
        yield Candidate(training.reference, way, training.work, needs=("skimage",), absent=absent)


def targets(bench: Bench, trainings: Sequence[Training]) -> list[Target]:
    """Return what training is held against."""
    return [
        *_over_resident(bench, trainings),
        *_over_reference(bench, trainings),
        *_rates(bench, trainings),
    ]


def _over_resident(bench: Bench, trainings: Sequence[Training]) -> Iterator[Target]:
    for one in trainings:
        unless = "" if one.stage == "train3d" or bench.device.type == "cuda" else _FOR_A_GPU
        shards, resident = ((one.reading(source),) for source in _SOURCES)
        yield Target(f"{one.title}: shards over the resident batch", shards, resident, 0.98, unless)


def _over_reference(bench: Bench, trainings: Sequence[Training]) -> Iterator[Target]:
    no_gpu = "" if bench.device.type == "cuda" else _FOR_A_GPU
    for work in dict.fromkeys(one.work for one in trainings):
        same = [one for one in trainings if one.work == work]
        least = 100 if work == "train3d" else None
        yield Target(
            f"{work}: the fastest from shards over the reference way",
            [one.reading("shards") for one in same],
            [same[0].reference],
            least,
            no_gpu if least else "",
        )
    for run in _whole_runs(trainings):
        first = run[0]
        yield Target(
            f"all stages, {first.title.removeprefix('train2d ')}: over the reference way, as many epochs of each",
            [one.reading("shards") for one in run],
            [one.reference for one in run],
            20,
            no_gpu,
            in_turn=True,
        )


def _whole_runs(trainings: Sequence[Training]) -> Iterator[list[Training]]:
    """Yield the three stages, for each backbone, precision and mode of which all are there."""
    titles = {one.title for one in trainings}
    for first in trainings:
        run = [dataclasses.replace(first, stage=stage) for stage in _STAGES]
        if first.stage == _STAGES[0] and titles.issuperset(one.title for one in run):
            yield run


def _rates(bench: Bench, trainings: Sequence[Training]) -> Iterator[Target]:
    h200 = bench.device.type == "cuda" and "H200" in torch.cuda.get_device_name(bench.device)
    for backbone, rate in _H200_RATES.items():
        of = [one.reading("shards") for one in trainings if (one.stage, one.backbone) == ("train2d", backbone)]
        here = of if h200 and bench.image_size == 368 else []
        unless = "" if here else "not run on an H200 at 368 px"
        yield Target(f"train2d {backbone}, 368 px, one H200 (images/s)", here, (), rate, unless)


def epochs(measured: Sequence[Measured]) -> Iterator[Projection]:
    """Yield how long the whole data set would take, for the fastest of each work."""
    ours = [one for one in measured if one.candidate.ours]
    for work in dict.fromkeys(one.candidate.group for one in ours):
        fastest = max((one for one in ours if one.candidate.group == work), key=lambda one: one.median)
        yield Projection(
            f"one epoch of {FRAMES:,} frames, {fastest.candidate.name}",
            FRAMES / fastest.median / 3600,
            "hours",
            "the rate stays as it was over these laps",
        )
