"""Seconds until a validation error is reached, ours beside the reference way: ``python -m benchmarks.accuracy``."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from benchmarks import data
from benchmarks.curves.chart import chart
from benchmarks.curves.comparison import Goal, Run, compare
from benchmarks.curves.curve import Task, Way
from benchmarks.curves.ours import Ours
from benchmarks.curves.reference import Reference
from benchmarks.harness import BenchmarkFlags, Candidate, Length, Reading, Row, measure, not_installed
from benchmarks.results import publish
from engine.cli.command import OK, command
from engine.stages import StageName
from loaders.errors import InputError
from loaders.ranges import POSITIVE, Range, check_ranges
from models.heatmap_net import Backbone

_STAGES: Final[tuple[StageName, ...]] = ("train2d", "train3d", "finetune")
_ENVIRONMENTS: Final = 5
"""Of each generated subject, as in the demo."""


@dataclass(frozen=True, kw_only=True)
class AccuracyFlags(BenchmarkFlags):
    """Flags of ``benchmarks.accuracy``."""

    repetitions: int = 3
    """Seeds, with each of which both ways are trained (repetitions)."""
    subjects: int = 21
    """Subjects to train on, each in 5 environments (1 to 21); one more is validated on."""
    frames: int = 6
    """Length of each environment of a subject to train on (frames)."""
    val_frames: int = 20
    """Length of each environment of the subject to validate on (frames)."""
    image_size: int = 128
    """Side of the images (pixels)."""
    backbone: Backbone = "resnet18"
    """Backbone of the heatmap network."""
    epochs: tuple[int, int, int] = (5, 16, 2)
    """Lengths of train2d, train3d and finetune, the demo's (epochs). In train2d and finetune the reference way goes on
    beyond them until the error is reached."""
    error_px: float = 13.2
    """Validation error that train2d is to reach (pixels of the image)."""
    mpjpe_mm: float = 190.0
    """Validation error that the three stages are to reach (mm)."""
    every: int = 160
    """Interval of evaluations, which are off the clock (images)."""
    limit: float = 420.0
    """Where the reference way gives up: longest train2d and longest finetune (seconds)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        whole = dict.fromkeys(("frames", "val_frames", "every"), Range(1))
        real = dict.fromkeys(("error_px", "mpjpe_mm"), POSITIVE)
        check_ranges(self, "--", subjects=Range(1, 21), image_size=Range(32), limit=Range(0), **whole, **real)
        if min(self.epochs) < 1:
            raise InputError(f"--epochs is {' '.join(map(str, self.epochs))}: give at least 1 of each stage")


@command("benchmarks.accuracy", "Measure the seconds until a validation error is reached.")
def main(flags: AccuracyFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: AccuracyFlags) -> list[Row]:
    """Measure and publish."""
    if absent := not_installed("skimage"):
        raise InputError(f"{absent}: pip install scikit-image, with which the reference way reads its frames")
    goals = [Goal(_STAGES[:1], flags.error_px, "px"), Goal(_STAGES, flags.mpjpe_mm, "mm")]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        sharding = _generate(flags, folder)
        trainings = _Trainings(flags, folder)
        candidates = [
            Candidate(goal.candidate(way.name), partial(trainings.reading, way, goal, count(flags.seed)), unit="s")
            for goal in goals
            for way in trainings.ways
        ]
        measured = measure(candidates, Length(), flags.repetitions)
    rows = [row for goal in goals for row in compare(goal, measured, sharding, flags.seed, at_least=10)]
    runs = list(trainings.runs.values())
    return publish(
        "accuracy",
        flags,
        measured,
        rows,
        chosen={"sharding_seconds": round(sharding, 2)},
        more={"curves": [run.values() for run in runs]},
        figure=chart(goals, runs),
    )


def _generate(flags: AccuracyFlags, folder: Path) -> float:
    """Generate frames and shards in ``folder``; return how long it took to shard them (seconds)."""
    lengths = ("--frames-per-subject", flags.frames, "--eval-frames", flags.val_frames)
    subjects = ("--train-subjects", flags.subjects, "--test-subjects", 0, "--environments", _ENVIRONMENTS)
    where = ("--output", folder / "dataset", "--seed", flags.seed, "--modalities", "rgba", "json")
    data.run_tool("tools.synthesize", *where, *lengths, *subjects)
    began = time.monotonic()
    data.shard(folder / "dataset", folder / "shards", "jpeg", flags.image_size)
    return time.monotonic() - began


class _Trainings:
    """Both ways' runs: whatever is to be reached, a seed is trained once."""

    def __init__(self, flags: AccuracyFlags, folder: Path) -> None:
        self._flags = flags
        self.ways: list[Way] = [
            Ours(folder / "shards", folder, flags.backbone, flags.image_size),
            Reference(folder / "dataset", folder / "shards", folder, flags.backbone, flags.image_size),
        ]
        self.runs: dict[tuple[str, int], Run] = {}

    def reading(self, way: Way, goal: Goal, seeds: Iterator[int], _: Length) -> Reading:
        """Return how long the run of the next seed took to reach the goal."""
        seed = next(seeds)
        if (way.name, seed) not in self.runs:
            self.runs[way.name, seed] = self._run(way, seed)
        return self.runs[way.name, seed].reading(goal)

    def _run(self, way: Way, seed: int) -> Run:
        flags, curves = self._flags, {}
        errors = (flags.error_px, None, flags.mpjpe_mm)
        for stage, epochs, error in zip(_STAGES, flags.epochs, errors, strict=True):
            task = Task(stage, epochs, seed, flags.every, error, flags.limit)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                curves[stage] = pool.submit(way.train, task, time.monotonic()).result()
        return Run(way.name, seed, curves)


if __name__ == "__main__":
    sys.exit(main())
