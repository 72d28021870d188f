"""How much space and time sharding will take, said before it starts."""

from __future__ import annotations

import io
import itertools
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Final

from tqdm import tqdm

from loaders.errors import Failure
from loaders.system.os_errors import format_bytes
from tools.dataset.layout import FrameError
from tools.sharding.writer import ShardJob, TarWriter, encode_row

_FRAMES: Final = 16
"""Frames that are encoded to estimate all others (frames)."""
_CERTAINTY: Final = 1.05
"""The run is refused if the estimate is above the free space by this factor."""


@dataclass(frozen=True)
class Estimate:
    """What the shards still to be written will take."""

    samples: int
    bytes_per_sample: float
    seconds_per_sample: float
    """Time of one core (seconds)."""

    def announce(self, output: Path, cores: int | None) -> None:
        """Write the estimate to standard output. Raises Failure if the disk of ``output`` has not enough room.

        ``cores`` is how many will work on it; None if that is not known.
        """
        size, free = self.samples * self.bytes_per_sample, shutil.disk_usage(output).free
        needed, left = format_bytes(size), format_bytes(free)
        seconds = self.samples * self.seconds_per_sample / (cores or 1)
        duration = f"{tqdm.format_interval(seconds)} on {cores} cores" if cores else f"{seconds / 3600:.2g} core hours"
        sys.stdout.write(f"{self.samples} samples to write: about {needed} ({left} free), about {duration}\n")
        sys.stdout.flush()
        if size > _CERTAINTY * free:
            raise Failure(
                f"{output} needs about {needed}, its disk has {left} free: make room, give another "
                "--output, or store less (--components, --image-size, --quality, --split)"
            )


def estimate(jobs: Sequence[ShardJob]) -> Estimate:
    """Encode the first frames in this process; samples are in random order, so these are from all recordings.

    Raises Failure if a file cannot be read, InputError at a defect if the jobs say so.
    """
    frames = list(itertools.islice(((job, row) for job in jobs for row in job.rows), _FRAMES))
    sizes, times = [], []
    for job, row in [*frames[:1], *frames]:  # the first, which loads and compiles, is not counted
        start, tar = time.perf_counter(), TarWriter(io.BytesIO())
        sample = encode_row(job, row)
        if not isinstance(sample, FrameError):
            tar.add("", sample)
        sizes.append(tar.bytes)
        times.append(time.perf_counter() - start)
    samples = sum(len(job.rows) for job in jobs)
    return Estimate(samples, mean(sizes[1:] or [0]), median(times[1:] or [0.0]))
