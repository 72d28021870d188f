"""Unpacking one subject."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loaders.errors import Failure
from loaders.system.files import publish
from loaders.system.locks import held
from loaders.system.os_errors import NO_ROOM, DiskFullError
from tools.archives.member_writer import MemberWriter, difference
from tools.archives.multipart import GO_ON, Archive, read_archive
from tools.archives.tar_members import ArchiveError, Member, quoted
from tools.parallel import Progress

_TEMPORARY: Final = ".unpacking"


@dataclass(frozen=True)
class UnpackJob:
    """An archive to unpack."""

    archive: Archive
    output: Path
    """Folder of all subjects."""
    delete_parts: bool

    @property
    def subject(self) -> Path:
        """The folder of the unpacked subject."""
        return self.output / self.archive.subject

    @property
    def temporary(self) -> Path:
        """The folder that the subject is unpacked to before it gets its name."""
        return self.output / _TEMPORARY / self.archive.subject

    def is_finished(self) -> bool:
        """Whether the subject is unpacked: its folder exists and has files that are not hidden."""
        return self.subject.is_dir() and any(not path.name.startswith(".") for path in self.subject.iterdir())

    def fault(self) -> str:
        """Return the fault that is known before the archive is read; empty if there is none."""
        if self.is_finished():
            compared = self.delete_parts and not self.archive.half_deleted
            return _different(self.archive.fault) if compared and self.archive.fault else ""
        return self.obstacle() or self.archive.fault

    def obstacle(self) -> str:
        """Return what stands where the subject is to be; empty if nothing does, or an empty folder."""
        if not os.path.lexists(self.subject) or (self.subject.is_dir() and not any(self.subject.iterdir())):
            return ""
        return f"{self.subject} is in the way and holds no subject: remove it"


@dataclass(frozen=True)
class Outcome:
    """Result of a job; both texts are empty if the subject is unpacked completely."""

    fault: str = ""
    """Why the subject cannot be unpacked, or its parts not deleted."""
    note: str = ""
    """Which members were skipped."""


@contextlib.contextmanager
def temporary_folder(output: Path) -> Iterator[None]:
    """Make the folder for subjects that are being unpacked, once no worker of a killed run uses the old one."""
    folder = output / _TEMPORARY
    folder.mkdir(exist_ok=True)
    with held(folder, fcntl.LOCK_EX):
        shutil.rmtree(folder)
    folder.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack_subject(job: UnpackJob, progress: Progress) -> Outcome:
    """Unpack a subject, and delete its parts if asked to and if all of it is unpacked."""
    with held(job.output / _TEMPORARY, fcntl.LOCK_SH):
        # a worker may outlive its killed parent for a moment, and must not begin when the next run has taken over
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(1)
        skipped = ""
        try:
            if not job.is_finished():
                skipped = _unpack(job, progress)
            elif not job.archive.half_deleted:
                _compare(job, progress)
            if not job.delete_parts:
                return Outcome(note=skipped)
            if skipped:
                return Outcome(fault=f"{skipped}; its parts are kept")
            job.archive.delete()
        except ArchiveError as error:
            return Outcome(fault=str(error))
    return Outcome()


def _unpack(job: UnpackJob, progress: Progress) -> str:
    """Unpack a subject whole or not at all; return which members were skipped."""
    if obstacle := job.obstacle():
        raise ArchiveError(obstacle)
    try:
        job.temporary.mkdir()
        writer = MemberWriter(job.temporary)
        read_archive(job.archive, writer.take, progress)
        os.sync()  # one call for thousands of files; the parts may be deleted next
        publish(job.temporary, job.subject)
        return writer.skipped()
    except OSError as error:
        what = f"{job.subject.name} cannot be unpacked to {job.output} ({error.strerror})"
        if error.errno in NO_ROOM:
            raise DiskFullError(what) from None
        raise Failure(f"{what}: see to the disk, then {GO_ON}") from None
    finally:
        shutil.rmtree(job.temporary, ignore_errors=True)


def _compare(job: UnpackJob, progress: Progress) -> None:
    """Compare a subject with its archive. Raises ArchiveError if they differ."""
    differences: dict[str, str] = {}

    def take(member: Member) -> None:
        differences.pop(member.name, None)  # the later of two members with one name counts
        if why := difference(job.subject, member):
            differences[member.name] = why

    try:
        read_archive(job.archive, take, progress)
        for name, why in differences.items():
            raise ArchiveError(f"{quoted(name)} {why}")
    except (ArchiveError, OSError) as error:
        raise ArchiveError(_different(error)) from None


def _different(reason: object) -> str:
    return f"is there, but not as its parts have it ({reason}): they are kept"
