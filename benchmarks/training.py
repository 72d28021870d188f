"""Training from shards against a cached batch and the reference way: ``python -m benchmarks.training``."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks import data
from benchmarks.harness import Candidate, Length, Row, Target, measure, run_steps, verdicts
from benchmarks.peers.reference_training import reference_training
from benchmarks.peers.reference_way import RECIPE_BATCH
from benchmarks.results import publish
from benchmarks.timed_trainer import train
from engine.checkpoint.checkpointer import CheckpointConfig
from engine.cli.command import OK, command
from engine.config import CompileMode, TrainConfig
from engine.device import choose_device
from engine.precision import Precision, PrecisionName
from engine.stages import ModelConfig, StageName
from loaders import DataConfig
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from models.heatmap_net import Backbone

_NEVER: Final = 10**6
_STAGES: Final[tuple[StageName, ...]] = ("train2d", "train3d", "finetune")
_SOURCES: Final = ("shards", "cached batch")
_H200_RATES: Final[dict[Backbone, float]] = {"resnet50": 2950.0, "resnet101": 1800.0}
_FOR_A_GPU: Final = "the target is for a GPU"


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(data.DataFlags):
    """Flags of ``benchmarks.training``. What is 0 or empty is chosen for the device."""

    seconds: float = 6.0
    """Least time of a repetition (seconds)."""
    warmup: float = 2.0
    """Least time before each repetition that is not measured (seconds)."""
    shards: Path | None = None
    """Shard set; none generates one."""
    dataset: Path | None = None
    """Frames as they were extracted, for the reference way; with --shards alone, that way is not measured."""
    stages: tuple[StageName, ...] = _STAGES
    """Stages to measure."""
    backbones: tuple[Backbone, ...] = ()
    """Backbones of the heatmap network; none named takes resnet18 on a CPU, resnet50 and resnet101 on a GPU."""
    image_size: int = 0
    """Side of the images (pixels); 0 takes 128 on a CPU, 368 on a GPU."""
    batch_size: int = 0
    """Samples of a batch (samples); 0 takes 16 on a CPU, 128 on a GPU. The reference way has no more than its 16."""
    steps: int = 5
    """Least steps of a repetition (steps)."""
    precisions: tuple[PrecisionName, ...] = ("auto",)
    """Types of matrix products to measure."""
    compile: tuple[CompileMode, ...] = ("off",)
    """Modes of torch.compile to measure."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: int = 0
    """Decoding threads, or worker processes, of each candidate (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(self, "--", seconds=Range(0), warmup=Range(0), steps=Range(1), threads=Range(0))
        if self.dataset and not self.shards:
            raise InputError("--dataset needs --shards: the same frames")


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
class Setup:
    """What all trainings of a run share."""

    data: DataConfig
    dataset: Path | None
    """Frames as they were extracted, for the reference way."""
    image_size: int
    """Side of the images (pixels)."""
    device: torch.device


@command("benchmarks.training", "Measure training.")
def main(flags: TrainingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: TrainingFlags) -> list[Row]:
    """Measure and publish."""
    device = choose_device(flags.device)
    trainings = trainings_of(flags, device)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        setup = _setup(flags, device, Path(folder))
        length = Length(flags.seconds, flags.warmup, flags.steps)
        measured = measure(candidates(setup, trainings), length, flags.repetitions)
    chosen = {
        "device": device.type,
        "trainings": [training.title for training in trainings],
        "image_size": setup.image_size,
        "batch_size": setup.data.batch_size,
    }
    rows = verdicts(targets(setup, trainings), measured, flags.seed)
    return publish("training", flags, measured, rows, chosen=chosen)


def trainings_of(flags: TrainingFlags, device: torch.device) -> list[Training]:
    """Return what to train, and how; train3d has no backbone, so it is there once."""
    backbones: tuple[Backbone, ...] = flags.backbones or (
        ("resnet50", "resnet101") if device.type == "cuda" else ("resnet18",)
    )
    precisions = dict.fromkeys(Precision.choose(name, device).name for name in flags.precisions)
    return [
        Training(stage, backbone, precision, mode)
        for stage in flags.stages
        for backbone in (backbones[:1] if stage == "train3d" else backbones)
        for precision in precisions
        for mode in flags.compile
    ]


def _setup(flags: TrainingFlags, device: torch.device, folder: Path) -> Setup:
    """Return what is trained on: what the flags name, or frames generated in ``folder``."""
    gpu = device.type == "cuda"
    size = flags.image_size or (368 if gpu else 128)
    if flags.shards:
        frames = data.Frames(flags.shards, dataset=flags.dataset)
    else:
        frames = data.generate(dataclasses.replace(flags, image_size=size), folder)
    loading = DataConfig(
        shards=frames.jpeg,
        batch_size=flags.batch_size or (128 if gpu else 16),
        image_size=size,
        threads=flags.threads,
        seed=flags.seed,
    )
    return Setup(loading, frames.dataset, size, device)


def candidates(setup: Setup, trainings: Sequence[Training]) -> list[Candidate]:
    """Return each training, from shards and from a cached batch, and beside each work the reference way."""
    ours = [
        Candidate(
            training.reading(source),
            partial(train, _config(setup, training), source == "cached batch"),
            group=training.work,
        )
        for training in trainings
        for source in _SOURCES
    ]
    return [*ours, *_reference(setup, trainings)]


def _config(setup: Setup, training: Training) -> TrainConfig:
    """Return the configuration of a training; its run folder is set where it runs."""
    return TrainConfig(
        stage=training.stage,
        run_dir=Path(),
        data=setup.data,
        model=ModelConfig(backbone=training.backbone),
        epochs=_NEVER,
        validate_every=_NEVER,
        checkpoint=CheckpointConfig(every=_NEVER, minutes=_NEVER),
        precision=training.precision,
        compile=training.compile,
        device="cuda" if setup.device.type == "cuda" else "cpu",
        seed=setup.data.seed,
    )


def _reference(setup: Setup, trainings: Sequence[Training]) -> Iterator[Candidate]:
    absent = "" if setup.dataset else "no frames given: --dataset"
    for training in {one.work: one for one in trainings}.values():
        start = partial(
            reference_training,
            setup.dataset or Path(),
            training.stage,
            training.backbone,
            image_size=setup.image_size,
            batch_size=min(setup.data.batch_size, RECIPE_BATCH),
            workers=setup.data.threads or available_cores(),
            device=setup.device,
            seed=setup.data.seed,
        )
        run = partial(run_steps, start)
        yield Candidate(training.reference, run, training.work, needs=("skimage",), absent=absent)


def targets(setup: Setup, trainings: Sequence[Training]) -> list[Target]:
    """Return what training is held against."""
    return [
        *_over_the_cached_batch(setup, trainings),
        *_over_the_reference(setup, trainings),
        *_rates(setup, trainings),
    ]


def _over_the_cached_batch(setup: Setup, trainings: Sequence[Training]) -> Iterator[Target]:
    for one in trainings:
        unless = "" if one.stage == "train3d" or setup.device.type == "cuda" else _FOR_A_GPU
        shards, cached = ((one.reading(source),) for source in _SOURCES)
        yield Target(f"{one.title}: shards over the cached batch", shards, cached, at_least=0.98, unless=unless)


def _over_the_reference(setup: Setup, trainings: Sequence[Training]) -> Iterator[Target]:
    no_gpu = "" if setup.device.type == "cuda" else _FOR_A_GPU
    for work in dict.fromkeys(one.work for one in trainings):
        same = [one for one in trainings if one.work == work]
        least = 100 if work == "train3d" else None
        yield Target(
            f"{work}: the fastest from shards over the reference way",
            [one.reading("shards") for one in same],
            [same[0].reference],
            at_least=least,
            unless=no_gpu if least else "",
        )
    for run in _whole_runs(trainings):
        yield Target(
            f"all stages, {run[0].title.removeprefix('train2d ')}: over the reference way, as many epochs of each",
            [one.reading("shards") for one in run],
            [one.reference for one in run],
            at_least=20,
            unless=no_gpu,
            in_turn=True,
        )


def _whole_runs(trainings: Sequence[Training]) -> Iterator[list[Training]]:
    """Yield the three stages, for each backbone, precision and mode of which all are there."""
    titles = {one.title for one in trainings}
    for first in trainings:
        run = [dataclasses.replace(first, stage=stage) for stage in _STAGES]
        if first.stage == _STAGES[0] and titles.issuperset(one.title for one in run):
            yield run


def _rates(setup: Setup, trainings: Sequence[Training]) -> Iterator[Target]:
    h200 = setup.device.type == "cuda" and "H200" in torch.cuda.get_device_name(setup.device)
    for backbone, rate in _H200_RATES.items():
        of = [one.reading("shards") for one in trainings if (one.stage, one.backbone) == ("train2d", backbone)]
        here = of if h200 and setup.image_size == 368 else []
        unless = "" if here else "not run on an H200 at 368 px"
        yield Target(f"train2d {backbone}, 368 px, one H200 (images/s)", here, at_least=rate, unless=unless)


if __name__ == "__main__":
    sys.exit(main())
