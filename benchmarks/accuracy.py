"""Seconds until a validation error is reached, ours beside the reference way: ``python -m benchmarks.accuracy``."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
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
from benchmarks.curves.curve import Curve, Task, Way
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
    subjects: int = 20
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
    """Lengths of train2d, train3d and finetune (epochs), the demo's. In train2d and finetune the reference way goes on
    beyond them until the error is reached."""
    error_px: float = 13.9
    """Validation error that train2d is to reach (pixels of the image): where the worst of three seeds of ours ends."""
    mpjpe_mm: float = 196.0
    """Validation error that the three stages are to reach (mm), chosen in the same way; to say the mean pose is off by
    246."""
    every: int = 200
    """Interval of evaluations, which are off the clock (images)."""
    limits: tuple[float, float] = (10.1, 10.1)
    """Where the reference way gives up, for train2d and for all stages (times the seconds that ours took); its epochs
    it does in any case."""

    curves: Path | None = None
    """Earlier result (accuracy.json of the same flags) whose curves are held against these errors; none trains."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        whole = dict.fromkeys(("frames", "val_frames", "every"), Range(1))
        real = dict.fromkeys(("error_px", "mpjpe_mm"), POSITIVE)
        check_ranges(self, "--", subjects=Range(1, 21), image_size=Range(32), **whole, **real)
        if min(self.limits) < 0:
            raise InputError(f"--limits is {' '.join(map(str, self.limits))}: give at least 0 of each")
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
        trainings = Trainings(flags, goals, Path(name))
        sharding = trainings.read(flags.curves) if flags.curves else _generate(flags, Path(name))
        candidates = [
            Candidate(goal.candidate(way.name), partial(trainings.reading, way, goal, count(flags.seed)), unit="s")
            for goal in goals
            for way in trainings.ways
        ]
        measured = measure(candidates, Length(), flags.repetitions)
    rows = [row for goal in goals for row in compare(goal, measured, sharding, flags.seed, at_least=10)]
    return publish(
        "accuracy",
        flags,
        measured,
        rows,
        chosen={"sharding_seconds": round(sharding, 2)},
        more={"curves": [run.values() for run in trainings.runs]},
        figure=chart(goals, trainings.runs),
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


class Trainings:
    """Both ways' runs: whatever is to be reached, a seed is trained once."""

    def __init__(self, flags: AccuracyFlags, goals: Sequence[Goal], folder: Path) -> None:
        self._flags = flags
        self._goals = {goal.stages[-1]: (goal, limit) for goal, limit in zip(goals, flags.limits, strict=True)}
        self._ours = Ours(folder / "shards", folder, flags.backbone, flags.image_size)
        frames = (folder / "dataset", folder / "shards")
        self.ways: list[Way] = [self._ours, Reference(*frames, folder, flags.backbone, flags.image_size)]
        self._runs: dict[tuple[str, int], Run] = {}

    @property
    def runs(self) -> list[Run]:
        """All there are."""
        return list(self._runs.values())

    def read(self, path: Path) -> float:
        """Take the runs of an earlier result; return how long it took to shard its frames (seconds)."""
        content = json.loads(path.read_text(encoding="utf-8"))
        self._runs = {(run.way, run.seed): run for run in map(Run.of, content["curves"])}
        seeds = range(self._flags.seed, self._flags.seed + self._flags.repetitions)
        if absent := {(way.name, seed) for way in self.ways for seed in seeds} - self._runs.keys():
            raise InputError(f"{path} has no run of {absent}: give the --seed and --repetitions that it was made with")
        sharding: float = content["configuration"]["sharding_seconds"]
        return sharding

    def reading(self, way: Way, goal: Goal, seeds: Iterator[int], _: Length) -> Reading:
        """Return how long the run of the next seed took to reach the goal."""
        return self._run(way, next(seeds)).reading(goal)

    def _run(self, way: Way, seed: int) -> Run:
        if (way.name, seed) not in self._runs:
            curves: dict[StageName, Curve] = {}
            for stage, epochs in zip(_STAGES, self._flags.epochs, strict=True):
                error, limit = None, 0.0
                if stage in self._goals:
                    goal, times = self._goals[stage]
                    error = goal.error
                    if way is not self._ours:  # ours ends with its epochs
                        spent = sum(curve.end.seconds for curve in curves.values())
                        limit = times * self._run(self._ours, seed).reading(goal).items - spent
                task = Task(stage, epochs, seed, self._flags.every, error, limit)
                curves[stage] = train_in_new_process(way, task)
            self._runs[way.name, seed] = Run(way.name, seed, curves)
        return self._runs[way.name, seed]


def train_in_new_process(way: Way, task: Task) -> Curve:
    """Train a stage; its clock begins with its process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(way.train, task, time.monotonic()).result()


if __name__ == "__main__":
    sys.exit(main())
