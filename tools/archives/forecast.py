"""What unpacking will take, from the beginning of every archive, which is unpacked in memory."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tqdm import tqdm

from engine.cli.forecast import Destination, counted, show
from loaders.system.os_errors import format_bytes
from tools.archives.multipart import Archive, read_archive, short_parts
from tools.archives.plan import Plan
from tools.archives.tar_members import ArchiveError, File, Member
from tools.archives.unpack import UnpackJob
from tools.parallel import Meter, Progress

_SAMPLE: Final = 32_000_000
"""How much of an archive is unpacked in memory (bytes of its files)."""


@dataclass(frozen=True)
class Sample:
    """The beginning of an archive, or all of one that is small."""

    read: int = 0
    """Length in the archive (bytes)."""
    on_disk: int = 0
    """Space that its files take (bytes)."""
    seconds: float = 0.0
    """Time to unpack it on one core, without writing (seconds)."""
    fault: str = ""
    """Why it cannot be unpacked."""


class _EnoughError(Exception):
    """The sample is as large as it should be."""


class _Counter(Progress):
    """Counts the bytes of an archive that were read."""

    def __init__(self) -> None:
        self.units = 0

    def add(self, units: int, written: int = 0) -> None:
        self.units += units


def take_sample(archive: Archive, block: int) -> Sample:
    """Unpack the beginning of an archive in memory.

    Args:
        archive: the archive.
        block: what the disk takes for a file, be it ever so small (bytes).
    """
    counter, on_disk, content = _Counter(), 0, 0

    def take(member: Member) -> None:
        nonlocal on_disk, content
        if not isinstance(member, File):
            return
        size = 0
        for piece in member.content:
            if isinstance(piece, int):
                continue  # a hole takes no space
            size += len(piece)
            if content + size >= _SAMPLE:
                on_disk += size
                raise _EnoughError
        content += size
        on_disk += -(-size // block) * block

    start, fault = time.perf_counter(), ""
    try:
        read_archive(archive, take, counter)
    except _EnoughError:
        pass
    except ArchiveError as error:
        fault = str(error)
    return Sample(counter.units, on_disk, time.perf_counter() - start, fault)


@dataclass(frozen=True)
class Forecast:
    """What a plan will take."""

    plan: Plan
    samples: dict[str, Sample]
    """By subject, of the archives that are read."""
    faults: dict[str, str]
    """By subject, as the run will report them; damage in the rest of an archive is not known."""

    @property
    def sound(self) -> list[UnpackJob]:
        """Archives to look into that have no fault so far."""
        return [job for job in self.plan.todo if job.archive.subject not in self.faults]

    @property
    def read(self) -> list[UnpackJob]:
        """Those of them that are read: a run that began to delete the parts had read them."""
        return [job for job in self.sound if job.archive.subject in self.samples]

    def space(self, job: UnpackJob) -> float:
        """Return what a subject's files will take (bytes)."""
        sample = self.samples.get(job.archive.subject)
        if sample is None or job in self.plan.finished:
            return 0.0
        return job.archive.bytes * sample.on_disk / max(sample.read, 1)

    def core_seconds(self, job: UnpackJob) -> float:
        """Return how long one worker takes for an archive that is read, without writing (seconds)."""
        sample = self.samples[job.archive.subject]
        return job.archive.bytes * sample.seconds / max(sample.read, 1)

    def seconds(self, workers: int) -> float:
        """Return how long workers take that begin the archives in their order, without writing (seconds)."""
        busy_until = [0.0] * workers
        for job in self.read:
            heapq.heapreplace(busy_until, busy_until[0] + self.core_seconds(job))
        return max(busy_until)

    def most_space(self, workers: int) -> float:
        """Return the most that the run needs beside what is there (bytes).

        Deleted parts make room where they lie on the disk of the output; those of subjects that are being unpacked
        are still there.
        """
        spaces = [self.space(job) for job in self.sound]
        nearest = Destination(self.plan.output).nearest()
        if not self.plan.delete_parts or not self.sound:
            return sum(spaces)
        if self.sound[0].archive.parts[0].stat().st_dev != nearest.stat().st_dev:
            return sum(spaces)
        return max(sum(heapq.nlargest(workers, spaces)), sum(spaces) - sum(job.archive.bytes for job in self.sound))


