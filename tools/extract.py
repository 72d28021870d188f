"""Unpack the downloaded archives: ``python -m tools.extract --input PARTS --output RAW``."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from engine.command import CHECK_FAILED, OK, Command, Failure, run
from loaders.config import available_cores
from loaders.errors import InputError
from loaders.files import publish
from tools.archives import Archive, ArchiveError, Take, find_archives, read_archive
from tools.parallel import Meter, over_processes
from tools.unfinished import locked

_TEMPORARY: Final = ".unpacking"
_GO_ON: Final = "run the same command again; finished subjects stay"
_NO_ROOM: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_NAME: Final = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
"""What names of members lead to that are too long, or of a file where a folder is."""


@dataclass(frozen=True, kw_only=True)
class ExtractFlags(Command):
    """Flags of ``tools.extract``."""

    input: Path
    """Folder with <subject>.tar.gz.partaa, .partab, ... or <subject>.tar.gz."""
    output: Path
    """Folder to unpack to, one folder per subject; subjects that are there are finished and not done again."""
    delete_parts: bool = False
    """Delete a subject's parts when it is unpacked and its checksum was right. Those of a subject that was there
    before are compared with it first."""
    workers: int = 0
    """Subjects unpacked at the same time (cores); 0 takes all cores."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.workers < 0:
            raise InputError(f"--workers is {self.workers}: give at least 0")


class DiskFullError(Failure):
    """A subject does not fit; only who knows the other jobs can say what is needed."""


@dataclass(frozen=True)
class _Job:
    archive: Archive
    output: Path
    delete_parts: bool

    @property
    def subject(self) -> Path:
        return self.output / self.archive.subject

    @property
    def temporary(self) -> Path:
        return self.output / _TEMPORARY / self.archive.subject

    def is_finished(self) -> bool:
        return self.subject.is_dir() and any(self.subject.iterdir())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(
        ExtractFlags,
        extract,
        program="tools.extract",
        description="Unpack multi-part archives, part after part; exit status 1 if any cannot be.",
        arguments=arguments,
    )


def extract(flags: ExtractFlags) -> int:
    """Unpack what is not there yet, and name the archives that cannot be."""
    _find_jobs(flags)  # before anything is written
    if flags.output.exists() and not flags.output.is_dir():
        raise InputError(f"{flags.output} is a file: give --output a folder")
    with locked(flags.output), _temporary_folder(flags.output):
        jobs = _find_jobs(flags)
        finished = [job for job in jobs if job.is_finished()]
        remaining = [job for job in jobs if job not in finished]
        todo = [*remaining, *(job for job in finished if flags.delete_parts)]
        todo.sort(key=lambda job: job.archive.bytes, reverse=True)  # no long one is left for last
        with Meter(sum(job.archive.bytes for job in todo), "B", "extracting", scale=True) as meter:
            try:
                faults = over_processes(_extract, todo, flags.workers or available_cores(), meter)
            except DiskFullError as error:
                raise Failure(f"{error}: {_needed(flags, jobs)}: make room, then {_GO_ON}") from None
    findings = sorted(f"{job.archive.subject}: {fault}" for job, fault in zip(todo, faults, strict=True) if fault)
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    unpacked = sum(job.is_finished() for job in remaining)
    sys.stdout.write(
        f"{flags.output}: {unpacked} subjects unpacked, {len(finished)} were there already, "
        f"{len(remaining) - unpacked} cannot be; {meter.units / 1e6 / meter.seconds:.1f} MB/s\n"
    )
    return CHECK_FAILED if findings else OK


def _find_jobs(flags: ExtractFlags) -> list[_Job]:
    archives = find_archives(flags.input)
    # all parts may be gone because they are unpacked
    if not archives and not (flags.delete_parts and flags.output.is_dir() and any(flags.output.iterdir())):
        raise InputError(f"{flags.input} holds no archives: expected <subject>.tar.gz.partaa, ... or <subject>.tar.gz")
    return [_Job(archive, flags.output, flags.delete_parts) for archive in archives]


