"""Writing one shard, the job that processes and clusters share; and what all shards will take, said before."""

from __future__ import annotations

import hashlib
import io
import itertools
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import BinaryIO, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from loaders.errors import Failure, InputError
from loaders.format.index import IndexEntry, index_name, write_index
from loaders.format.manifest import Shard, SkippedFrame
from loaders.format.sample import sample_key
from loaders.preprocessing import Preprocessing
from loaders.system.files import appearing, publish, temporary_name
from loaders.system.os_errors import NO_ROOM, DiskFullError, format_bytes
from tools.parallel import Progress
from tools.sharding.resume_state import ShardResult, save_result
from tools.sharding.samples import encode_sample
from tools.sources import FrameError, Recording, Source

_FRAMES: Final = 16
"""Frames that are encoded to estimate all others (frames)."""
_CERTAINTY: Final = 1.05
"""The run is refused if the estimate is above the free space by this factor."""
GO_ON: Final = "run the same command again; it goes on where it stopped"


@dataclass(frozen=True)
class ShardJob:
    """All that writing one shard needs; the bytes depend on nothing else."""

    output: Path
    """Folder of the shard set."""
    split: str
    name: str
    """File name of the tar."""
    source: Source
    """The dataset."""
    recordings: dict[tuple[int, int], Recording]
    """Recordings by (subject, environment), as in the rows."""
    rows: NDArray[np.int32]
    """(n, 4) subject, environment, frame, action."""
    components: tuple[str, ...]
    """What a sample holds beside its labels."""
    preprocessing: Preprocessing
    """What is done to the images."""
    stop_at_defect: bool
    """Raise at the first unusable frame instead of skipping it."""

    def recording(self, row: NDArray[np.int32]) -> Recording:
        """Return the recording of a row's frame."""
        return self.recordings[int(row[0]), int(row[1])]


def write_shard(job: ShardJob, progress: Progress) -> ShardResult:
    """Write a shard and its index; the tar appears last, complete.

    Raises DiskFullError if it does not fit, Failure if a file cannot be read or written, InputError at a defect if
    the job says so.
    """
    cv2.setNumThreads(1)  # every core has a process of its own
    tar = job.output / job.split / job.name
    temporary = temporary_name(tar)
    try:
        tar.parent.mkdir(parents=True, exist_ok=True)
        result, entries = _write_tar(job, temporary, progress)
        if entries:
            with appearing(tar.with_name(index_name(tar.name))) as index:
                write_index(index, entries)
        save_result(job.output, result)
        if entries:
            publish(temporary, tar)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFullError(f"{tar} cannot be written ({error.strerror})") from None
        raise Failure(f"{tar} cannot be written ({error.strerror}): see to the disk, then {GO_ON}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return result


def _write_tar(job: ShardJob, path: Path, progress: Progress) -> tuple[ShardResult, list[list[IndexEntry]]]:
    entries: list[list[IndexEntry]] = []
    skipped = []
    with path.open("x+b") as stream:
        with _new_tar(stream) as tar:
            for row in job.rows:
                recording, sample, before = job.recording(row), _encode_row(job, row), tar.offset
                frame = recording.subject, recording.name, int(row[2])
                if isinstance(sample, FrameError):
                    skipped.append(SkippedFrame(*frame, str(sample)))
                else:
                    entries.append(_add_sample(tar, sample_key(*frame), sample))
                progress.add(1, tar.offset - before)
        size = stream.tell()
        stream.seek(0)
        shard = Shard(job.name, len(entries), size, hashlib.file_digest(stream, "sha256").hexdigest())
    return ShardResult(shard, tuple(skipped)), entries


def _new_tar(stream: BinaryIO) -> tarfile.TarFile:
    # webdataset's TarWriter can write the same bytes, but takes 1.15 times as long and imports torch
    return tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)


def _add_sample(tar: tarfile.TarFile, key: str, members: Sequence[tuple[str, bytes]]) -> list[IndexEntry]:
    """Append a sample, whose bytes depend on names and contents alone, and return where its members lie."""
    entries = []
    for extension, content in members:
        info = tarfile.TarInfo(f"{key}.{extension}")  # owner 0, time 0, mode 0644
        info.size = len(content)
        entries.append((extension, tar.offset + tarfile.BLOCKSIZE, info.size, info.name))
        tar.addfile(info, io.BytesIO(content))
    tar.members.clear()  # type: ignore[attr-defined]  # else the list grows with the shard
    return entries


def _encode_row(job: ShardJob, row: NDArray[np.int32]) -> list[tuple[str, bytes]] | FrameError:
    """Return a frame's members, or why it has none. Raises InputError instead if the job stops at defects."""
    recording = job.recording(row)
    try:
        return encode_sample(job.source, recording, row.tolist(), job.components, job.preprocessing)
    except FrameError as error:
        if job.stop_at_defect:
            raise InputError(
                f"{recording.path}, frame {int(row[2])}: {error}; repair it, or skip such frames: --on-defect skip"
            ) from None
        return error


@dataclass(frozen=True)
class Estimate:
    """What the shards still to be written will take."""

    samples: int
    bytes_per_sample: float
    seconds_per_sample: float
    """Time of one core (seconds)."""

    @property
    def bytes(self) -> float:
        """Size of the shards (bytes)."""
        return self.samples * self.bytes_per_sample

    def duration(self, cores: int | None) -> str:
        """Return the time that so many cores take, in words; None if their number is not known."""
        seconds = self.samples * self.seconds_per_sample / (cores or 1)
        return f"{tqdm.format_interval(seconds)} on {cores} cores" if cores else f"{seconds / 3600:.2g} core hours"

    def check_room(self, output: Path, free: int) -> None:
        """Raise Failure if ``free`` bytes are not enough on the disk of ``output``."""
        if self.bytes > _CERTAINTY * free:
            raise Failure(
                f"{output} needs about {format_bytes(self.bytes)}, its disk has {format_bytes(free)} free: make room, "
                "give another --output, or store less (--components, --image-size, --quality, --split)"
            )


def estimate(jobs: Sequence[ShardJob]) -> Estimate:
    """Encode the first frames in this process; samples are in random order, so these are from all recordings.

    Raises Failure if a file cannot be read, InputError at a defect if the jobs say so.
    """
    frames = list(itertools.islice(((job, row) for job in jobs for row in job.rows), _FRAMES))
    sizes, times = [], []
    for job, row in [*frames[:1], *frames]:  # the first, which loads and compiles, is not counted
        start, tar = time.perf_counter(), _new_tar(io.BytesIO())
        sample = _encode_row(job, row)
        if not isinstance(sample, FrameError):
            _add_sample(tar, "", sample)
        sizes.append(tar.offset)
        times.append(time.perf_counter() - start)
    samples = sum(len(job.rows) for job in jobs)
    return Estimate(samples, mean(sizes[1:] or [0]), median(times[1:] or [0.0]))