def make_forecast(plan: Plan) -> Forecast:
    """Unpack the beginning of every archive that the run will read; nothing is written."""
    block = os.statvfs(Destination(plan.output).nearest()).f_frsize
    faults = {job.archive.subject: fault for job in plan.todo if (fault := job.fault())}
    samples = {}
    with Meter(len(plan.todo), "archive", "measuring") as meter:
        for job in plan.todo:
            subject = job.archive.subject
            if subject not in faults and not (job in plan.finished and job.archive.half_deleted):
                samples[subject] = take_sample(job.archive, block)
                if samples[subject].fault:
                    faults[subject] = samples[subject].fault
            meter.add(1)
    return Forecast(plan, samples, faults)


def show_forecast(forecast: Forecast, workers: int) -> None:
    """Write what the run will do to standard output."""
    plan, sound = forecast.plan, forecast.sound
    workers = max(1, min(workers, len(forecast.read)))
    unpacked = [job for job in sound if job not in plan.finished]
    jobs = sorted((*plan.finished, *plan.remaining), key=lambda job: job.archive.subject)
    destination, needed = Destination(plan.output), forecast.most_space(workers)
    space, length = sum(map(forecast.space, unpacked)), sum(job.archive.bytes for job in forecast.read)
    seconds = forecast.seconds(workers)
    rows = [*((job.archive.subject, _said_of(forecast, job)) for job in jobs), ("", "")]
    rows.append(("to unpack", f"{counted(len(unpacked), 'subject')}, {_parts(unpacked)}"))
    if plan.finished:
        rows.append(("there already", counted(len(plan.finished), "subject")))
    if forecast.faults:
        rows.append(("cannot be", counted(len(forecast.faults), "subject")))
    if plan.delete_parts:
        rows.append(("to delete", f"{_parts(sound)}, each subject's once all of it is unpacked"))
    rows += [
        ("to read", format_bytes(length)),
        ("space", f"about {format_bytes(space)}; {format_bytes(destination.free)} are free"),
    ]
    if needed < space:
        rows.append(("at once", f"about {format_bytes(needed)}, for deleted parts make room"))
    if length:
        rate = length / max(sum(map(forecast.core_seconds, forecast.read)), 1e-9)
        rows.append(
            (
                "time",
                f"about {tqdm.format_interval(seconds)} with {counted(workers, 'worker')} of {rate / 1e6:.0f} MB/s, "
                "if the disk keeps up",
            )
        )
        rows.append(("measured on", f"the first {format_bytes(_SAMPLE)} of each subject"))
    show(rows, [*_suspicions(sound), *destination.warnings(needed)])


def _said_of(forecast: Forecast, job: UnpackJob) -> str:
    if fault := forecast.faults.get(job.archive.subject):
        return fault
    if job in forecast.plan.finished:
        return f"there already, {_parts([job])}{' to compare' if job in forecast.read else ''}"
    return f"to unpack, {_parts([job])}: about {format_bytes(forecast.space(job))}"


def _suspicions(jobs: Sequence[UnpackJob]) -> Iterator[str]:
    for job in jobs:
        if short := short_parts(job.archive.parts):
            yield f"{job.archive.subject}{short.replace(';', ':', 1)}"


def _parts(jobs: Sequence[UnpackJob]) -> str:
    number = sum(len(job.archive.parts) for job in jobs)
    return f"{counted(number, 'part')}, {format_bytes(sum(job.archive.bytes for job in jobs))}"
