"""Frames and shards to measure on, generated for the run and removed with it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np

from benchmarks.machine import ROOT
from loaders import AugmentConfig
from loaders.errors import Failure
from loaders.format.index import index_name
from loaders.format.manifest import FILE_NAME, Manifest, Split
from loaders.system.cores import available_cores
from models.camera import XR_EGOPOSE

GRAIN: Final = 11.0
"""Grain with which generated frames give JPEGs as large as real ones, about 70 kB at 368 pixels and quality 95 (gray
levels)."""

AUGMENT: Final = AugmentConfig(rotation=20, horizontal_flip=0.5, brightness=0.2, contrast=0.2, saturation=0.2)
"""As in ``configs/``."""


def run_tool(*arguments: object) -> str:
    """Run ``python -m`` with the arguments and return what it printed. Raises Failure with its last line."""
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{arguments[0]} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return done.stdout


def time_tool(*arguments: object) -> float:
    """Run ``python -m`` with the arguments and return how long it took, start-up included (seconds)."""
    start = time.perf_counter()
    run_tool(*arguments)
    return time.perf_counter() - start


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder that is removed in the end."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        yield Path(folder)


def synthesize(root: Path, frames: int, modalities: tuple[str, ...] = ("rgba", "json")) -> None:
    """Write a dataset with so many training frames, of four subjects, and a few validation frames."""
    sizes = ("--frames-per-subject", -(-frames // 4), "--eval-frames", 4)
    subjects = ("--train-subjects", 4, "--val-subjects", 1, "--test-subjects", 0)
    run_tool("tools.synthesize", "--output", root, *sizes, *subjects, "--modalities", *modalities)


def rewrite(root: Path, output: Path, *, alpha: bool) -> None:
    """Copy a dataset's training part, with images as most programs write them: libpng's filters, zlib's level 6.

    Args:
        root: of the dataset.
        output: of the copy; what is no image is a hard link.
        alpha: with a fourth channel, opaque.
    """
    from PIL import Image  # noqa: PLC0415 - only this and `add_grain` need it

    for path in root.glob("TrainSet/*/*/cam_down/*/*"):
        copy = output / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "rgba":
            Image.open(path).convert("RGBA" if alpha else "RGB").save(copy)
        else:
            copy.hardlink_to(path)


def add_grain(root: Path, deviation: float, *, seed: int = 0) -> None:
    """Rewrite a dataset's training images with film grain: normal noise, blurred by a pixel, all channels alike.

    They become PNGs as most programs write them: libpng's filters, zlib's level 6.

    Args:
        root: of the dataset.
        deviation: standard deviation of the grain (gray levels).
        seed: of the grain; each image has its own.
    """
    from PIL import Image  # noqa: PLC0415 - only this and `rewrite` need it

    paths = sorted(root.glob("TrainSet/*/*/cam_down/rgba/*"))

    def rewrite_one(number: int) -> None:
        image = np.asarray(cv2.imread(str(paths[number]), cv2.IMREAD_COLOR_RGB))
        noise = np.random.default_rng((seed, number)).standard_normal(image.shape[:2], np.float32)
        grain = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0))
        grain *= deviation / grain.std()
        Image.fromarray(np.asarray(cv2.add(image, cv2.merge([grain] * 3), dtype=cv2.CV_8U))).save(paths[number])

    # drawing, filters and deflate release the interpreter's lock
    with ThreadPoolExecutor(available_cores()) as pool:
        list(pool.map(rewrite_one, range(len(paths))))


def shard(dataset: Path, output: Path, *, image_format: str, image_size: int) -> None:
    """Write a shard set of images; a few samples per shard, so that readers with several workers share them."""
    form = ("--components", "rgba", "--image-format", image_format, "--image-size", image_size)
    run_tool("tools.shard", "--root", dataset, "--output", output, *form, "--samples-per-shard", 64)


Form = Literal["jpeg", "raw", "large", "source"]
FORMS: Final[tuple[Form, ...]] = ("jpeg", "raw", "large", "source")


@dataclass(frozen=True)
class Frames:
    """The same training frames in several forms; None where there is none."""

    jpeg: Path
    """Shard set."""
    raw: Path | None = None
    """Shard set, images of the same size."""
    large: Path | None = None
    """Shard set, JPEG of the whole center square."""
    source: Path | None = None
    """Shard set, PNG of the whole frame."""
    dataset: Path | None = None
    """As they were extracted."""


def generate(
    folder: Path, *, frames: int, image_size: int, grain: float, repeat: int, seed: int, forms: Sequence[Form] = FORMS
) -> Frames:
    """Generate training frames, as a dataset and as shard sets.

    Args:
        folder: where they go.
        frames: so many.
        image_size: side of the images in ``jpeg`` and ``raw`` (pixels).
        grain: its standard deviation (gray levels); 0 leaves the frames smooth.
        repeat: how often the shards are strung together.
        seed: of the grain.
        forms: of the shard sets to write.
    """
    dataset = folder / "dataset"
    synthesize(dataset, frames)
    if grain:
        add_grain(dataset, grain, seed=seed)
    for name in forms:
        side = image_size if name in ("jpeg", "raw") else XR_EGOPOSE.height
        shard(dataset, folder / name, image_format="jpeg" if name == "large" else name, image_size=side)
        repeat_shards(folder / name, repeat)
    return Frames(**{name: folder / name for name in forms}, dataset=dataset)


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
