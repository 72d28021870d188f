"""What sharding will do, how long it takes and how much space."""

from __future__ import annotations

from pathlib import Path

from engine.cli.forecast import Destination, counted, show
from loaders.system.os_errors import format_bytes
from tools.sharding.plan import Plan, reasons
from tools.sharding.work import Work
from tools.sharding.writer import Estimate


def show_forecast(output: Path, plan: Plan, work: Work, expected: Estimate, cores: int | None) -> None:
    """Write what the run will do to standard output.

    Args:
        output: folder of the shard set, which need not exist.
        plan: its samples.
        work: its shards.
        expected: what the remaining ones will take.
        cores: how many will work on them; None if that is not known.
    """
    rows = [(name, _said_of(work, name)) for name in plan.splits]
    skipped = [frame for split in plan.splits.values() for frame in split.skipped]
    skipped += [frame for result in work.done.values() for frame in result.skipped]
    if skipped:
        rows.append(("to skip", f"{counted(len(skipped), 'frame')}: {reasons(skipped)}"))
    destination = Destination(output)
    rows += [
        ("not checked", "whether each image can be decoded, which is seen when it is"),
        ("", ""),
        ("to write", f"{counted(expected.samples, 'sample')} in {counted(len(work.remaining), 'shard')}"),
        ("space", f"about {format_bytes(expected.bytes)}; {format_bytes(destination.free)} are free"),
        ("time", f"about {expected.duration(cores)}"),
    ]
    show(rows, destination.warnings(0))


def _said_of(work: Work, split: str) -> str:
    jobs = work.of(split)
    done = [job for job in jobs if job.name in work.done]
    there = f", {len(done)} of them finished already" if done else ""
    return f"{counted(sum(len(job.rows) for job in jobs), 'sample')} in {counted(len(jobs), 'shard')}{there}"
