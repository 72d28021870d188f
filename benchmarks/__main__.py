"""Run what suits this machine, in under a quarter of an hour: ``python -m benchmarks``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import loader, memory, scaling, sharding, training
from benchmarks.harness import RESULTS
from benchmarks.results import rows_table
from engine.cli.command import OK, Command, command


@dataclass(frozen=True, kw_only=True)
class AllFlags(Command):
    """Flags of ``benchmarks``."""

    output: Path = RESULTS
    """Folder for the results."""
    quick: bool = False
    """One short repetition of each candidate over few frames: shows that everything runs, measures little."""


@command("benchmarks", "Measure sharding, loading, training, scaling and memory, and compare with the targets.")
def main(flags: AllFlags) -> int:
    """Run all and show their rows in one table."""
    rows = [row for run, settings in benchmarks(flags) for row in run(settings)]
    sys.stdout.write(f"\n{rows_table(rows)}\nresults: {flags.output}\n")
    return OK


def benchmarks(flags: AllFlags) -> list[tuple[Any, Any]]:
    """Return the benchmarks and their flags."""
    output = flags.output
    if flags.quick:
        small: dict[str, Any] = {"output": output, "repetitions": 1, "frames": 8, "image_size": 64}
        once: dict[str, Any] = {"seconds": 0.0, "warmup": 0.0}
        steps: dict[str, Any] = {"batch_size": 4, "steps": 2}
        return [
            (sharding.benchmark, sharding.ShardingFlags(**small, seconds=0.0, repeat=2, pngs=("generated",))),
            (loader.benchmark, loader.LoaderFlags(**small, **once, repeat=4, batch_size=4)),
            (training.benchmark, training.TrainingFlags(**small, **once, **steps, repeat=4, backbones=("resnet18",))),
            (scaling.benchmark, scaling.ScalingFlags(**small, **steps, repeat=16, backbone="resnet18")),
            (memory.benchmark, memory.MemoryFlags(**small, repeat=1, epochs=4, batch_size=4)),
        ]
    few: dict[str, Any] = {"output": output, "repetitions": 3}
    return [
        (sharding.benchmark, sharding.ShardingFlags(**few, seconds=2.0, repeat=8)),
        (loader.benchmark, loader.LoaderFlags(**few, seconds=0.7, warmup=0.5)),
        (training.benchmark, training.TrainingFlags(**few, seconds=2.0, warmup=0.5, steps=2)),
        (scaling.benchmark, scaling.ScalingFlags(output=output, repetitions=2, steps=2)),
        (memory.benchmark, memory.MemoryFlags(output=output, repeat=1)),
    ]


if __name__ == "__main__":
    sys.exit(main())
