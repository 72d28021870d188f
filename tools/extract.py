"""Unpack the downloaded archives: ``python -m tools.extract --input PARTS --output RAW``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.command import CHECK_FAILED, OK, Command, run
from loaders.config import available_cores
from tools.archives import Archive, ArchiveError, find_archives, unpack
from tools.parallel import Meter, over_processes


@dataclass(frozen=True, kw_only=True)
class ExtractFlags(Command):
    """Flags of ``tools.extract``."""

    input: Path
    """Folder with <subject>.tar.gz.partaa, .partab, ... or <subject>.tar.gz."""
    output: Path
    """Folder to unpack to, one folder per subject; subjects that are there are finished and not done again."""
    delete_parts: bool = False
    """Delete a subject's parts when it is unpacked and its checksum was right."""
    workers: int = 0
    """Subjects unpacked at the same time (cores); 0 takes all cores."""


@dataclass(frozen=True)
class _Job:
    archive: Archive
    output: Path
    delete_parts: bool


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
    archives = find_archives(flags.input)
    finished = [archive for archive in archives if (flags.output / archive.subject).is_dir()]
    remaining = [archive for archive in archives if archive not in finished]
    if flags.delete_parts:
        for archive in finished:  # a run may have been killed before it came to this
            _delete(archive)
    jobs = [_Job(archive, flags.output, flags.delete_parts) for archive in remaining]
    with Meter(sum(archive.bytes for archive in remaining), "B", "extracting", scale=True) as meter:
        faults = over_processes(_extract, jobs, flags.workers or available_cores(), meter)
    findings = [f"{archive.subject}: {fault}" for archive, fault in zip(remaining, faults, strict=True) if fault]
    sys.stdout.write("".join(f"{finding}\n" for finding in findings))
    sys.stdout.write(
        f"{flags.output}: {len(remaining) - len(findings)} subjects unpacked, {len(finished)} were there already, "
        f"{len(findings)} cannot be; {meter.units / 1e6 / meter.seconds:.1f} MB/s\n"
    )
    return CHECK_FAILED if findings else OK


def _extract(job: _Job) -> str:
    """Unpack one subject; return why not, or nothing."""
    try:
        unpack(job.archive, job.output)
    except ArchiveError as error:
        return str(error)
    if job.delete_parts:
        _delete(job.archive)
    return ""


def _delete(archive: Archive) -> None:
    for part in archive.parts:
        part.unlink()


if __name__ == "__main__":
    sys.exit(main())
