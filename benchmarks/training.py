"""Training from shards against a resident batch and the reference way: ``python -m benchmarks.training``."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, at_least, measure
from benchmarks.results import Result, publish
from benchmarks.trainings import Bench, Training, candidates, epochs, targets
from engine.cli.command import OK, command
from engine.config import CompileMode
from engine.distributed import choose_device
from engine.precision import Precision, PrecisionName
from engine.stages import Backbone, StageName
from loaders import DataConfig
from loaders.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.training``. What is 0 or empty is chosen for the device."""

    lap: float = 6.0
    """Least time of a lap (seconds)."""
    warmup: float = 2.0
    """Least time before each lap that is not measured (seconds)."""
    shards: Path | None = None
    """Shard set; none generates one."""
    dataset: Path | None = None
    """Frames as they were extracted, for the reference way; with --shards alone, that way is not measured."""
    frames: int = 128
    """Size of the generated set (frames)."""
    grain: float = data.GRAIN
    """Standard deviation of the grain in generated images (gray levels)."""
    repeat: int = 32
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    stages: tuple[StageName, ...] = ("train2d", "train3d", "finetune")
    """Stages to measure."""
    backbones: tuple[Backbone, ...] = ()
    """Trunks of the heatmap network; none named takes resnet18 on a CPU, resnet50 and resnet101 on a GPU."""
    image_size: int = 0
    """Side of the images (pixels); 0 takes 128 on a CPU, 368 on a GPU."""
    batch_size: int = 0
    """Samples of a batch (samples); 0 takes 16 on a CPU, 128 on a GPU. The reference way has no more than its 16."""
    steps: int = 5
    """Least steps of a lap (steps)."""
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
        at_least(self, frames=4, grain=0, repeat=1, image_size=0, batch_size=0, steps=1, threads=0)
        if self.dataset and not self.shards:
            raise InputError("--dataset needs --shards: the same frames")

    def trainings(self, device: torch.device) -> list[Training]:
        """Return what to train, and how; train3d has no backbone, so it is there once."""
        backbones: tuple[Backbone, ...] = self.backbones or (
            ("resnet50", "resnet101") if device.type == "cuda" else ("resnet18",)
        )
        precisions = dict.fromkeys(Precision.choose(name, device).name for name in self.precisions)
        return [
            Training(stage, backbone, precision, mode)
            for stage in self.stages
            for backbone in (backbones[:1] if stage == "train3d" else backbones)
            for precision in precisions
            for mode in self.compile
        ]


@command("benchmarks.training", "Measure training.")
def main(flags: TrainingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: TrainingFlags) -> Result:
    """Measure and publish."""
    device = choose_device(flags.device)
    trainings = flags.trainings(device)
    with contextlib.ExitStack() as stack:
        bench = _bench(flags, device, stack)
        measured = measure(
            candidates(bench, trainings), rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup, steps=flags.steps
        )
    chosen = {
        "device": device.type,
        "trainings": [training.title for training in trainings],
        "image_size": bench.image_size,
        "batch_size": bench.data.batch_size,
    }
    return publish(
        "training", flags, measured, targets(bench, trainings), chosen=chosen, projections=list(epochs(measured))
    )


def _bench(flags: TrainingFlags, device: torch.device, stack: contextlib.ExitStack) -> Bench:
    """Return what is trained on: what the flags name, or frames that are removed with ``stack``."""
    gpu = device.type == "cuda"
    size = flags.image_size or (368 if gpu else 128)
    if flags.shards:
        frames = data.Frames(flags.shards, dataset=flags.dataset)
    else:
        frames = data.generate(
            stack.enter_context(data.temporary_folder()),
            frames=flags.frames,
            image_size=size,
            grain=flags.grain,
            repeat=flags.repeat,
            seed=flags.seed,
            forms=("jpeg",),
        )
    loading = DataConfig(
        shards=frames.jpeg,
        batch_size=flags.batch_size or (128 if gpu else 16),
        image_size=size,
        threads=flags.threads,
        seed=flags.seed,
    )
    return Bench(loading, frames.dataset, size, device)


if __name__ == "__main__":
    sys.exit(main())
