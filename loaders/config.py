"""Flags of the data side: ``--data.*``."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loaders.augment import AugmentConfig
from loaders.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is loaded, and how."""

    shards: Path
    """Folder of the shard set."""
    batch_size: int = 32
    """Samples in a batch of one process (samples)."""
    image_size: int | None = None
    """Side of the network's picture (pixels); None takes the stored size."""
    backend: Literal["auto", "dali", "torch", "resident"] = "auto"
    """Who decodes: NVIDIA DALI, OpenCV threads, or nobody: "resident" repeats one batch, the ceiling for benchmarks.
    "auto" is DALI where it is installed."""
    outputs: tuple[Literal["image", "worldp"], ...] = ("image",)
    """Pictures in a batch; labels are always there. Training sets what its stage needs."""
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    """Variation of training samples."""
    seed: int = 0
    """Seed of order and augmentation (integer)."""
    threads: int = 0
    """Decoding threads of one process (threads); 0 shares the machine's cores among its processes."""
    prefetch: int = 2
    """Batches prepared ahead (batches)."""
    hw_decoder_load: float = 0.9
    """Share of JPEGs given to the GPU's JPEG engine, where it has one (0 to 1)."""
    checksums: bool = False
    """Compare every shard's sha256 with the manifest before the first step."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, least in (("batch_size", 1), ("threads", 0), ("prefetch", 1), ("seed", 0)):
            if (value := getattr(self, name)) < least:
                raise InputError(f"data.{name} is {value}: give at least {least}")
        if self.image_size is not None and self.image_size < 32:
            raise InputError(f"data.image_size is {self.image_size}: give at least 32 pixels")
        if not 0 <= self.hw_decoder_load <= 1:
            raise InputError(f"data.hw_decoder_load is {self.hw_decoder_load}: give 0 to 1")

    def thread_count(self) -> int:
        """Return the number of decoding threads of this process."""
        return self.threads or max(1, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
