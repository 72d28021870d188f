"""Which archives a run unpacks, compares and deletes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from loaders.errors import InputError
from tools.archives.multipart import find_archives
from tools.archives.unpack import UnpackJob


@dataclass(frozen=True)
class Plan:
    """The archives of a folder, and what becomes of them."""

    output: Path
    """Folder of all subjects."""
    delete_parts: bool
    finished: tuple[UnpackJob, ...]
    """Those whose subjects are there already."""
    remaining: tuple[UnpackJob, ...]
    """Those to unpack."""

    @property
    def todo(self) -> list[UnpackJob]:
        """Archives to look into, the largest first, so that no worker begins one at the end.

        Parts of a subject that is there already are compared with it before they are deleted.
        """
        todo = (*self.finished, *self.remaining) if self.delete_parts else self.remaining
        return sorted(todo, key=lambda job: job.archive.bytes, reverse=True)


def make_plan(folder: Path, output: Path, *, delete_parts: bool) -> Plan:
    """Return what is to be done with the archives in ``folder``. Raises InputError if nothing can be."""
    archives = find_archives(folder)
    # all parts may be gone because they are unpacked
    if not archives and not (delete_parts and output.is_dir() and any(output.iterdir())):
        raise InputError(f"{folder} holds no archives: expected <subject>.tar.gz.partaa, ... or <subject>.tar.gz")
    if output.exists() and not output.is_dir():
        raise InputError(f"{output} is a file: give --output a folder")
    jobs = [UnpackJob(archive, output, delete_parts) for archive in archives]
    finished = tuple(job for job in jobs if job.is_finished())
    return Plan(output, delete_parts, finished, tuple(job for job in jobs if job not in finished))
