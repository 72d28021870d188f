"""Memory of loader processes over many epochs: ``python -m benchmarks.memory``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import data, machine
from benchmarks.harness import RESULTS, Row, at_least, not_installed, plain
from benchmarks.plot import draw_series
from benchmarks.resident import SIZES
from benchmarks.results import heading, rows_table, table, write_result
from benchmarks.statistics import slope
from engine.cli.command import OK, Command, command
from engine.cli.progress import progress_bar
from loaders.errors import InputError
from loaders.system.cores import available_cores

MOST: Final = 1.5
"""What a loader process may hold at its peak (GiB)."""
_TAIL: Final = 15
"""Last epochs, over which growth is looked for (epochs)."""
_SETTLED: Final = 300
"""Least batches in them: freed batches stay with the allocator, and how many do wanders for the first hundred."""


@dataclass(frozen=True, kw_only=True)
class MemoryFlags(Command):
    """Flags of ``benchmarks.memory``."""

    shards: Path | None = None
    """Shard set of JPEG images; none generates one, and one of raw images."""
    raw_shards: Path | None = None
    """Shard set of raw images; with --shards alone, raw loading is not measured."""
    frames: int = 96
    """Size of the generated set (frames)."""
    repeat: int = 8
    """How often the generated set is strung together (times)."""
    epochs: int = 20
    """Epochs of each process (epochs)."""
    image_size: int = 368
    """Side of the generated images (pixels)."""
    grain: float = data.GRAIN
    """Standard deviation of the grain in generated images (gray levels)."""
    batch_size: int = 32
    """Samples of a batch (samples)."""
    threads: int = 0
    """Decoding threads of each process (threads); 0 takes all cores."""
    seed: int = 0
    """Of order, augmentation and grain (integer)."""
    output: Path = RESULTS
    """Folder for the result: json, md and png."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(self, frames=4, repeat=1, epochs=4, image_size=32, grain=0, batch_size=1, threads=0, seed=0)
        if self.raw_shards and not self.shards:
            raise InputError("--raw-shards needs --shards")


@dataclass(frozen=True)
class Process:
    """What one process held."""

    name: str
    absent: str = ""
    batches: int = 0
    """Of an epoch (batches)."""
    series: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    """resident, proportional and anonymous, after each epoch (MiB)."""
    peak: float = 0.0
    """Most that was resident at any time (MiB)."""
    tars: float = 0.0
    """Mapped shards that were resident in the end (MiB)."""

    @property
    def tail(self) -> int:
        """How many of the last epochs tell of growth (epochs)."""
        return min(_TAIL, len(self.series["resident"]) - 1)

    def growth(self, kind: str) -> tuple[float, float]:
        """Return how much a size grew, and the standard error of that (MiB per epoch)."""
        return slope(self.series[kind][-self.tail :])


@command("benchmarks.memory", "Measure loaders' memory.")
def main(flags: MemoryFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: MemoryFlags) -> Sequence[Row]:
    """Measure, publish, and return the rows."""
    if flags.shards is not None:
        return _publish(flags, _measure(flags, flags.shards, flags.raw_shards))
    with data.temporary_folder() as folder:
        found = data.generate(
            folder,
            frames=flags.frames,
            image_size=flags.image_size,
            grain=flags.grain,
            repeat=flags.repeat,
            seed=flags.seed,
            forms=("jpeg", "raw"),
        )
        return _publish(flags, _measure(flags, found.jpeg, found.raw))


def _measure(flags: MemoryFlags, shards: Path, raw_shards: Path | None) -> list[Process]:
    kinds = [(backend, stored) for stored in ("JPEG", "raw") for backend in ("dali", "torch")]
    processes = []
    with progress_bar(total=len(kinds), unit="process") as bar:
        for backend, stored in kinds:
            bar.set_description(f"{backend} {stored}")
            root = shards if stored == "JPEG" else raw_shards
            processes.append(_process(flags, f"{backend} {stored}", backend, root))
            bar.update()
    return processes


