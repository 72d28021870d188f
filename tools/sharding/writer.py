"""Writing one shard: the job that processes and clusters share."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.errors import Failure, InputError
from loaders.format.index import IndexEntry, index_name, write_index
from loaders.format.manifest import Shard, SkippedFrame
from loaders.format.sample import sample_key
from loaders.preprocessing import Preprocessing
from loaders.system.files import publish, temporary_name
from loaders.system.os_errors import NO_ROOM, DiskFullError
from tools.dataset.frames import encode_sample
from tools.dataset.layout import FrameError, Recording
from tools.parallel import Progress
from tools.sharding.resume_state import ShardResult, save_result

GO_ON: Final = "run the same command again; it goes on where it stopped"


@dataclass(frozen=True)
class ShardJob:
    """All that writing one shard needs; the bytes depend on nothing else."""

    output: Path
    """Folder of the shard set."""
    split: str
    name: str
    """File name of the tar."""
    recordings: dict[tuple[int, int], Recording]
    """Recordings by (subject, environment), as in the rows."""
    rows: NDArray[np.int32]
    """(n, 4) subject, environment, frame, action."""
    components: tuple[str, ...]
    """What a sample holds beside its labels, among rgba, json, worldp."""
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
    temporary, temporary_index = temporary_name(tar), temporary_name(tar)
    try:
        tar.parent.mkdir(parents=True, exist_ok=True)
        result, entries = _write_tar(job, temporary, progress)
        if entries:
            write_index(temporary_index, entries)
            publish(temporary_index, tar.with_name(index_name(tar.name)))
        save_result(job.output, result)
        if entries:
            publish(temporary, tar)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskFullError(f"{tar} cannot be written ({error.strerror})") from None
        raise Failure(f"{tar} cannot be written ({error.strerror}): see to the disk, then {GO_ON}") from None
    finally:
        temporary.unlink(missing_ok=True)
        temporary_index.unlink(missing_ok=True)
    return result


def _write_tar(job: ShardJob, path: Path, progress: Progress) -> tuple[ShardResult, list[list[IndexEntry]]]:
    entries: list[list[IndexEntry]] = []
    skipped = []
    with path.open("xb") as stream:
        tar = TarWriter(stream)
        for row in job.rows:
            recording, sample, before = job.recording(row), encode_row(job, row), tar.bytes
            frame = recording.subject, recording.name, int(row[2])
            if isinstance(sample, FrameError):
                skipped.append(SkippedFrame(*frame, str(sample)))
            else:
                entries.append(tar.add(sample_key(*frame), sample))
            progress.add(1, tar.bytes - before)
        tar.finish()
    return ShardResult(Shard(job.name, len(entries), tar.bytes, tar.sha256()), tuple(skipped)), entries


def encode_row(job: ShardJob, row: NDArray[np.int32]) -> list[tuple[str, bytes]] | FrameError:
    """Return a frame's members, or why it has none. Raises InputError instead if the job stops at defects."""
    recording = job.recording(row)
    try:
        return encode_sample(recording, row.tolist(), job.components, job.preprocessing)
    except FrameError as error:
        if job.stop_at_defect:
            raise InputError(
                f"{recording.path}, frame {int(row[2])}: {error}; repair it, or skip such frames: --on-defect skip"
            ) from None
        return error


class TarWriter:
    """A plain ustar archive whose bytes depend on names and contents alone.

    webdataset's TarWriter (1.0.2; user="", group="", mode=0o644, mtime=0, encoder=False, one call per member to keep
    their order) writes the same bytes, and its ``tarstream.offset`` tells the offsets. But it takes 1.34 times the time
    of this one, and the standard library's TarFile 1.16 times: 175, 151 and 130 us of CPU time for a sample of four
    members and 66 kB, checksum included (medians of 25 interleaved repetitions of 500 samples, on a loaded machine;
    1.28 times, of 100 samples, for four members of 70 kB each). Importing it also imports torch, 1.4 s for each worker.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.bytes = 0

    def add(self, key: str, members: Sequence[tuple[str, bytes]]) -> list[IndexEntry]:
        """Append a sample and return where its members lie."""
        entries = []
        for extension, content in members:
            info = tarfile.TarInfo(f"{key}.{extension}")  # owner 0, time 0, mode 0644
            info.size = len(content)
            self._write(info.tobuf(tarfile.USTAR_FORMAT))
            entries.append((extension, self.bytes, info.size, info.name))
            self._write(content)
            self._write(bytes(-info.size % tarfile.BLOCKSIZE))
        return entries

    def finish(self) -> None:
        """Append the end marker, padded to a whole record."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.bytes % tarfile.RECORDSIZE))

    def sha256(self) -> str:
        """Return the checksum of all bytes so far."""
        return self._digest.hexdigest()

    def _write(self, content: bytes) -> None:
        self._stream.write(content)
        self._digest.update(content)
        self.bytes += len(content)
