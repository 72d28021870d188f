"""Data-parallel efficiency: processes side by side against one of them alone: ``python -m benchmarks.scaling``."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Session, Target, Timed, at_least, measure
from benchmarks.machine import ROOT
from benchmarks.results import Result, publish
from engine.cli.command import OK, command
from engine.distributed import choose_device
from engine.stages import Backbone, StageName
from loaders.errors import Failure, InputError
from loaders.system.cores import available_cores

_WARM_UP: Final = 2
"""Steps that are not measured (steps)."""


@dataclass(frozen=True, kw_only=True)
class ScalingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.scaling``. What is 0 or empty is chosen for the device."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    lap: float = 0.0
    """Least time of a lap (seconds); a lap is at least a run."""
    processes: int = 2
    """Processes side by side (processes)."""
    stages: tuple[StageName, ...] = ("train2d",)
    """Stages to measure."""
    backbone: Backbone | Literal[""] = ""
    """Backbone of the heatmap network; empty takes resnet18 on a CPU, resnet50 on a GPU."""
    image_size: int = 368
    """Side of the images (pixels); of smaller ones a step is short, and exchanging gradients counts for more."""
    batch_size: int = 0
    """Samples per process and step (samples); 0 takes 16 on a CPU, 128 on a GPU."""
    steps: int = 6
    """Steps of a run that are measured (steps), an even number."""
    frames: int = 64
    """Size of the generated set (frames)."""
    repeat: int = 64
    """How often it is strung together (times)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, processes=2, image_size=32, batch_size=0, steps=_WARM_UP, frames=4, repeat=1)
        if self.steps % _WARM_UP:  # a run says how fast it was after every so many
            raise InputError(f"--steps is {self.steps}: give a multiple of {_WARM_UP}")


@command("benchmarks.scaling", "Measure data-parallel efficiency.")
def main(flags: ScalingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: ScalingFlags) -> Result:
    """Measure and publish."""
    gpu = choose_device(flags.device).type == "cuda"
    places, kind = (torch.cuda.device_count(), "GPUs") if gpu else (available_cores(), "cores")
    absent = f"needs {flags.processes} {kind}, there are {places}" if places < flags.processes else ""
    settings = _settings(flags, gpu=gpu)
    with data.temporary_folder() as folder:
        if not absent:
            settings["--data.shards"] = data.generate(
                folder,
                frames=flags.frames,
                image_size=flags.image_size,
                grain=0.0,
                repeat=flags.repeat,
                seed=flags.seed,
                forms=("jpeg",),
            ).jpeg
        measured = measure(_candidates(flags, settings, absent), rounds=flags.rounds, lap=flags.lap, warmup=0.0)
    targets = [
        Target(
            f"{flags.processes} processes over one, efficiency, {stage}",
            (_name(stage, flags.processes),),
            (_name(stage, 1),),
            0.95,
        )
        for stage in flags.stages
    ]
    chosen = {name.lstrip("-"): value for name, value in settings.items()}
    return publish("scaling", flags, measured, targets, chosen=chosen)


def _settings(flags: ScalingFlags, *, gpu: bool) -> dict[str, object]:
    """Return the flags of every run."""
    never = 10**6
    return {
        "--data.batch-size": flags.batch_size or (128 if gpu else 16),
        "--model.backbone": flags.backbone or ("resnet50" if gpu else "resnet18"),
        "--device": "cuda" if gpu else "cpu",
        "--seed": flags.seed,
        "--max-steps": _WARM_UP + flags.steps,
        "--log-every": _WARM_UP,
        "--epochs": never,
        "--validate-every": never,
        # on a CPU each process has a core of its own, or one alone would have them all
        **({} if gpu else {"--data.threads": 1}),
    }


def _candidates(flags: ScalingFlags, settings: dict[str, object], absent: str) -> list[Candidate]:
    return [
        Candidate(
            _name(stage, processes),
            partial(_runs, processes, flags.steps, {**settings, "--stage": stage}),
            group=stage,
            unit="images/s per process",
            absent=absent,
            ours=processes > 1,
        )
        for stage in flags.stages
        for processes in (1, flags.processes)
    ]


def _name(stage: StageName, processes: int) -> str:
    return f"{stage}, {processes} process{'es' if processes > 1 else ''}"


@contextlib.contextmanager
def _runs(processes: int, steps: int, settings: dict[str, object]) -> Iterator[Session]:
    """Train as users do, under torchrun; the run says itself how fast it was after its warm-up."""
    with tempfile.TemporaryDirectory(prefix="benchmark-scaling-") as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        entry = "benchmarks.pinned" if settings["--device"] == "cpu" else "engine.train"
        flags = [str(word) for setting in settings.items() for word in setting]

        def step() -> Timed:
            run_dir = Path(tempfile.mkdtemp(dir=folder))
            command = [sys.executable, *launcher, entry, *flags, "--run-dir", str(run_dir)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Failure(f"training with {processes} processes failed: {done.stderr.strip()[-500:]}")
            rate = json.loads((run_dir / "summary.json").read_text())["images_per_second"] / processes
            items = steps * int(str(settings["--data.batch-size"]))
            return Timed(items, items / rate)

        yield Session(step)


if __name__ == "__main__":
    sys.exit(main())