def _needed(flags: ExtractFlags, jobs: Sequence[_Job]) -> str:
    sizes = [job.archive.bytes for job in jobs if not job.is_finished()]
    least, whose = (max(sizes), "the largest is") if flags.delete_parts else (sum(sizes), "they are")
    needed, free = (tqdm.format_sizeof(size, "B") for size in (least, shutil.disk_usage(flags.output).free))
    return f"the {len(sizes)} subjects to come need at least {needed}, which {whose} compressed, and {free} are free"


@contextlib.contextmanager
def _temporary_folder(output: Path) -> Iterator[None]:
    """Give an empty folder for what is being unpacked, once no worker of a killed run uses it any longer."""
    folder = output / _TEMPORARY
    folder.mkdir(exist_ok=True)
    with _held(folder, fcntl.LOCK_EX):
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(folder: Path, kind: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def _extract(job: _Job) -> str:
    """Unpack a subject, delete its parts if that is wanted; return what hinders it, or nothing."""
    with _held(job.output / _TEMPORARY, fcntl.LOCK_SH):
        # a worker outlives its killed parent by a moment: it must not begin once the next run has stopped waiting
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
        try:
            if not job.is_finished():
                _unpack(job)
            elif not job.archive.half_deleted:
                _compare(job)
            if job.delete_parts:
                _delete(job.archive)
        except ArchiveError as error:
            return str(error)
    return ""


def _unpack(job: _Job) -> None:
    """Make a subject appear when all of it is on the disk and its checksum was right."""
    try:
        job.temporary.mkdir()
        read_archive(job.archive, _write_below(job.temporary))
        # some archives hold the subject's folder, others what is in it
        inner = job.temporary / job.subject.name
        whole = inner if [path.name for path in job.temporary.iterdir()] == [inner.name] else job.temporary
        os.sync()  # one for thousands of files; parts may be deleted next
        publish(whole, job.subject)
    except OSError as error:
        what = f"{job.subject.name} cannot be unpacked to {job.output} ({error.strerror})"
        if error.errno in _NO_ROOM:
            raise DiskFullError(what) from None
        raise Failure(f"{what}: see to the disk, then {_GO_ON}") from None
    finally:
        shutil.rmtree(job.temporary, ignore_errors=True)


def _write_below(folder: Path) -> Take:
    """Return what writes members below a folder; a name that comes twice is written twice, as tar does."""
    latest = folder

    def take(name: str, content: Iterator[memoryview] | None) -> None:
        nonlocal latest
        path = folder / name
        parent = path if content is None else path.parent
        try:
            if parent != latest:
                parent.mkdir(parents=True, exist_ok=True)
                latest = parent
            if content is not None:
                with path.open("wb") as file:
                    file.writelines(content)
        except OSError as error:
            if error.errno in _NO_NAME:
                raise ArchiveError(f"{name!r} cannot be written ({error.strerror}): not unpacked") from None
            raise

    return take


def _compare(job: _Job) -> None:
    """Make sure that a subject is what its archive holds. Raises ArchiveError if not."""
    name = job.subject.name

    def take(path: str, content: Iterator[memoryview] | None) -> None:
        if content is not None:
            there = (job.output if path.startswith(f"{name}/") else job.subject) / path
            with there.open("rb") as file:
                if not all(file.read(len(piece)) == piece for piece in content) or file.read(1):
                    raise ArchiveError(f"{path} differs")

    try:
        read_archive(job.archive, take)
    except (ArchiveError, OSError) as error:
        raise ArchiveError(f"is there, but not as its parts have it ({error}): they are kept") from None


def _delete(archive: Archive) -> None:
    try:
        archive.delete()
    except OSError as error:
        raise Failure(
            f"{archive.subject} is unpacked, but {error.filename} cannot be deleted ({error.strerror}): make its "
            f"folder writable or leave out --delete-parts, then {_GO_ON}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
