"""Images per second of loaders, side by side: ``python -m benchmarks.loader``."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import data
from benchmarks.feeds import Feed, candidates, prepare, targets
from benchmarks.harness import BenchmarkFlags, at_least, measure
from benchmarks.results import Result, publish
from engine.cli.command import OK, command
from loaders import ShardSet
from loaders.errors import InputError
from loaders.system.cores import available_cores


@dataclass(frozen=True, kw_only=True)
class LoaderFlags(BenchmarkFlags):
    """Flags of ``benchmarks.loader``."""

    shards: Path | None = None
    """Shard set of JPEG images; none generates one, and one of raw images."""
    raw_shards: Path | None = None
    """The same frames as raw images; with --shards alone, raw loading is not measured."""
    dataset: Path | None = None
    """Frames as they were extracted, for the reference way; with --shards alone, that way is not measured."""
    warmup: float = 1.5
    """Least time before each lap that is not measured (seconds); an epoch of the generated set, so that touching
    mapped tars for the first time, once in a run, does not count."""
    frames: int = 256
    """Size of the generated set, and the most that is copied for a loader with a format of its own (frames)."""
    repeat: int = 16
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    image_size: int = 368
    """Side of the generated images (pixels)."""
    grain: float = data.GRAIN
    """Standard deviation of the grain in generated images (gray levels); 0 leaves them smooth, with JPEGs of half
    the size of real ones."""
    batch_size: int = 32
    """Samples of a batch (samples)."""
    threads: int = 0
    """Decoding threads, or worker processes, of each candidate (threads); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, repeat=1, image_size=32, grain=0, batch_size=1, threads=0)
        for name in ("raw_shards", "dataset"):
            if getattr(self, name) and not self.shards:
                raise InputError(f"--{name.replace('_', '-')} needs --shards: the same frames as JPEG")


@command("benchmarks.loader", "Measure loaders.")
def main(flags: LoaderFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: LoaderFlags) -> Result:
    """Measure and publish."""
    with data.temporary_folder() as folder:
        feed = _feed(flags, folder)
        prepare(feed)
        kilobytes = _mean_image(feed.frames.jpeg, flags.frames) / 1e3
        first, *others = candidates(feed)
        first = dataclasses.replace(first, note=f"JPEGs of {kilobytes:.0f} kB")
        measured = measure([first, *others], rounds=flags.rounds, lap=flags.lap, warmup=flags.warmup, steps=2)
    chosen = {"threads": feed.threads, "mean JPEG (kB)": round(kilobytes, 1)}
    return publish("loader", flags, measured, targets(), chosen=chosen)


def _feed(flags: LoaderFlags, folder: Path) -> Feed:
    """Return what is measured on: what the flags name, or frames generated in ``folder``."""
    if flags.shards:
        frames = data.Frames(flags.shards, raw=flags.raw_shards, dataset=flags.dataset)
    else:
        frames = data.generate(
            folder,
            frames=flags.frames,
            image_size=flags.image_size,
            grain=flags.grain,
            repeat=flags.repeat,
            seed=flags.seed,
        )
    camera = ShardSet(frames.jpeg, "train").camera
    return Feed(
        frames=frames,
        scratch=folder,
        scratch_samples=flags.frames,
        image_size=min(camera.width, camera.height),
        batch_size=flags.batch_size,
        threads=flags.threads or available_cores(),
        seed=flags.seed,
    )


def _mean_image(shards: Path, samples: int) -> float:
    """Return the mean size of the first images of a shard set (bytes)."""
    shard_set = ShardSet(shards, "train")
    first = shard_set.read(range(min(samples, len(shard_set))), shard_set.manifest.image_member or "")
    return sum(len(image) for image in first) / len(first)


if __name__ == "__main__":
    sys.exit(main())
