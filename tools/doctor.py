"""Tell what this machine has and lacks: ``python -m tools.doctor [--path FOLDER]``."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from engine.cli.command import CHECK_FAILED, OK, Command, command
from loaders.errors import InputError
from tools.machine.finding import Layout
from tools.machine.isolation import findings
from tools.machine.probes import lacking, probes


@dataclass(frozen=True, kw_only=True)
class DoctorFlags(Command):
    """Flags of ``tools.doctor``."""

    path: Path = Path()
    """Folder whose disk is measured, such as the one for shards (path); 256 MiB are written there, and deleted."""

    def __post_init__(self) -> None:
        """Check the folder."""
        if not self.path.is_dir():
            raise InputError(f"--path is {self.path}, which is no folder: give one that exists")


@command("tools.doctor", "Tell what this machine has and lacks; exit status 1 if something essential is missing.")
def main(flags: DoctorFlags) -> int:
    """Write a line for each part of the machine, and the remedy where one is needed."""
    examined = probes(flags.path.absolute())
    layout = Layout([probe.subject for probe in examined], shutil.get_terminal_size().columns)
    found = {}
    for probe, finding in findings(examined):
        found[probe.subject] = finding
        sys.stdout.write(layout.lines(probe.subject, finding))
        sys.stdout.flush()  # the next one may take seconds
        if flags.debug:
            sys.stderr.write(finding.traceback)
    lacks = lacking(found)
    warnings = sum(finding.status == "warning" for finding in found.values())
    verdict = f"missing: {', '.join(lacks)}" if lacks else "nothing essential is missing"
    sys.stdout.write(f"{verdict}; warnings: {warnings}\n")
    return CHECK_FAILED if lacks else OK


if __name__ == "__main__":
    sys.exit(main())
