"""Data-parallel efficiency: processes side by side against one of them alone: ``python -m benchmarks.scaling``.

Where runs that do not know of each other slow each other as well, a joint run can be no faster than the slower one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
_FIRST_CORE: Final = "BENCHMARK_FIRST_CORE"
_ON_ONE_CORE: Final = (
    "import os, sys; "
    f"core = int(os.environ['LOCAL_RANK']) + int(os.environ['{_FIRST_CORE}']); "
    "os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]}); "
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
        one, joint, apart = "1 process", f"{flags.processes} processes", f"{flags.processes} independent runs"
        candidates = [
            Candidate(
                name,
                partial(_train, runs, processes, flags.steps, settings),
                group=flags.stage,
                unit="images/s per process",
                absent=absent,
                note="the slower one" if runs > 1 else "",
            )
            for name, runs, processes in ((one, 1, 1), (joint, 1, flags.processes), (apart, flags.processes, 1))
        ]
        measured = measure(candidates, Length(), flags.repetitions)
    targets = [
        Target(f"{joint} over one, efficiency, {flags.stage}", [joint], [one], at_least=0.95),
        Target(f"{joint} over the slower of {apart}, {flags.stage}", [joint], [apart], at_least=0.98),
    ]
    chosen = {name.lstrip("-"): value for name, value in settings.items()}
    return publish("scaling", flags, measured, either(verdicts(targets, measured, flags.seed)), chosen=chosen)


def either(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one target that is met if any of them is."""
    if not any(row.verdict == "met" for row in rows):
        return list(rows)
    return [
        dataclasses.replace(row, verdict="met", reason="by the other ratio") if row.verdict == "missed" else row
        for row in rows
    ]


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


def _train(runs: int, processes: int, steps: int, settings: Mapping[str, object], _: Length) -> Reading:
    """Do so many runs at once, each of so many processes; the slowest one counts."""
    with ThreadPoolExecutor(runs) as pool:
        rate = min(pool.map(partial(_rate, processes, settings), range(runs)))
    images = steps * int(str(settings["--data.batch-size"]))
    return Reading(images, images / rate)


def _rate(processes: int, settings: Mapping[str, object], number: int) -> float:
    """Train as users do, under torchrun, on the core or GPU of that number and those that follow.

    Returns:
        What the run itself says of its speed after its warm-up (images/s per process).
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-run-") as folder:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if settings["--device"] == "cpu":
            entry, where = ["--no-python", sys.executable, "-c", _ON_ONE_CORE], {_FIRST_CORE: str(number)}
        else:
            gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
            entry, where = ["-m", "engine.train"], {"CUDA_VISIBLE_DEVICES": ",".join(gpus.split(",")[number:])}
        flags = [str(word) for setting in settings.items() for word in setting]
        command_line = [sys.executable, *launcher, *entry, *flags, "--run-dir", folder]
        environment = {**os.environ, **where}
        done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise Failure(f"training with {processes} processes failed: {done.stderr.strip()[-500:]}")
        rate: float = json.loads((Path(folder) / "summary.json").read_text())["images_per_second"]
        return rate / processes


if __name__ == "__main__":
    sys.exit(main())
