"""Frames per second of sharding, beside decoding alone: ``python -m benchmarks.sharding``."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from benchmarks import data
from benchmarks.harness import BenchmarkFlags, Candidate, Measured, Session, Target, Timed, at_least, measure
from benchmarks.results import Projection, Result, publish
from engine.command import OK, run
from loaders.config import available_cores
from tools.dataset import SET_FOLDERS

FRAMES: Final = 380_000
"""Size of the whole data set (frames)."""
_CLUSTER_CORES: Final = 32


@dataclass(frozen=True, kw_only=True)
class ShardingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.sharding``."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    frames: int = 64
    """Generated frames (frames)."""
    repeat: int = 8
    """How often they are strung together, as further environments (times)."""
    components: tuple[Literal["rgba", "json", "worldp"], ...] = ("rgba", "json")
    """What a sample holds beside its labels; each picture among them is decoded once."""
    image_format: Literal["jpeg", "png", "raw"] = "jpeg"
    """Form of the stored pictures."""
    image_size: int = 368
    """Side of the stored pictures (pixels)."""
    threads: int = 0
    """Cores to use (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, repeat=1, image_size=32, threads=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def action(flags: ShardingFlags) -> int:
        benchmark(flags)
        return OK

    return run(
        ShardingFlags, action, program="benchmarks.sharding", description="Measure sharding.", arguments=arguments
    )


def benchmark(flags: ShardingFlags) -> Result:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    with data.temporary_folder() as folder:
        few, many = folder / "few", folder / "many"
        data.synthesize(few, flags.frames, flags.components)
        _repeat(few, many, flags.repeat)
        pictures = sorted(path for part in set(flags.components) - {"json"} for path in many.rglob(f"{part}/*.png"))
        group = f"{' + '.join(flags.components)} of 1280x800 frames"
        samples = len(list(many.rglob("json/*.json")))
        decoders = {"cv2": ("cv2",), "imagecodecs": ("imagecodecs",)}
        found = [
            Candidate(
                "tools.shard",
                partial(_sharding, folder, samples, cores, flags),
                group,
                "frames/s",
                note="start-up taken out by the difference of a long and a short run",
                ours=True,
            ),
            *(
                Candidate(
                    f"{name}, decoding alone",
                    partial(_decoding, name, pictures, len(pictures) / samples, cores),
                    group,
                    "frames/s",
                    needs,
                )
                for name, needs in decoders.items()
            ),
        ]
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=0.0)
    decoding = tuple(candidate.name for candidate in found[1:])
    targets = [
        Target("sharding over the fastest PNG decoding alone, all cores", ("tools.shard",), decoding, 0.85),
        Target("sharding over OpenCV's PNG decoding alone, which it uses", ("tools.shard",), decoding[:1]),
    ]
    chosen = {"threads": cores, "frames_sharded": samples}
    return publish("sharding", flags, measured, targets, chosen=chosen, projections=[_whole(measured[0], cores)])


def _whole(sharding: Measured, cores: int) -> Projection:
    return Projection(
        f"sharding {FRAMES:,} frames on {_CLUSTER_CORES} cores",
        FRAMES / (sharding.median / cores * _CLUSTER_CORES) / 3600,
        "hours",
        f"the rate per core stays that of {cores} cores, and disks keep up",
    )


def _repeat(root: Path, output: Path, times: int) -> None:
    """Write the training recordings so many times, as further environments, out of hard links."""
    for recording in sorted((root / SET_FOLDERS["train"]).glob("*/env_*")):
        for number in range(1, times + 1):
            copy = output / recording.relative_to(root).with_name(f"env_{number:03d}")
            shutil.copytree(recording, copy, copy_function=os.link)


@contextlib.contextmanager
def _sharding(folder: Path, samples: int, cores: int, flags: ShardingFlags) -> Iterator[Session]:
    """The command over many frames and over few; the difference is the work without the start-up."""
    few, many, output = folder / "few", folder / "many", folder / "shards"
    form = ("--components", *flags.components, "--image-format", flags.image_format, "--image-size", flags.image_size)
    sizes = ("--samples-per-shard", max(1, samples // (4 * cores)), "--workers", cores, "--split", "train")
    read = sum(path.stat().st_size for path in many.rglob("*.*") if path.is_file())
    latest: dict[str, float] = {}

    def seconds(root: Path) -> float:
        start = time.perf_counter()
        data.run_tool("tools.shard", "--root", root, "--output", output, *form, *sizes)
        passed = time.perf_counter() - start
        latest["bytes written per byte read"] = sum(path.stat().st_size for path in output.rglob("*.tar")) / read
        shutil.rmtree(output)
        return passed

    def step() -> Timed:
        short, long = seconds(few), seconds(many)
        latest["frames/s with start-up"] = samples / long
        fewer = samples - samples // flags.repeat
        return Timed(fewer, long - short)

    yield Session(step, figures=lambda: latest)


@contextlib.contextmanager
def _decoding(package: str, pictures: Sequence[Path], per_frame: float, cores: int) -> Iterator[Session]:
    """Reading and decoding, nothing else, on threads that hold no lock."""
    module = importlib.import_module(package)
    cv2.setNumThreads(1)
    files = itertools.cycle(pictures)
    block = max(1, round(16 * cores * per_frame))

    def decode(path: Path) -> None:
        content = path.read_bytes()
        if package == "cv2":
            cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        else:
            module.png_decode(content)

    with ThreadPoolExecutor(cores) as pool:

        def step() -> int:
            list(pool.map(decode, itertools.islice(files, block)))
            return round(block / per_frame)

        yield Session(step)


if __name__ == "__main__":
    sys.exit(main())
