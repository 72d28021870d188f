"""Unpack the downloaded archives: ``python -m tools.extract --input PARTS --output RAW``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.cli.command import CHECK_FAILED, OK, Command, command
from loaders.errors import Failure, InputError
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.locks import locked
from loaders.system.os_errors import DiskFullError, format_bytes
from tools.archives.multipart import GO_ON, find_archives
from tools.archives.unpack import UnpackJob, temporary_folder, unpack_subject
from tools.parallel import Meter, over_processes


@dataclass(frozen=True, kw_only=True)
class ExtractFlags(Command):
    """Flags of ``tools.extract``."""

    input: Path
    """Folder with <subject>.tar.gz.partaa, .partab, ... or <subject>.tar.gz (path)."""
    output: Path
    """Folder to unpack to (path), one folder per subject; subjects that are already there are not unpacked again."""
    delete_parts: bool = False
    """Delete a subject's parts once all of it is unpacked and its checksum is right.
    The parts of a subject that was unpacked before are compared with it first."""
    workers: int = 0
    """Workers that unpack subjects (processes); 0 takes one per core."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", workers=Range(0))


@command("tools.extract", "Unpack multi-part archives, part after part; exit status 1 if any cannot be.")
def main(flags: ExtractFlags) -> int:
    """Unpack the subjects that are not there yet, and name the archives that cannot be unpacked."""
    _find_jobs(flags)  # before anything is written
    if flags.output.exists() and not flags.output.is_dir():
        raise InputError(f"{flags.output} is a file: give --output a folder")
    with locked(flags.output), temporary_folder(flags.output):
        jobs = _find_jobs(flags)
        finished = [job for job in jobs if job.is_finished()]
        remaining = [job for job in jobs if job not in finished]
        todo = jobs if flags.delete_parts else remaining
        # the largest first, so that no worker begins one at the end
        todo = sorted(todo, key=lambda job: job.archive.bytes, reverse=True)
        with Meter(sum(job.archive.bytes for job in todo), "B", "extracting", scale=True) as meter:
            try:
                outcomes = over_processes(unpack_subject, todo, flags.workers or available_cores(), meter)
            except DiskFullError as error:
                raise Failure(f"{error}: {_needed(flags, jobs)}: make room, then {GO_ON}") from None
    results = [(job.archive.subject, outcome) for job, outcome in zip(todo, outcomes, strict=True)]
    findings = sorted(f"{subject}: {outcome.fault}" for subject, outcome in results if outcome.fault)
    notes = sorted(f"{subject}: note: {outcome.note}" for subject, outcome in results if outcome.note)
    sys.stdout.write("".join(f"{line}\n" for line in (*findings, *notes)))
    unpacked = sum(job.is_finished() for job in remaining)
    sys.stdout.write(
        f"{flags.output}: {unpacked} subjects unpacked, {len(finished)} were there already, "
        f"{len(remaining) - unpacked} cannot be; {meter.units / 1e6 / meter.seconds:.1f} MB/s\n"
    )
    return CHECK_FAILED if findings else OK


def _find_jobs(flags: ExtractFlags) -> list[UnpackJob]:
    archives = find_archives(flags.input)
    # all parts may be gone because they are unpacked
    if not archives and not (flags.delete_parts and flags.output.is_dir() and any(flags.output.iterdir())):
        raise InputError(f"{flags.input} holds no archives: expected <subject>.tar.gz.partaa, ... or <subject>.tar.gz")
    return [UnpackJob(archive, flags.output, flags.delete_parts) for archive in archives]


def _needed(flags: ExtractFlags, jobs: Sequence[UnpackJob]) -> str:
    sizes = [job.archive.bytes for job in jobs if not job.is_finished()]
    least, whose = (max(sizes), "the largest is") if flags.delete_parts else (sum(sizes), "they are")
    needed, free = format_bytes(least), format_bytes(shutil.disk_usage(flags.output).free)
    return f"the {len(sizes)} subjects to come need at least {needed}, which {whose} compressed, and {free} are free"


if __name__ == "__main__":
    sys.exit(main())
