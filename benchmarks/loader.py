"""Images per second of loaders, side by side: ``python -m benchmarks.loader``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import data
from benchmarks.feeds import Feed, candidates, targets
from benchmarks.harness import BenchmarkFlags, at_least, measure
from benchmarks.results import Result, publish
from engine.command import OK, run
from loaders.config import available_cores
from loaders.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LoaderFlags(BenchmarkFlags):
    """Flags of ``benchmarks.loader``."""

    shards: Path | None = None
    """Shard set of JPEG pictures; none generates one, and one of raw pictures."""
    raw_shards: Path | None = None
    """The same frames as raw pictures; with --shards alone, raw loading is not measured."""
    frames: int = 256
    """Size of the generated set (frames)."""
    repeat: int = 16
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    image_size: int = 368
    """Side of the generated pictures (pixels)."""
    batch_size: int = 32
    """Samples of a batch (samples)."""
    threads: int = 0
    """Decoding threads, or worker processes, of each candidate (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, repeat=1, image_size=32, batch_size=1, threads=0)
        if self.raw_shards and not self.shards:
            raise InputError("--raw-shards needs --shards: the same frames as JPEG")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def action(flags: LoaderFlags) -> int:
        benchmark(flags)
        return OK

    return run(LoaderFlags, action, program="benchmarks.loader", description="Measure loaders.", arguments=arguments)


def benchmark(flags: LoaderFlags) -> Result:
    """Measure and publish."""
    threads = flags.threads or available_cores()
    with contextlib.ExitStack() as stack:
        shards, raw_shards = flags.shards, flags.raw_shards
        if shards is None:
            shards, raw_shards = _generate(stack.enter_context(data.temporary_folder()), flags)
        feed = Feed(shards, raw_shards, flags.batch_size, threads, flags.seed)
        measured = measure(candidates(feed), rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup, steps=2)
    return publish("loader", flags, measured, targets(), chosen={"threads": threads})


def _generate(folder: Path, flags: LoaderFlags) -> tuple[Path, Path]:
    """Write generated frames as JPEG and as raw shards."""
    dataset, jpeg, raw = folder / "dataset", folder / "jpeg", folder / "raw"
    data.synthesize(dataset, flags.frames)
    for root, image_format in ((jpeg, "jpeg"), (raw, "raw")):
        data.shard(dataset, root, image_format=image_format, image_size=flags.image_size)
        data.repeat_shards(root, flags.repeat)
    return jpeg, raw


if __name__ == "__main__":
    sys.exit(main())
