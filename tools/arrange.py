"""Sort extracted subjects into the official splits: ``python -m tools.arrange --input RAW --output DATASET``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from engine.cli.command import OK, Command, command
from engine.cli.forecast import Destination, counted, show
from loaders.errors import printable
from loaders.system.os_errors import format_bytes
from tools.dataset.arrangement import Arrangement, find_subjects
from tools.dataset.layout import SET_FOLDERS, SUBJECTS, recordings_of
from tools.dataset.placing import Mode, check_place, content_to_place, place
from tools.parallel import Meter

_SAMPLE: Final = 64_000_000
"""How much of what would be copied a dry run reads (bytes)."""


@dataclass(frozen=True, kw_only=True)
class ArrangeFlags(Command):
    """Flags of ``tools.arrange``."""

    input: Path
    """Folder with one folder per subject, as tools.extract writes it (path)."""
    output: Path
    """Folder of the dataset (path): TrainSet, ValSet and TestSet are made in it."""
    mode: Mode = "move"
    """How subjects get into the dataset: links take no space, hard links need the same file system.
    Links within a subject stay links; files that a link brings in from elsewhere are copied."""
    dry_run: bool = False
    """Say what would be done, how long it would take and how much space; write nothing."""


@command("tools.arrange", "Sort extracted subjects into TrainSet, ValSet and TestSet by the official table.")
def main(flags: ArrangeFlags) -> int:
    """Put every known subject into its split and say which are unknown or missing."""
    arrangement = find_subjects(flags.input, flags.output)
    given, targets, wanted, ready = arrangement.given, arrangement.targets, arrangement.wanted, arrangement.ready
    for subject in wanted:
        check_place(given[subject], targets[subject], flags.mode)
    if flags.dry_run:
        _show_forecast(flags, arrangement)
        return OK
    dangling: list[Path] = []
    with Meter(len(wanted), "subject", "arranging") as meter:
        for subject in wanted:
            dangling += place(given[subject], targets[subject], flags.mode)
            meter.add(1)
    sys.stdout.write(f"{flags.output}: {len(wanted)} subjects placed ({flags.mode}), {len(ready)} were there already\n")
    for words, names in (("unknown, left where they are", arrangement.unknown), ("missing", arrangement.missing)):
        if names:
            sys.stdout.write(f"{words}: {len(names)}: {printable(', '.join(names))}\n")
    if dangling:
        sys.stdout.write(f"links that lead nowhere: {len(dangling)}, the first is {printable(str(dangling[0]))}\n")
    return OK


def _show_forecast(flags: ArrangeFlags, arrangement: Arrangement) -> None:
    contents = []
    with Meter(len(arrangement.wanted), "subject", "looking for files") as meter:
        for subject in arrangement.wanted:
            given, target = arrangement.given[subject], arrangement.targets[subject]
            contents.append(content_to_place(given, target, flags.mode))
            meter.add(1)
    copied, linked = sum(content.copied for content in contents), sum(content.linked for content in contents)
    size, destination = sum(content.bytes for content in contents), Destination(flags.output)
    dangling = [path for content in contents for path in content.dangling]
    rows = [(SET_FOLDERS[split], _said_of(split, flags.mode, arrangement)) for split in SUBJECTS]
    for name, subjects in (("unknown", arrangement.unknown), ("missing", arrangement.missing)):
        if subjects:
            rows.append((name, f"{len(subjects)}: {', '.join(subjects)}"))
    if dangling:
        rows.append(("dead links", f"{len(dangling)}, the first is {dangling[0]}"))
    rows.append(("", ""))
    if linked:
        rows.append(("to link", counted(linked, "file")))
    if copied:
        duration = tqdm.format_interval(size / _reading_rate(path for content in contents for path in content.first))
        rows += [
            ("to copy", counted(copied, "file")),
            ("space", f"{format_bytes(size)}; {format_bytes(destination.free)} are free"),
            ("time", f"about {duration}, if files are written as fast as they are read"),
        ]
    else:
        rows += [("space", "none: no file is copied"), ("time", "moments")]
    source = Destination(flags.input, "--input").warnings(0) if flags.mode == "move" else ()
    show(rows, (*destination.warnings(size), *source))


def _said_of(split: str, mode: Mode, arrangement: Arrangement) -> str:
    """Say what becomes of a split's subjects."""
    placed = [arrangement.given[subject] for subject in arrangement.wanted if subject in SUBJECTS[split]]
    there = [arrangement.targets[subject] for subject in arrangement.ready if subject in SUBJECTS[split]]
    groups = ((placed, f"to {mode}"), (there, "there already"))
    return "; ".join(f"{_counts(folders, split)} {words}" for folders, words in groups if folders) or "no subject"


def _counts(folders: Iterable[Path], split: str) -> str:
    recordings = [recordings_of(folder, split) for folder in folders]
    return f"{counted(len(recordings), 'subject')} with {counted(sum(map(len, recordings)), 'recording')}"


def _reading_rate(paths: Iterable[Path]) -> float:
    """Return how fast the first of these files are read (bytes per second)."""
    start, read = time.perf_counter(), 0
    for path in paths:
        read += len(path.read_bytes())
        if read >= _SAMPLE:
            break
    return max(read, 1) / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
