"""Run what suits this machine, in under a quarter of an hour: ``python -m benchmarks``."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import extraction, loader, memory, scaling, sharding, training
from benchmarks.harness import RESULTS
from benchmarks.results import rows_table
from engine.cli.command import OK, Command, command


@dataclass(frozen=True, kw_only=True)
class AllFlags(Command):
    """Flags of ``benchmarks``."""

    output: Path = RESULTS
    """Folder for the results."""
    quick: bool = False
    """One short lap of each candidate over few frames: shows that everything runs, measures little."""


@command(
    "benchmarks",
    "Measure unpacking, sharding, loading, memory, training and scaling, and compare with the targets.",
)
def main(flags: AllFlags) -> int:
    """Run all and show their rows in one table."""
    results = [
        extraction.benchmark(_extraction(flags)),
        sharding.benchmark(_sharding(flags)),
        loader.benchmark(_loader(flags)),
        training.benchmark(_training(flags)),
        scaling.benchmark(_scaling(flags)),
    ]
    found = [*(row for result in results for row in result.rows), *memory.benchmark(_memory(flags))]
    rows = [dataclasses.asdict(row) for row in found]
    sys.stdout.write(f"\n{rows_table(rows)}\nresults: {flags.output}\n")
    return OK


def _extraction(flags: AllFlags) -> extraction.ExtractionFlags:
    if not flags.quick:
        return extraction.ExtractionFlags(output=flags.output)
    return extraction.ExtractionFlags(output=flags.output, rounds=1, lap=0.0, frames=4, repeat=2)


def _sharding(flags: AllFlags) -> sharding.ShardingFlags:
    if not flags.quick:
        return sharding.ShardingFlags(output=flags.output, lap=2.0, repeat=8)
    return sharding.ShardingFlags(
        output=flags.output, rounds=1, lap=0.0, frames=8, repeat=2, kinds=("generated",), image_size=64
    )


def _loader(flags: AllFlags) -> loader.LoaderFlags:
    if not flags.quick:
        return loader.LoaderFlags(output=flags.output, rounds=3, lap=0.7, warmup=0.5, frames=128, repeat=32)
    return loader.LoaderFlags(
        output=flags.output, rounds=1, lap=0.0, warmup=0.0, frames=8, repeat=4, image_size=64, batch_size=4
    )


def _training(flags: AllFlags) -> training.TrainingFlags:
    if not flags.quick:
        return training.TrainingFlags(output=flags.output, rounds=3, lap=2.0, warmup=0.5, steps=2, frames=64, repeat=64)
    return training.TrainingFlags(
        output=flags.output,
        rounds=1,
        lap=0.0,
        warmup=0.0,
        frames=8,
        repeat=4,
        backbones=("resnet18",),
        image_size=64,
        batch_size=4,
        steps=1,
    )


def _scaling(flags: AllFlags) -> scaling.ScalingFlags:
    if not flags.quick:
        return scaling.ScalingFlags(output=flags.output, rounds=2, steps=2)
    return scaling.ScalingFlags(
        output=flags.output, rounds=1, frames=8, repeat=16, image_size=64, batch_size=4, steps=2, backbone="resnet18"
    )


def _memory(flags: AllFlags) -> memory.MemoryFlags:
    if not flags.quick:
        return memory.MemoryFlags(output=flags.output, repeat=1)
    return memory.MemoryFlags(output=flags.output, frames=8, repeat=1, epochs=4, image_size=64, batch_size=4)


if __name__ == "__main__":
    sys.exit(main())
