"""Our JPEG decoder on every core and nothing else: no order, no labels, no batches handed out. The floor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.harness import Session
from loaders import ShardSet
from loaders.codecs import decode_stored

_IMAGES: Final = 1024
"""Most images of a step: threads wait for each other only between steps (images)."""
_BATCHES: Final = 4
"""Batches' memory that is written in turn, so that it leaves the caches as a loader's does (batches)."""


@contextlib.contextmanager
def decoder_alone(root: Path, batch_size: int, threads: int) -> Iterator[Session]:
    """Decode a shard set's JPEGs in their order, again and again, into memory of a few batches."""
    shard_set = ShardSet(root, "train")
    member = shard_set.manifest.image_member or ""
    images = shard_set.read(range(min(_IMAGES, len(shard_set))), member)
    camera = shard_set.camera
    memory = np.empty((_BATCHES * batch_size, camera.height, camera.width, 3), np.uint8)

    def decode(numbers: Iterator[int]) -> None:
        for number in numbers:
            decode_stored(images[number], member, memory[number % len(memory)])

    def step() -> int:
        left = iter(range(len(images)))
        for done in [pool.submit(decode, left) for _ in range(threads)]:
            done.result()
        return len(images)

    with ThreadPoolExecutor(threads) as pool:
        yield Session(step)
