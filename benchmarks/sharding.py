"""Frames per second of sharding, beside decoding alone: ``python -m benchmarks.sharding``."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final, Literal

from benchmarks import data
from benchmarks.harness import (
    BenchmarkFlags,
    Candidate,
    Measured,
    Session,
    Target,
    Timed,
    at_least,
    beyond_start_up,
    measure,
)
from benchmarks.png_decoders import DECODERS, OURS, blocks_of, decoding
from benchmarks.results import Projection, Result, publish
from engine.cli.command import OK, command
from loaders.system.cores import available_cores
from tools.dataset.layout import SET_FOLDERS

Kind = Literal["generated", "libpng RGBA"]

FRAMES: Final = 380_000
"""Size of the whole data set (frames)."""
_CLUSTER_CORES: Final = 32
_SHORT_RUN: Final = 6
"""How much shorter than the long run the short one is (times)."""
_TOOL: Final = "tools.shard"
_DECODERS: Final = (OURS, "imagecodecs, spng", "OpenCV")
"""The fastest that is maintained, its closest rival, and the usual one; all are in benchmarks.png."""


@dataclass(frozen=True, kw_only=True)
class ShardingFlags(BenchmarkFlags):
    """Flags of ``benchmarks.sharding``."""

    rounds: int = 3
    """Rounds; each candidate has one lap in each (rounds)."""
    frames: int = 64
    """Generated frames (frames)."""
    repeat: int = 24
    """How often they are strung together, as further environments (times)."""
    kinds: tuple[Kind, ...] = ("generated", "libpng RGBA")
    """PNGs as tools.synthesize writes them, fast and with one filter; as libpng does by default, like most programs."""
    components: tuple[Literal["rgba", "json", "worldp"], ...] = ("rgba", "json")
    """What a sample holds beside its labels; each image among them is decoded once."""
    image_format: Literal["jpeg", "png", "raw"] = "jpeg"
    """Form of the stored images."""
    image_size: int = 368
    """Side of the stored images (pixels)."""
    threads: int = 0
    """Cores to use (cores); 0 takes all."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        at_least(self, frames=4, repeat=1, image_size=32, threads=0)


@command("benchmarks.sharding", "Measure sharding.")
def main(flags: ShardingFlags) -> int:
    """Run the command and return its exit status."""
    benchmark(flags)
    return OK


