"""Frames per second of sharding, beside Pillow on every core: ``python -m benchmarks.sharding``."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from benchmarks import data
from benchmarks.harness import (
    BenchmarkFlags,
    Candidate,
    Length,
    Reading,
    Row,
    Steps,
    Target,
    measure,
    run_steps,
    verdicts,
)
from benchmarks.results import publish
from engine.cli.command import OK, command
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

Pngs = Literal["generated", "libpng RGBA"]

_SHORT_RUN: Final = 6
"""How much shorter than the long run the short one is (times)."""
_BLOCK: Final = 8
"""Frames that a process of Pillow's takes at a time (frames)."""


@dataclass(frozen=True, kw_only=True)
class ShardingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.sharding``."""

    repetitions: int = 3
    """How often each candidate is measured, in turn with the others (repetitions)."""
    seconds: float = 1.0
    """Least time of a repetition (seconds)."""
    frames: int = 64
    """Generated frames (frames)."""
    repeat: int = 24
    """How often they are strung together, as further environments (times)."""
    pngs: tuple[Pngs, ...] = ("generated", "libpng RGBA")
    """PNGs as tools.synthesize writes them, fast and with one filter; as libpng does by default, like most programs."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    threads: int = 0
    """Cores to use (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(
            self, "--", seconds=Range(0), frames=Range(4), repeat=Range(1), image_size=Range(32), threads=Range(0)
        )


@command("benchmarks.sharding", "Measure sharding.")
def main(flags: ShardingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: ShardingFlags) -> list[Row]:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    candidates: list[Candidate] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        generated = Path(folder) / "generated" / "frames"
        data.synthesize(generated, flags.frames)
        for pngs in flags.pngs:
            frames, few, many = (Path(folder) / pngs / name for name in ("frames", "few", "many"))
            if pngs == "libpng RGBA":
                _rewrite(generated, frames)
            _repeat(frames, few, max(1, flags.repeat // _SHORT_RUN))
            _repeat(frames, many, flags.repeat)
            candidates += _candidates(few, many, pngs, cores, flags.image_size)
        measured = measure(candidates, Length(flags.seconds, warmup=0.1), flags.repetitions)
    targets = [
        Target(f"sharding over Pillow on every core, PNGs {pngs}", (f"tools.shard, {pngs}",), (f"Pillow, {pngs}",), 1.0)
        for pngs in flags.pngs
    ]
    return publish("sharding", flags, measured, verdicts(targets, measured, flags.seed), chosen={"threads": cores})


def _candidates(few: Path, many: Path, pngs: Pngs, cores: int, image_size: int) -> list[Candidate]:
    images = sorted(many.rglob("rgba/*.png"))
    group = f"rgba and json of 1280x800 frames, PNGs {pngs}"
    note = "start-up taken out by the difference of a long and a short run"
    sharding = partial(_shard, few, many, cores, image_size)
    pillow = partial(run_steps, partial(_pillow, images, cores, image_size))
    return [
        Candidate(f"tools.shard, {pngs}", sharding, group, "frames/s", note=note),
        Candidate(f"Pillow, {pngs}", pillow, group, "frames/s"),
    ]


def _rewrite(root: Path, output: Path) -> None:
    """Copy a dataset's training part, with PNGs as most programs write them: libpng's filters, zlib's level 6, RGBA."""
    for path in root.glob("TrainSet/*/*/cam_down/*/*"):
        copy = output / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "rgba":
            Image.open(path).convert("RGBA").save(copy)
        else:
            copy.hardlink_to(path)


def _repeat(root: Path, output: Path, times: int) -> None:
    """Write the training recordings so many times, as further environments, out of hard links."""
    for recording in sorted(root.glob("TrainSet/*/env_*")):
        for number in range(1, times + 1):
            copy = output / recording.relative_to(root).with_name(f"env_{number:03d}")
            shutil.copytree(recording, copy, copy_function=os.link)


def _shard(few: Path, many: Path, cores: int, image_size: int, length: Length) -> Reading:
    """Run the command over many frames and over few; the difference is the work without the start-up."""
    output = many.with_name("shards")
    least, samples = (len(list(root.rglob("json/*.json"))) for root in (few, many))
    # so many shards that every core has one in the short run too
    sizes = ("--image-size", image_size, "--samples-per-shard", max(1, least // cores), "--workers", cores)
    what = ("--components", "rgba", "json", "--split", "train", *sizes)

    def seconds(root: Path) -> float:
        begin = length.clock()
        data.run_tool("tools.shard", "--dataset", root, "--output", output, *what)
        passed = length.clock() - begin
        shutil.rmtree(output)
        return passed

    items, measured, with_start_up = 0, 0.0, 0.0
    while not items or measured < length.seconds:
        short, long = seconds(few), seconds(many)
        items += samples - least
        # of so few frames that noise hides the difference, both runs count: too slow a rate, not a negative one
        measured += long - short if long > short else long + short
        with_start_up = samples / long
    return Reading(items, measured, {"frames/s with start-up": with_start_up})


@contextmanager
def _pillow(images: Sequence[Path], cores: int, image_size: int) -> Iterator[Steps]:
    """Pillow in a process on each core: decode, crop, resize, encode; nothing is written."""
    files = itertools.cycle(images)
    resave = partial(_resave, image_size)
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        yield Steps(lambda: sum(pool.map(resave, [list(itertools.islice(files, _BLOCK)) for _ in range(4 * cores)])))


def _resave(size: int, paths: Sequence[Path]) -> int:
    for path in paths:
        # BOX is Pillow's fastest filter that averages
        square = Image.open(path).convert("RGB").crop((240, 0, 1040, 800)).resize((size, size), Image.Resampling.BOX)
        square.save(io.BytesIO(), "jpeg", quality=95)
    return len(paths)


if __name__ == "__main__":
    sys.exit(main())
