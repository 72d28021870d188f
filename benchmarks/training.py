"""Training from shards against training from one batch that is already there: ``python -m benchmarks.training``."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Measured, Target, at_least, measure
from benchmarks.results import Projection, Result, publish
from benchmarks.train_steps import train_steps
from engine.command import OK, run
from engine.config import TrainConfig
from engine.distributed import choose_device
from engine.precision import Precision, PrecisionName
from engine.stages import ModelConfig, StageName
from loaders import DataConfig

Trunk = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
Training = tuple[StageName, Trunk]

FRAMES: Final = 380_000
"""Size of the whole data set (frames)."""
_H200_RATES: Final[dict[Trunk, float]] = {"resnet50": 2950.0, "resnet101": 1800.0}
_SOURCES: Final = ("shards", "resident")
_NO_REFERENCE: Final = "the reference way is not transcribed yet"


@dataclass(frozen=True, kw_only=True)
class TrainingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.training``. What is 0 or empty is chosen for the device."""

    shards: Path | None = None
    """Shard set; none generates one."""
    frames: int = 128
    """Size of the generated set (frames)."""
    repeat: int = 32
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    stages: tuple[StageName, ...] = ("train2d", "train3d", "finetune")
    """Stages to measure."""
    trunks: tuple[Trunk, ...] = ()
    """Trunks of the heatmap network; none named takes resnet18 on a CPU, resnet50 and resnet101 on a GPU."""
    image_size: int = 0
    """Side of the pictures (pixels); 0 takes 128 on a CPU, 368 on a GPU."""
    batch_size: int = 0
    """Samples of a batch (samples); 0 takes 16 on a CPU, 128 on a GPU."""
    steps: int = 5
    """Least steps of a lap (steps)."""
    precision: PrecisionName = "auto"
    """Type of matrix products."""
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    """Mode of torch.compile."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: int = 0
    """Decoding threads (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, repeat=1, image_size=0, batch_size=0, steps=1, threads=0)

    def trainings(self, gpu: bool) -> list[Training]:
        """Return the pairs of stage and trunk; train3d has no trunk, so it is there once."""
        trunks: tuple[Trunk, ...] = self.trunks or (("resnet50", "resnet101") if gpu else ("resnet18",))
        return [(stage, trunk) for stage in self.stages for trunk in (trunks[:1] if stage == "train3d" else trunks)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def action(flags: TrainingFlags) -> int:
        benchmark(flags)
        return OK

    return run(
        TrainingFlags, action, program="benchmarks.training", description="Measure training.", arguments=arguments
    )


def benchmark(flags: TrainingFlags) -> Result:
    """Measure and publish."""
    device = choose_device(flags.device)
    gpu = device.type == "cuda"
    size, batch_size = flags.image_size or (368 if gpu else 128), flags.batch_size or (128 if gpu else 16)
    trainings = flags.trainings(gpu)
    with contextlib.ExitStack() as stack:
        shards = flags.shards or _generate(stack.enter_context(data.temporary_folder()), flags, size)
        loading = DataConfig(
            shards=shards, batch_size=batch_size, image_size=size, threads=flags.threads, seed=flags.seed
        )
        found = [
            Candidate(
                _name(training, source),
                partial(train_steps, _config(flags, training, source, loading)),
                group=_title(training),
                ours=source == "shards",
            )
            for training in trainings
            for source in _SOURCES
        ]
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup, steps=flags.steps)
    chosen = {
        "device": device.type,
        "trainings": [_title(training) for training in trainings],
        "image_size": size,
        "batch_size": batch_size,
        "precision": Precision.choose(flags.precision, device).name,
    }
    projections = [_epoch(one) for one in measured if one.candidate.ours]
    return publish(
        "training", flags, measured, _targets(trainings, device, size), chosen=chosen, projections=projections
    )


def _generate(folder: Path, flags: TrainingFlags, size: int) -> Path:
    data.synthesize(folder / "dataset", flags.frames)
    data.shard(folder / "dataset", folder / "shards", image_format="jpeg", image_size=size)
    data.repeat_shards(folder / "shards", flags.repeat)
    return folder / "shards"


def _title(training: Training) -> str:
    stage, trunk = training
    return stage if stage == "train3d" else f"{stage} {trunk}"


def _name(training: Training, source: str) -> str:
    return f"{_title(training)}, {source}"


def _config(flags: TrainingFlags, training: Training, source: str, data_config: DataConfig) -> TrainConfig:
    """Return the configuration of a training; its run folder is set where it runs."""
    stage, trunk = training
    return TrainConfig(
        stage=stage,
        run_dir=Path(source),
        data=dataclasses.replace(data_config, backend="resident") if source == "resident" else data_config,
        model=ModelConfig(trunk=trunk),
        epochs=1_000_000,
        precision=flags.precision,
        compile=flags.compile,
        device=flags.device,
        seed=flags.seed,
    )


def _targets(trainings: Sequence[Training], device: torch.device, size: int) -> list[Target]:
    """Return what training is held against."""
    no_gpu = "" if device.type == "cuda" else "the target is for a GPU"
    ratios = [
        Target(
            f"{_title(training)}: shards over the resident batch",
            (_name(training, "shards"),),
            (_name(training, "resident"),),
            0.98,
            "" if training[0] == "train3d" else no_gpu,
        )
        for training in trainings
    ]
    h200 = device.type == "cuda" and "H200" in torch.cuda.get_device_name(device) and size == 368
    rates = []
    for trunk, rate in _H200_RATES.items():
        ran = h200 and ("train2d", trunk) in trainings
        of = (_name(("train2d", trunk), "shards"),) if ran else ()
        unless = "" if ran else "not run on an H200 at 368 px"
        rates.append(Target(f"train2d {trunk}, 368 px, one H200 (images/s)", of, (), rate, unless))
    return [
        *ratios,
        *rates,
        Target("train3d over the reference way, on a GPU", at_least=100, unless=_NO_REFERENCE),
        Target("whole run over the reference recipe, one H200", at_least=20, unless=_NO_REFERENCE),
        Target("two processes over one, efficiency", at_least=0.95, unless="no benchmark of it yet"),
    ]


def _epoch(one: Measured) -> Projection:
    return Projection(
        f"one epoch of {FRAMES:,} frames, {one.candidate.group}",
        FRAMES / one.median / 3600,
        "hours",
        "the rate stays as it was over these laps",
    )


if __name__ == "__main__":
    sys.exit(main())
