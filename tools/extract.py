"""Unpack the downloaded archives: ``python -m tools.extract --input PARTS --output RAW``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.forecast import Destination
from loaders.errors import Failure
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.locks import locked
from loaders.system.os_errors import DiskFullError, format_bytes
from tools.archives.forecast import make_forecast, show_forecast
from tools.archives.multipart import GO_ON
from tools.archives.plan import Plan, make_plan
from tools.archives.unpack import temporary_folder, unpack_subject
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
    dry_run: bool = False
    """Say what would be done, how long it would take and how much space; write nothing."""
    workers: int = 0
    """Workers that unpack subjects (processes); 0 takes one per core."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", workers=Range(0))


@command("tools.extract", "Unpack multi-part archives, part after part; exit status 1 if any cannot be.")
def main(flags: ExtractFlags) -> int:
    """Unpack the subjects that are not there yet, and name the archives that cannot be unpacked."""
    workers = flags.workers or available_cores()
    plan = make_plan(flags.input, flags.output, delete_parts=flags.delete_parts)  # before anything is written
    if flags.dry_run:
        Destination(flags.output).check()
        forecast = make_forecast(plan)
        show_forecast(forecast, workers)
        return CHECK_FAILED if forecast.faults else OK
    with locked(flags.output), temporary_folder(flags.output):
        plan = make_plan(flags.input, flags.output, delete_parts=flags.delete_parts)
        todo = plan.todo
        with Meter(sum(job.archive.bytes for job in todo), "B", "extracting", scale=True) as meter:
            try:
                outcomes = over_processes(unpack_subject, todo, workers, meter)
            except DiskFullError as error:
                raise Failure(f"{error}: {_needed(plan)}: make room, then {GO_ON}") from None
    results = [(job.archive.subject, outcome) for job, outcome in zip(todo, outcomes, strict=True)]
    findings = sorted(f"{subject}: {outcome.fault}" for subject, outcome in results if outcome.fault)
    notes = sorted(f"{subject}: note: {outcome.note}" for subject, outcome in results if outcome.note)
    sys.stdout.write("".join(f"{line}\n" for line in (*findings, *notes)))
    unpacked = sum(job.is_finished() for job in plan.remaining)
    sys.stdout.write(
        f"{flags.output}: {unpacked} subjects unpacked, {len(plan.finished)} were there already, "
        f"{len(plan.remaining) - unpacked} cannot be; {meter.units / 1e6 / meter.seconds:.1f} MB/s\n"
    )
    return CHECK_FAILED if findings else OK


def _needed(plan: Plan) -> str:
    sizes = [job.archive.bytes for job in (*plan.finished, *plan.remaining) if not job.is_finished()]
    least, whose = (max(sizes), "the largest is") if plan.delete_parts else (sum(sizes), "they are")
    needed, free = format_bytes(least), format_bytes(Destination(plan.output).free)
    return f"the {len(sizes)} subjects to come need at least {needed}, which {whose} compressed, and {free} are free"


if __name__ == "__main__":
    sys.exit(main())
