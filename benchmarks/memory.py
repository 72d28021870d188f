"""Memory of loader processes over many epochs: ``python -m benchmarks.memory``."""

from __future__ import annotations

import contextlib
import math
import re
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any, Final

from benchmarks import data
from benchmarks.harness import Candidate, Length, Measured, Reading, Row, Target, measure, verdicts
from benchmarks.results import publish
from engine.cli.command import OK, command
from loaders import DataConfig, build_loader
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges

PROCESS: Final = Path("/proc/self/status")
"""Where Linux tells what a process holds."""
_TAIL: Final = 15
"""Last epochs, over which growth is looked for (epochs)."""
_SETTLED: Final = 300
"""Least batches in them: freed batches stay with the allocator, and how many do varies for the first hundred."""
_GROWTH: Final = "growth, MiB per epoch"
_ERROR: Final = "its standard error"
_BATCHES: Final = "batches that tell of growth"


@dataclass(frozen=True, kw_only=True)
class MemoryFlags(data.DataFlags):
    """Flags of ``benchmarks.memory``."""

    repetitions: int = 1
    """Processes of each kind (repetitions)."""
    shards: Path | None = None
    """Shard set of JPEG images; none generates one, and one of raw images."""
    raw_shards: Path | None = None
    """Shard set of raw images; with --shards alone, raw loading is not measured."""
    repeat: int = 6
    """How often the generated set is strung together (times)."""
    epochs: int = 20
    """Epochs of each process (epochs)."""
    threads: int = 0
    """Decoding threads of each process (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(self, "--", epochs=Range(4), threads=Range(0))
        if self.raw_shards and not self.shards:
            raise InputError("--raw-shards needs --shards")


@command("benchmarks.memory", "Measure the memory of loaders.")
def main(flags: MemoryFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: MemoryFlags) -> list[Row]:
    """Measure and publish."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if flags.shards:
            frames = data.Frames(flags.shards, raw=flags.raw_shards)
        else:
            frames = data.generate(flags, Path(folder), storages=("jpeg", "raw"))
        measured = measure(_candidates(flags, frames), Length(), flags.repetitions)
    peak = Target("memory of a loader process at its peak (GiB)", [one.candidate.name for one in measured], at_most=1.5)
    return publish("memory", flags, measured, [*verdicts([peak], measured, flags.seed), growth(measured)], chosen={})


def _candidates(flags: MemoryFlags, frames: data.Frames) -> list[Candidate]:
    no_account = "" if PROCESS.exists() else "the system keeps no account of a process's memory"
    found = []
    for storage, root in (("JPEG", frames.jpeg), ("raw", frames.raw)):
        for backend, needs in (("dali", ("nvidia.dali",)), ("torch", ())):
            options: dict[str, Any] = {"backend": backend, "batch_size": flags.batch_size, "threads": flags.threads}
            config = DataConfig(shards=root or frames.jpeg, seed=flags.seed, augment=data.AUGMENT, **options)
            found.append(
                Candidate(
                    f"{backend} {storage}",
                    partial(_load, config, flags.epochs),
                    group=f"{flags.epochs} epochs, augmented, in a process of its own",
                    unit="GiB",
                    needs=needs,
                    absent=no_account or ("" if root else "no raw shards given"),
                )
            )
    return found


def _load(config: DataConfig, epochs: int, _: Length) -> Reading:
    """Load in a new process; the reading's rate is the most that it held (GiB)."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        peak, own, batches = pool.submit(sizes_of_loading, config, epochs).result()
    tail = min(_TAIL, epochs - 1)
    slope, error = slope_and_error(own[-tail:])
    figures = {_GROWTH: slope, _ERROR: error, "own memory at the end, MiB": own[-1], _BATCHES: tail * batches}
    return Reading(peak / 1024, 1.0, figures)


def sizes_of_loading(config: DataConfig, epochs: int) -> tuple[float, list[float], int]:
    """Load so many epochs in this process.

    Returns:
        The most that was resident at any time, mapped shards included (MiB); the process's own memory after each epoch
        (MiB); the batches of an epoch.
    """
    with contextlib.closing(build_loader(config, "train", training=True)) as loader:
        batches, own = len(loader), []
        for _ in range(epochs):
            deque(loader, maxlen=0)
            own.append(_mebibytes("RssAnon"))
    return _mebibytes("VmHWM"), own, batches


def _mebibytes(field: str) -> float:
    """Return a field of the kernel's account, which is in KiB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", PROCESS.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        raise OSError(f"{PROCESS} has no {field}")
    return int(found[1]) / 1024


def slope_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the least-squares slope of at least three equally spaced values, per step, and its standard error."""
    steps = range(len(values))
    slope, intercept = linear_regression(steps, values)
    rest = sum((value - intercept - slope * step) ** 2 for step, value in zip(steps, values, strict=True))
    spread = sum((step - fmean(steps)) ** 2 for step in steps)
    return slope, math.sqrt(rest / (len(values) - 2) / spread)


def growth(measured: Sequence[Measured]) -> Row:
    """Return the fastest growth of a process's own memory, twice its standard error around it."""
    what = "growth of a loader process's own memory (MiB per epoch)"
    present = [one for one in measured if one.rates]
    if not present:
        return Row(what, reason="; ".join(f"{one.candidate.name}: {one.absent}" for one in measured))
    if (batches := min(one.figures[_BATCHES][0] for one in present)) < _SETTLED:
        return Row(what, reason=f"{batches:.0f} batches are too few to tell: python -m benchmarks.memory")
    fastest = max(present, key=lambda one: one.figures[_GROWTH][0])
    rate, error = fastest.figures[_GROWTH][0], fastest.figures[_ERROR][0]
    return Row(what, fastest.candidate.name, "", rate, rate - 2 * error, rate + 2 * error, verdict="")


if __name__ == "__main__":
    sys.exit(main())