def benchmark(flags: ShardingFlags) -> Result:
    """Measure and publish."""
    cores = flags.threads or available_cores()
    with data.temporary_folder() as folder:
        found: list[Candidate] = []
        generated = folder / "generated" / "frames"
        data.synthesize(generated, flags.frames, flags.components)
        for kind in flags.kinds:
            frames, few, many = (folder / kind / name for name in ("frames", "few", "many"))
            if frames != generated:
                data.rewrite(generated, frames, alpha=True)
            _repeat(frames, few, max(1, flags.repeat // _SHORT_RUN))
            _repeat(frames, many, flags.repeat)
            found += _candidates(few, many, kind, cores, flags)
        samples = len(list(many.rglob("json/*.json")))
        measured = measure(found, rounds=flags.rounds, lap=flags.lap, warmup=0.1)
    targets = [target for kind in flags.kinds for target in _targets(kind)]
    projections = [_whole(one, cores) for one in measured if one.candidate.ours]
    chosen = {"threads": cores, "frames_sharded": samples}
    return publish("sharding", flags, measured, targets, chosen=chosen, projections=projections)


def _candidates(few: Path, many: Path, kind: str, cores: int, flags: ShardingFlags) -> Iterator[Candidate]:
    images = sorted(path for part in set(flags.components) - {"json"} for path in many.rglob(f"{part}/*.png"))
    samples = len(list(many.rglob("json/*.json")))
    group = f"{' + '.join(flags.components)} of 1280x800 frames, PNGs {kind}"
    note = "start-up taken out by the difference of a long and a short run"
    open_shard = partial(_sharding, few, many, cores, flags)
    yield Candidate(f"{_TOOL}, {kind}", open_shard, group, "frames/s", note=note, ours=True)
    for name in _DECODERS:
        per_frame = len(images) / samples
        open_decoder = partial(decoding, name, images, cores, per_frame=per_frame)
        needs = DECODERS[name][0]
        yield Candidate(f"decoding alone, {name}, {kind}", open_decoder, group, "frames/s", needs)
    if flags.components != ("rgba", "json") or flags.image_format != "jpeg":
        return
    yield Candidate(f"plain way, {kind}", partial(_plain, images, cores, flags.image_size), group, "frames/s", ("PIL",))


def _targets(kind: str) -> list[Target]:
    tool = (f"{_TOOL}, {kind}",)
    decoders = tuple(f"decoding alone, {name}, {kind}" for name in _DECODERS)
    return [
        Target(f"sharding over the fastest PNG decoding alone, all cores, {kind}", tool, decoders, 0.85),
        Target(f"sharding over OpenCV's decoding alone, {kind}", tool, decoders[-1:]),
        Target(f"sharding over the plain way, {kind}", tool, (f"plain way, {kind}",)),
    ]


def _whole(sharding: Measured, cores: int) -> Projection:
    kind = sharding.candidate.name.removeprefix(f"{_TOOL}, ")
    return Projection(
        f"sharding {FRAMES:,} frames on {_CLUSTER_CORES} cores, PNGs {kind}",
        FRAMES / (sharding.median / cores * _CLUSTER_CORES) / 60,
        "minutes",
        f"the rate per core stays that of {cores} cores, and disks keep up",
    )


def _repeat(root: Path, output: Path, times: int) -> None:
    """Write the training recordings so many times, as further environments, out of hard links."""
    for recording in sorted((root / SET_FOLDERS["train"]).glob("*/env_*")):
        for number in range(1, times + 1):
            copy = output / recording.relative_to(root).with_name(f"env_{number:03d}")
            shutil.copytree(recording, copy, copy_function=os.link)


@contextlib.contextmanager
def _sharding(few: Path, many: Path, cores: int, flags: ShardingFlags) -> Iterator[Session]:
    """The command over many frames and over few; the difference is the work without the start-up."""
    output = many.with_name("shards")
    least, samples = (len(list(root.rglob("json/*.json"))) for root in (few, many))
    form = ("--components", *flags.components, "--image-format", flags.image_format, "--image-size", flags.image_size)
    # so many shards that every core has one in the short run too
    sizes = ("--samples-per-shard", max(1, least // cores), "--workers", cores, "--split", "train")
    read = sum(path.stat().st_size for path in many.rglob("*.*") if path.is_file())
    latest: dict[str, float] = {}

    def seconds(root: Path) -> float:
        passed = data.time_tool("tools.shard", "--root", root, "--output", output, *form, *sizes)
        latest["bytes written per byte read"] = sum(path.stat().st_size for path in output.rglob("*.tar")) / read
        shutil.rmtree(output)
        return passed

    def step() -> Timed:
        short, long = seconds(few), seconds(many)
        latest["frames/s with start-up"] = samples / long
        return beyond_start_up(samples - least, short, long)

    yield Session(step, figures=lambda: latest)


@contextlib.contextmanager
def _plain(images: Sequence[Path], cores: int, size: int) -> Iterator[Session]:
    """Pillow on a process per core: decode, crop, resize, encode; nothing is written."""
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:
        yield Session(blocks_of(images, cores, pool, partial(_resave, size)))


def _resave(size: int, paths: Sequence[Path]) -> int:
    from PIL import Image  # noqa: PLC0415 - tools.shard runs without it

    for path in paths:
        # BOX is Pillow's fastest filter that averages
        square = Image.open(path).convert("RGB").crop((240, 0, 1040, 800)).resize((size, size), Image.Resampling.BOX)
        square.save(io.BytesIO(), "jpeg", quality=95)
    return len(paths)


if __name__ == "__main__":
    sys.exit(main())
