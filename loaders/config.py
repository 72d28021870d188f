"""Flags of the data side: ``--data.*``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from loaders.augment import AugmentConfig
from loaders.errors import InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import cores_per_process

if TYPE_CHECKING:
    import torch

_ENOUGH_CORES: Final = 8
"""With which decoding keeps up with a GPU: 3,000 JPEGs of 70 kB a second take about four (cores)."""


@dataclass(frozen=True, kw_only=True)
class ReaderConfig:
    """How the samples of a shard set are read: all that evaluation needs."""

    shards: Path
    """Folder of the shard set."""
    batch_size: int = 32
    """Samples in a batch of one process (samples)."""
    backend: Literal["auto", "dali", "torch"] = "auto"
    """Who decodes: NVIDIA DALI, or our own threads. "auto" is DALI on a GPU, and on a CPU what measured faster there:
    threads."""
    threads: int = 0
    """Decoding threads of one process (threads); 0 shares the machine's cores, or its quota, among its processes."""
    prefetch: int = 2
    """Batches prepared ahead (batches)."""
    decode_on: Literal["auto", "cpu", "gpu"] = "auto"
    """Where DALI decodes what a GPU trains on; it augments there in any case. "auto" takes the CPU if this process has
    8 cores or more: a GPU that trains keeps the many small kernels of its own decoder waiting."""
    hw_decoder_load: float = 0.65
    """Share of JPEGs given to the GPU's JPEG engine, where it has one (0 to 1); the default is DALI's."""
    checksums: bool = False
    """Compare every shard's sha256 with the manifest, and every header with the index, before the first step."""
    on_bad_sample: Literal["fail", "skip"] = "fail"
    """What an image that cannot be decoded does: "fail" ends the run; "skip" goes on without it and counts it. In
    training another sample of its batch takes its place, so that all processes stay in step."""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "data.",
            batch_size=Range(1),
            threads=Range(0),
            prefetch=Range(1),
            hw_decoder_load=Range(0, 1),
        )

    def decodes_on_gpu(self, device: torch.device) -> bool:
        """Return whether batches for a device are decoded by a GPU."""
        if device.type != "cuda":
            return False
        return self.decode_on == "gpu" or (self.decode_on == "auto" and self.thread_count() < _ENOUGH_CORES)

    def thread_count(self) -> int:
        """Return the number of decoding threads of this process."""
        return self.threads or cores_per_process()


@dataclass(frozen=True, kw_only=True)
class DataConfig(ReaderConfig):
    """What is loaded, how, in which order and with which augmentation."""

    image_size: int | None = None
    """Side of the network's image (pixels); None takes the stored size."""
    window: int = 1
    """Frames of a sample (frames): more than one are a window of one recording, whose last frame is to be predicted."""
    stride: int = 1
    """Distance of neighbors in a window (frame numbers)."""
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    """Variation of training samples."""
    fast_dct: bool = False
    """Decode the JPEGs of training by libjpeg-turbo's fast integer DCT: a little faster, and about a gray level off on
    average. Evaluation, also that within training, stays exact. Without effect where a GPU decodes."""
    seed: int = 0
    """Seed of order and augmentation (integer)."""
    access: Literal["random", "sequential"] = "random"
    """How shards are read: "random" takes any sample out of memory-mapped tars, so that the shuffle is global;
    "sequential" lets DALI's webdataset reader go through one shard after another, for tars behind s3:// or on spinning
    disks."""
    shuffle_window: int = 1024
    """Sequential access shuffles the shards, and within a shard so many neighbors among themselves (samples)."""
    remote: str | None = None
    """Where sequential access finds SPLIT/NAME.tar, if only manifest and indices are in data.shards: s3://BUCKET/PREFIX
    or a folder. Credentials and endpoint come from the AWS_* environment variables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            "data.",
            image_size=Range(32),
            window=Range(1),
            stride=Range(1),
            seed=Range(0, 2**62),
            shuffle_window=Range(1),
        )
        if self.stride > 1 and self.window == 1:
            raise InputError(f"data.stride is {self.stride}, and a sample has one frame: give --data.window as well")
        if self.window > 1 and self.access == "sequential":
            raise InputError(
                "data.window needs --data.access random: a stream has the frames of a window anywhere, not together"
            )
        if self.access == "sequential" and self.backend == "torch":
            raise InputError(
                "data.access sequential is DALI's own reader: give --data.backend dali, or --data.access random"
            )
        if self.remote and self.access == "random":
            raise InputError(
                "data.remote needs --data.access sequential: a global shuffle takes single samples out of mapped tars; "
                "sequential access shuffles shards, and neighbors within them"
            )
        if self.remote and self.checksums:
            raise InputError("data.checksums reads whole tars, and data.remote says they are elsewhere: leave out one")
