"""Download the release: ``python -m tools.download --output PARTS [--extract DATASET --delete-parts]``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from engine.cli.command import CHECK_FAILED, OK, Command, command
from engine.cli.forecast import Destination
from engine.cli.progress import write_line
from engine.cli.signals import Signals, Stopped
from loaders.errors import Failure, InputError
from loaders.ranges import Range, check_ranges
from loaders.system.locks import locked
from tools.dataset.layout import INCOMPLETE
from tools.downloading.forecast import show_forecast, spaces, warnings
from tools.downloading.plan import Subject, ask_for_sizes, wanted_subjects
from tools.downloading.server import Server
from tools.downloading.work import Report, download

_AGAIN = "run the same command again: it goes on where it stopped"


@dataclass(frozen=True, kw_only=True)
class DownloadFlags(Command):
    """Flags of ``tools.download``."""

    output: Path
    """Folder for <subject>.tar.gz.partaa, ... (path); what an interrupted run left there is continued."""
    split: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
    """Splits to take."""
    subjects: tuple[str, ...] = ()
    """Names of subjects to take; empty takes all."""
    extract: Path | None = None
    """Folder of the dataset (path): each subject whose parts are all there is unpacked below TrainSet, ValSet or
    TestSet in it, as tools.extract and tools.arrange would; subjects that are there already are not downloaded."""
    delete_parts: bool = False
    """Delete a subject's parts once all of it is unpacked and its checksum is right; needs --extract."""
    base_url: str = "https://github.com/facebookresearch/xR-EgoPose/releases/download/v1.0"
    """Address of the folder that has the parts, such as that of a mirror."""
    connections: int = 4
    """How many parts come at once (parts)."""
    dry_run: bool = False
    """Ask the server for sizes and say what would be done, how long it would take and how much space; write nothing."""

    def __post_init__(self) -> None:
        """Check the ranges, and what flags mean together."""
        check_ranges(self, "--", connections=Range(1, 64))
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InputError(f"--base-url is {self.base_url}: give an address that begins with http:// or https://")
        if self.delete_parts and self.extract is None:
            raise InputError("--delete-parts needs --extract DATASET: parts are deleted once they are unpacked")
        if self.extract is not None and self.extract.resolve() == self.output.resolve():
            raise InputError("--extract and --output are the same folder: give another one for the parts")


@command("tools.download", "Download the release, and unpack it on the way; exit status 1 if any part cannot be had.")
def main(flags: DownloadFlags) -> int:
    """Fetch the parts that are not there yet, and name those that the server does not give."""
    try:
        with Signals(lambda name: write_line(f"{name}: ending; {_AGAIN}"), raises=True):
            return _download(flags)
    except Stopped as stopped:
        return 128 + stopped.number


def _download(flags: DownloadFlags) -> int:
    server, base = Server(), flags.base_url.rstrip("/")
    subjects = wanted_subjects(
        flags.output, flags.extract, base, flags.split, flags.subjects, delete=flags.delete_parts
    )
    with contextlib.ExitStack() as locks:
        for path, flag in ((flags.output, "--output"), (flags.extract, "--extract")):
            if path is None:
                continue
            if flags.dry_run:
                Destination(path, flag).check()
            else:
                locks.enter_context(locked(path, flag=flag))
        subjects = ask_for_sizes(subjects, server, flags.connections)
        needs = spaces(subjects, flags.output, flags.extract, delete=flags.delete_parts)
        if flags.dry_run:
            show_forecast(subjects, needs, server, delete=flags.delete_parts)
            return CHECK_FAILED if any(subject.lacking for subject in subjects) else OK
        for warning in warnings(needs):
            raise Failure(warning)
        report = download(subjects, server, flags.connections)
    _say(flags, subjects, report)
    return CHECK_FAILED if report.faults else OK


def _say(flags: DownloadFlags, subjects: Sequence[Subject], report: Report) -> None:
    known = [subject.name for subject in subjects if subject.name in INCOMPLETE]
    lines = [*report.faults, *report.notes]
    lines += [f"{name}: note: the release itself lacks files of it; tools.validate names them" for name in known]
    lines.append(
        f"{flags.output}: {report.fetched} parts fetched, {report.here} were there already, "
        f"{report.lacking} cannot be; {report.rate / 1e6:.1f} MB/s"
    )
    if flags.extract is not None:
        ready = sum(subject.is_ready for subject in subjects)
        lines.append(
            f"{flags.extract}: {report.unpacked} subjects unpacked, {ready - report.unpacked} were there already, "
            f"{len(subjects) - ready} are not there"
        )
    if report.faults:
        lines.append(
            f"{_AGAIN}; delete parts that are damaged before; a part that the server lacks may be elsewhere: --base-url"
        )
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
