"""Frames and shards to measure on, generated for the run and removed with it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from benchmarks.harness import ROOT, BenchmarkFlags
from loaders import AugmentConfig
from loaders.errors import Failure
from loaders.format.index import index_name
from loaders.format.manifest import FILE_NAME, Manifest, Split
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores

GRAIN: Final = 11.0
"""Grain with which generated frames give JPEGs as large as real ones, about 70 kB at 368 pixels and quality 95 (gray
levels)."""

AUGMENT: Final = AugmentConfig(rotation=20, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2)
"""As in ``configs/``."""

Storage = Literal["jpeg", "raw"]


@dataclass(frozen=True)
class Frames:
    """The same training frames stored in several ways; None where there is none."""

    jpeg: Path
    """Shard set."""
    raw: Path | None = None
    """Shard set, uncompressed images of the same size."""
    dataset: Path | None = None
    """As they were extracted."""


def run_tool(*arguments: object) -> None:
    """Run ``python -m`` with the arguments. Raises Failure with the last line that it wrote to standard error."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{arguments[0]} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")


@dataclass(frozen=True, kw_only=True)
class DataFlags(BenchmarkFlags):
    """Flags of every benchmark that loads shards."""

    frames: int = 128
    """Size of the generated set (frames)."""
    repeat: int = 32
    """How often the generated set is strung together, so that ends of epochs are rare (times)."""
    image_size: int = 368
    """Side of the images (pixels)."""
    batch_size: int = 32
    """Samples of a batch (samples)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        check_ranges(self, "--", frames=Range(4), repeat=Range(1), image_size=Range(0), batch_size=Range(0))


def generate(
    flags: DataFlags, folder: Path, *, grain: float = GRAIN, storages: Sequence[Storage] = ("jpeg",)
) -> Frames:
    """Generate training frames in ``folder``, as a dataset and as shard sets.

    Args:
        flags: how many frames, and of what size.
        folder: where they go.
        grain: its standard deviation (gray levels); 0 leaves the frames smooth.
        storages: image formats of the shard sets.
    """
    dataset = folder / "dataset"
    synthesize(dataset, flags.frames)
    if grain:
        add_grain(dataset, grain, seed=flags.seed)
    for storage in storages:
        shard(dataset, folder / storage, storage, flags.image_size)
        repeat_shards(folder / storage, flags.repeat)
    return Frames(**{storage: folder / storage for storage in storages}, dataset=dataset)


def shard(dataset: Path, root: Path, storage: Storage, image_size: int) -> None:
    """Write a dataset's frames as a shard set, images alone; a few to a shard, so that many workers can share them."""
    where = ("--dataset", dataset, "--output", root, "--samples-per-shard", 64)
    run_tool("tools.shard", *where, "--components", "rgba", "--image-format", storage, "--image-size", image_size)


def synthesize(root: Path, frames: int) -> None:
    """Write a dataset with so many training frames, of four subjects, and a few validation frames."""
    sizes = ("--frames-per-subject", -(-frames // 4), "--eval-frames", 4)
    subjects = ("--train-subjects", 4, "--val-subjects", 1, "--test-subjects", 0)
    run_tool("tools.synthesize", "--output", root, *sizes, *subjects, "--modalities", "rgba", "json")


def add_grain(root: Path, deviation: float, *, seed: int = 0) -> None:
    """Rewrite a dataset's training images with film grain: normal noise, blurred by a pixel, all channels alike.

    They become PNGs as most programs write them: libpng's filters, zlib's level 6.

    Args:
        root: of the dataset.
        deviation: standard deviation of the grain (gray levels).
        seed: of the grain; each image has its own.
    """
    paths = sorted(root.glob("TrainSet/*/*/cam_down/rgba/*"))

    def rewrite(number: int) -> None:
        image = np.asarray(cv2.imread(str(paths[number]), cv2.IMREAD_COLOR_RGB))
        noise = np.random.default_rng((seed, number)).standard_normal(image.shape[:2], np.float32)
        grain = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0))
        grain *= deviation / grain.std()
        Image.fromarray(np.asarray(cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U))).save(paths[number])

    # random numbers, filters and deflate release the interpreter's lock
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(rewrite, range(len(paths))))


def repeat_shards(root: Path, times: int) -> None:
    """Make a shard set's training split longer: each shard so many times, as hard links.

    Ends of epochs are then as rare as in a real data set, and no disk is filled.
    """
    manifest = Manifest.read(root)
    shards = manifest.splits["train"].shards
    copies = list(shards)
    for number in range(1, times):
        for one in shards:
            name = f"repeat-{number}-{one.name}"
            os.link(root / "train" / one.name, root / "train" / name)
            os.link(root / "train" / index_name(one.name), root / "train" / index_name(name))
            copies.append(dataclasses.replace(one, name=name))
    splits = {**manifest.splits, "train": Split(tuple(copies))}
    (root / FILE_NAME).write_text(dataclasses.replace(manifest, splits=splits).to_json(), encoding="utf-8")