def _process(flags: MemoryFlags, name: str, backend: str, root: Path | None) -> Process:
    """Run one process to its end."""
    if root is None:
        return Process(name, "no raw shards given")
    if not SIZES.exists():
        return Process(name, "the system keeps no account of a process's pages")
    if backend == "dali" and (absent := not_installed("nvidia.dali")):
        return Process(name, absent)
    options = {
        "--backend": backend,
        "--epochs": flags.epochs,
        "--batch-size": flags.batch_size,
        "--threads": flags.threads or available_cores(),
        "--seed": flags.seed,
    }
    words = [word for option in options.items() for word in option]
    found = json.loads(data.run_tool("benchmarks.resident", "--shards", root.resolve(), *words))
    return Process(name, **found)


def _publish(flags: MemoryFlags, processes: Sequence[Process]) -> list[Row]:
    rows = _judge(processes)
    content: dict[str, Any] = {
        "benchmark": "memory",
        **machine.origin("benchmarks.memory"),
        "configuration": plain(dataclasses.asdict(flags)),
        "unit": "MiB",
        "processes": [_plain(one) for one in processes],
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    shown = _sizes_table(processes) + "\n" + rows_table(content["rows"])
    page = [
        *heading("Memory of a loader process", content),
        "![memory](memory.png)",
        "",
        f"{flags.epochs} epochs of training, augmented. Resident holds the mapped tars as well, page cache that the "
        "kernel takes back; proportional divides what processes share; anonymous is the process's own. Growth is the "
        f"slope over the last {_TAIL} epochs, never the first, with its standard error.",
        "",
        shown,
    ]
    write_result(flags.output, content, "\n".join(page))
    draw_series(content, flags.output / "memory.png")
    sys.stdout.write(shown)
    return rows


def _judge(processes: Sequence[Process]) -> list[Row]:
    """Return the worst of what was measured: the peak, which has a target, and the growth."""
    peak, growth = "memory of a loader process at its peak, GiB", "growth of its own memory, MiB per epoch"
    present = [one for one in processes if not one.absent]
    if not present:
        reason = "; ".join(f"{one.name}: {one.absent}" for one in processes)
        return [Row(what, "", "", None, None, None, None, "not measured", reason) for what in (peak, growth)]
    largest = max(present, key=lambda one: one.peak)
    most = largest.peak / 1024
    verdict = "met" if most <= MOST else "missed"
    judged = Row(peak, largest.name, "", most, most, most, None, verdict, at_most=MOST)
    if (seen := min(one.tail * one.batches for one in present)) < _SETTLED:
        reason = f"{seen} batches do not tell it from the allocator's ups and downs: python -m benchmarks.memory"
        return [judged, Row(growth, "", "", None, None, None, None, "not measured", reason)]
    fastest = max(present, key=lambda one: one.growth("anonymous"))
    rate, error = fastest.growth("anonymous")
    return [judged, Row(growth, fastest.name, "", rate, rate - 2 * error, rate + 2 * error, None, "")]


def _plain(one: Process) -> dict[str, Any]:
    """Return a process as JSON can hold it; numbers are rounded to what they can mean."""
    if one.absent:
        return {"name": one.name, "absent": one.absent}
    return {
        "name": one.name,
        "absent": "",
        "batches": one.batches,
        "peak": round(one.peak, 1),
        "tars": round(one.tars, 2),
        "growth": {kind: [round(value, 4) for value in one.growth(kind)] for kind in one.series},
        "series": {kind: [round(value, 2) for value in values] for kind, values in one.series.items()},
    }


def _sizes_table(processes: Sequence[Process]) -> str:
    def found(one: Process) -> tuple[str, ...]:
        if one.absent:
            return (one.name, f"did not run: {one.absent}", *[""] * 6)
        growths = [f"{rate:+.3f} ± {error:.3f}" for rate, error in map(one.growth, ("resident", "anonymous"))]
        last = [f"{one.series[kind][-1]:,.0f}" for kind in ("resident", "proportional", "anonymous")]
        return (one.name, f"{one.peak:,.0f}", *last, f"{one.tars:,.0f}", *growths)

    head = ("process", "peak (MiB)", "resident at the end", "proportional", "anonymous", "mapped tars")
    return table((*head, "resident, per epoch", "anonymous, per epoch"), [found(one) for one in processes])


if __name__ == "__main__":
    sys.exit(main())
