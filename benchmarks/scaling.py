"""Data-parallel efficiency: processes side by side against one of them alone: ``python -m benchmarks.scaling``."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import torch

from benchmarks import data
from benchmarks.harness import ROOT, Candidate, Length, Reading, Row, Target, measure, verdicts
from benchmarks.results import publish
from engine.cli.command import OK, command
from engine.device import choose_device
from engine.stages import StageName
from loaders.errors import Failure, InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from models.heatmap_net import Backbone

_WARM_UP: Final = 2
"""Steps that are not measured (steps)."""
_NEVER: Final = 10**6
_ON_ONE_CORE: Final = (
    "import os, sys; "
    "os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ['LOCAL_RANK'])]}); "
    "from engine.train import main; "  # torch counts the cores when it is imported
    "sys.exit(main())"
)


@dataclass(frozen=True, kw_only=True)
class ScalingFlags(data.DataFlags):
    """Flags of ``benchmarks.scaling``. What is 0 or empty is chosen for the device."""

    repetitions: int = 3
    """How often each candidate is measured, in turn with the others (repetitions)."""
    processes: int = 2
    """Processes side by side (processes)."""
    stage: StageName = "train2d"
    """Stage to measure."""
    backbone: Backbone | Literal[""] = ""
    """Backbone of the heatmap network; empty takes resnet18 on a CPU, resnet50 on a GPU."""
    image_size: int = 368
    """Side of the images (pixels); of smaller ones a step is short, and exchanging gradients counts for more."""
    batch_size: int = 0
    """Samples per process and step (samples); 0 takes 16 on a CPU, 128 on a GPU."""
    steps: int = 6
    """Steps of a run that are measured (steps), an even number."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(self, "--", processes=Range(2), steps=Range(_WARM_UP))
        if self.steps % _WARM_UP:  # a run says how fast it was after every so many
            raise InputError(f"--steps is {self.steps}: give a multiple of {_WARM_UP}")


@command("benchmarks.scaling", "Measure data-parallel efficiency.")
def main(flags: ScalingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: ScalingFlags) -> list[Row]:
    """Measure and publish."""
    gpu = choose_device(flags.device).type == "cuda"
    there, unit = (torch.cuda.device_count(), "GPUs") if gpu else (available_cores(), "cores")
    absent = f"needs {flags.processes} {unit}, there are {there}" if there < flags.processes else ""
    settings = _settings(flags, gpu=gpu)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if not absent:
            settings["--data.shards"] = data.generate(flags, Path(folder), grain=0).jpeg
        candidates = [
            Candidate(
                _name(processes),
                partial(_train, processes, flags.steps, settings),
                group=flags.stage,
                unit="images/s per process",
                absent=absent,
            )
            for processes in (1, flags.processes)
        ]
        measured = measure(candidates, Length(), flags.repetitions)
    what = f"{flags.processes} processes over one, efficiency, {flags.stage}"
    target = Target(what, [_name(flags.processes)], [_name(1)], at_least=0.95)
    chosen = {name.lstrip("-"): value for name, value in settings.items()}
    return publish("scaling", flags, measured, verdicts([target], measured, flags.seed), chosen=chosen)


def _name(processes: int) -> str:
    return f"{processes} process{'es' if processes > 1 else ''}"


def _settings(flags: ScalingFlags, *, gpu: bool) -> dict[str, object]:
    """Return the flags of every run."""
    return {
        "--stage": flags.stage,
        "--data.batch-size": flags.batch_size or (128 if gpu else 16),
        "--model.backbone": flags.backbone or ("resnet50" if gpu else "resnet18"),
        "--device": "cuda" if gpu else "cpu",
        "--seed": flags.seed,
        "--max-steps": _WARM_UP + flags.steps,
        "--log-every": _WARM_UP,
        "--epochs": _NEVER,
        "--validate-every": _NEVER,
        # on a CPU each process is bound to one core, or one alone would have them all
        **({} if gpu else {"--data.threads": 1}),
    }


def _train(processes: int, steps: int, settings: Mapping[str, object], _: Length) -> Reading:
    """Train as users do, under torchrun; the run itself says how fast it was after its warm-up."""
    with tempfile.TemporaryDirectory(prefix="benchmark-run-") as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        on_cpu = settings["--device"] == "cpu"
        entry = ["--no-python", sys.executable, "-c", _ON_ONE_CORE] if on_cpu else ["-m", "engine.train"]
        flags = [str(word) for setting in settings.items() for word in setting]
        command_line = [sys.executable, *launcher, *entry, *flags, "--run-dir", folder]
        done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"training with {processes} processes failed: {done.stderr.strip()[-500:]}")
        rate = json.loads((Path(folder) / "summary.json").read_text())["images_per_second"] / processes
        images = steps * int(str(settings["--data.batch-size"]))
        return Reading(images, images / rate)


if __name__ == "__main__":
    sys.exit(main())
