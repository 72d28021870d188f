"""Unpacking one subject: the job that processes share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.command import Failure
from loaders.files import publish
from tools.archives import Archive, ArchiveError, Take, read_archive
from tools.disk import NO_ROOM, DiskFullError
from loaders.locks import held

GO_ON: Final = "run the same command again; finished subjects stay"
_TEMPORARY: Final = ".unpacking"
_NO_NAME: Final = {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}
"""What names of members lead to that are too long, or of a file where a folder is."""


@dataclass(frozen=True)
class UnpackJob:
    """An archive, and where it goes."""

    archive: Archive
    output: Path
    """Folder of all subjects."""
    delete_parts: bool

    @property
    def subject(self) -> Path:
        """The folder to come."""
        return self.output / self.archive.subject

    @property
    def temporary(self) -> Path:
        """The folder that is filled first."""
        return self.output / _TEMPORARY / self.archive.subject

    def is_finished(self) -> bool:
        """Whether the subject is there: it appears as a whole."""
        return self.subject.is_dir() and any(self.subject.iterdir())


@contextlib.contextmanager
def temporary_folder(output: Path) -> Iterator[None]:
    """Give an empty folder for what is being unpacked, once no worker of a killed run uses it any longer."""
    folder = output / _TEMPORARY
    folder.mkdir(exist_ok=True)
    with held(folder, fcntl.LOCK_EX):
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack_subject(job: UnpackJob) -> str:
    """Unpack a subject, delete its parts if that is wanted; return what hinders it, or nothing."""
    with held(job.output / _TEMPORARY, fcntl.LOCK_SH):
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


def _unpack(job: UnpackJob) -> None:
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
        if error.errno in NO_ROOM:
            raise DiskFullError(what) from None
        raise Failure(f"{what}: see to the disk, then {GO_ON}") from None
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


def _compare(job: UnpackJob) -> None:
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
            f"folder writable or leave out --delete-parts, then {GO_ON}"
        ) from None
