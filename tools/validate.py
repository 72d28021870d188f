"""Find every defect of the extracted dataset: ``python -m tools.validate --dataset DATASET``."""

from __future__ import annotations

import functools
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from engine.cli.command import CHECK_FAILED, OK, Command, command
from loaders.errors import InputError, printable
from loaders.ranges import Range, check_ranges
from loaders.system.cores import available_cores
from loaders.system.files import write_whole
from tools.dataset.inspection import NO_ROTATIONS
from tools.dataset.prune import prune
from tools.dataset.source import XR_EGOPOSE, XrEgoPose
from tools.parallel import Meter, over_processes
from tools.sources import SPLITS, Source
from tools.sources.inspection import Inspection
from tools.sources.opening import find_recordings, open_source

_SHOWN_FRAMES = 12
"""Frame numbers that a line of the output names at most (frames); the report has all."""


@dataclass(frozen=True, kw_only=True)
class ValidateFlags(Command):
    """Flags of ``tools.validate``."""

    dataset: Annotated[Path, tyro.conf.arg(aliases=("--root",))]
    """Folder of the dataset, with TrainSet, ValSet and TestSet, or what --source reads (path)."""
    source: str = XR_EGOPOSE
    """Class that reads the dataset, as package.module:Class or path/to/file.py:Class, for data of your own."""
    deep: bool = False
    """Decode every image; without it, only the beginning and the end of each file are read, of other datasets than
    xR-EgoPose labels alone."""
    report: Path | None = None
    """JSON file for the findings (path), with the number of every faulty frame."""
    prune: Path | None = None
    """Folder to move all files of faulty frames to (path), of xR-EgoPose alone. Nothing is deleted.
    The rest of the dataset is then without defects, even for programs that pair files by their order.
    Files that a link shares with another recording, or with a frame without defects, stay in the dataset."""
    workers: int = 0
    """Workers that inspect recordings (processes); 0 takes one per core."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(self, "--", workers=Range(0))


@command("tools.validate", "Find every defect of the extracted dataset; exit status 1 if there is any.")
def main(flags: ValidateFlags) -> int:
    """Inspect the dataset, print the findings, and move the files of faulty frames if --prune is given."""
    source = open_source(flags.source, flags.dataset)
    if flags.prune and not isinstance(source, XrEgoPose):
        raise InputError(f"--prune knows the files of {XrEgoPose.name} alone, not those of {source.name}: drop it")
    recordings = find_recordings(source, SPLITS)
    components = source.components_of(recordings)
    inspect = functools.partial(source.inspect, components=components, deep=flags.deep)
    with Meter(0, "frame", "validating") as meter:
        inspections = over_processes(inspect, recordings, flags.workers or available_cores(), meter)
    absent = {
        split: tuple(subject for subject in subjects if subject not in {recording.subject for recording in recordings})
        for split, subjects in source.subjects.items()
    }
    sys.stdout.write("\n".join(_table(inspections, source.components, components)) + "\n")
    sys.stdout.write("\n".join(_findings(inspections, absent, source)) + "\n")
    sound = all(inspection.sound for inspection in inspections)
    if flags.report:
        report = _report(inspections, components, absent, deep=flags.deep)
        write_whole(flags.report, (json.dumps(report, indent=1) + "\n").encode())
    if flags.prune:
        moved, kept = prune(flags.dataset, flags.prune, inspections)
        sys.stdout.write(f"moved {moved} files to {flags.prune}; run tools.validate again to see what remains\n")
        for folder, files in kept.items():
            sys.stdout.write(
                f"not moved: {files} files in {printable(str(folder))}: a link shares them with what is not pruned\n"
            )
    return OK if sound else CHECK_FAILED


def _table(inspections: Sequence[Inspection], columns: Sequence[str], components: Sequence[str]) -> list[str]:
    """Return a line for each recording; each of its frames should have ``components``, among the ``columns``."""
    head = ["split", "subject", "environment", "frames", *columns, "faulty", "pairing"]
    rows = []
    for inspection in inspections:
        recording = inspection.recording
        counts = [inspection.frames, *(inspection.counts[column] for column in columns)]
        numbers = map(str, [*counts, len(inspection.bad_frames)])
        rows.append([recording.split, recording.subject, recording.name, *numbers, _pairing(inspection, components)])
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def _pairing(inspection: Inspection, components: Sequence[str]) -> str:
    if inspection.misaligned:
        return f"misaligned at equal counts: {'; '.join(', '.join(group) for group in inspection.misaligned)}"
    complete = all(inspection.counts[name] == inspection.frames for name in components)
    return "complete" if complete else "incomplete"


def _findings(inspections: Sequence[Inspection], absent: dict[str, tuple[str, ...]], source: Source) -> list[str]:
    lines = []
    for inspection in inspections:
        name = f"{inspection.recording.subject} {inspection.recording.name}"
        lines += [f"FAULT {name}: {problem}" for problem in inspection.problems]
        lines += [f"FAULT {name}: {reason}: {_frames(frames)}" for reason, frames in inspection.defects.items()]
        notes = {note: frames for note, frames in inspection.notes.items() if note != NO_ROTATIONS}
        lines += [f"note  {name}: {note}: {len(frames)} frames" for note, frames in notes.items()]
    without = [len(inspection.notes[NO_ROTATIONS]) for inspection in inspections if NO_ROTATIONS in inspection.notes]
    if without:
        lines.append(f"note  {NO_ROTATIONS}: {sum(without)} frames in {len(without)} recordings")
    lines += [
        f"note  the {split} split lacks {len(names)} of its {len(source.subjects[split])} subjects: {', '.join(names)}"
        for split, names in absent.items()
        if names
    ]
    frames = sum(inspection.frames for inspection in inspections)
    bad = sum(len(inspection.bad_frames) for inspection in inspections)
    misaligned = sum(bool(inspection.misaligned) for inspection in inspections)
    problems = sum(len(inspection.problems) for inspection in inspections)
    verdict = "nothing is wrong" if not bad and not problems else f"{bad} of them faulty, {problems} other problems"
    return [*lines, f"{frames} frames in {len(inspections)} recordings, {misaligned} misaligned: {verdict}"]


def _frames(frames: Sequence[int]) -> str:
    more = len(frames) - _SHOWN_FRAMES
    shown = ", ".join(f"{frame:06d}" for frame in frames[:_SHOWN_FRAMES])
    return f"{len(frames)} frames: {shown}{f' and {more} more' if more > 0 else ''}"


def _report(
    inspections: Sequence[Inspection], components: Sequence[str], absent: dict[str, tuple[str, ...]], *, deep: bool
) -> dict[str, Any]:
    totals: Counter[str] = Counter()
    for inspection in inspections:
        totals.update({reason: len(frames) for reason, frames in inspection.defects.items()})
    return {
        "sound": all(inspection.sound for inspection in inspections),
        "deep": deep,
        "modalities": components,
        "frames": sum(inspection.frames for inspection in inspections),
        "faulty_frames": sum(len(inspection.bad_frames) for inspection in inspections),
        "faults": dict(sorted(totals.items())),
        "absent_subjects": absent,
        "recordings": [inspection.to_json() for inspection in inspections],
    }


if __name__ == "__main__":
    sys.exit(main())
