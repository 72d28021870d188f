"""All that needs a GPU, in one run within a budget: ``python -m benchmarks.gpu_suite``."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.gpu import journal
from benchmarks.gpu.journal import ARCHIVE, Journal
from benchmarks.gpu.setting import choose, prepare, unpack
from benchmarks.gpu.steps import steps
from benchmarks.gpu.tables import page
from benchmarks.gpu.worker import Worker
from benchmarks.results import origin
from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.progress import write_line
from engine.cli.signals import Signals, Stopped
from loaders.errors import Failure, InputError
from loaders.ranges import Range, check_ranges

_PATIENCE: Final = 90.0
"""How much longer than on an H100 a step may take (seconds): its process may have to start first."""


@dataclass(frozen=True, kw_only=True)
class SuiteFlags(Command):
    """Flags of ``benchmarks.gpu_suite``."""

    budget: float = 600.0
    """Time for everything (seconds); what no longer fits is skipped, and named."""
    out: Path = Path("runs/gpu_suite")
    """Folder for lines, tables, logs and their archive."""
    data: Path | None = None
    """Folder of the frames, 20 MB, which can be copied to another machine; they are made there unless they are there
    already. None makes them anew in each run."""
    prepare: bool = False
    """Make the frames in --data, and end."""
    steps: tuple[str, ...] = ()
    """Do only steps whose names contain one of these words; none does all."""
    read: Path | None = None
    """Show the tables of the run in this folder, and end."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", budget=Range(0))
        if self.prepare and not self.data:
            raise InputError("--prepare needs --data, the folder where the frames go")


@command("benchmarks.gpu_suite", "Check and measure all that needs a GPU, the most valuable first, within a budget.")
def main(flags: SuiteFlags) -> int:
    """Run the command and return its exit status."""
    if flags.read:
        sys.stdout.write(page(*journal.read(flags.read)))
        return OK
    if flags.prepare and flags.data:
        prepare(flags.data)
        return OK
    end = time.monotonic() + flags.budget
    with tempfile.TemporaryDirectory(prefix="gpu-suite-") as scratch:
        found = Journal(flags.out, origin("benchmarks.gpu_suite"))
        try:
            with Signals(lambda name: write_line(f"{name}: ending"), raises=True):
                failed = _run(flags, found, Path(scratch), end)
        except Stopped as stopped:
            write_line(f"{stopped}; what was measured is in {flags.out / ARCHIVE}")
            return 128 + stopped.number
    sys.stdout.write(f"{(flags.out / journal.PAGE).read_text(encoding='utf-8')}\nall of it: {flags.out / ARCHIVE}\n")
    return CHECK_FAILED if failed else OK


def _run(flags: SuiteFlags, found: Journal, scratch: Path, end: float) -> int:
    """Do the steps; return how many failed."""
    began = time.monotonic()
    frames, labels = unpack(prepare(flags.data or scratch / "data"), scratch)
    setting = choose(frames, labels, scratch)
    found.note("frames", "done", time.monotonic() - began)
    failed = 0
    with contextlib.closing(Worker(setting, flags.out / journal.LOGS)) as worker:
        for step in steps():
            if flags.steps and not any(word in step.name for word in flags.steps):
                continue
            began = time.monotonic()
            left = end - began
            if reason := step.reason_absent(setting) or ("no time left" if left < step.seconds else ""):
                found.note(step.name, "skipped", 0, reason=reason)
                continue
            try:
                figures = worker.do(step.name, min(left, step.seconds + _PATIENCE))
            except Failure as error:
                failed += 1
                found.note(step.name, "failed", time.monotonic() - began, reason=str(error))
            else:
                found.note(step.name, "done", time.monotonic() - began, figures=figures)
            sys.stdout.write(f"{step.name}: {time.monotonic() - began:.1f} s\n")
    return failed


if __name__ == "__main__":
    sys.exit(main())
