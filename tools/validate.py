"""Find every fault of the extracted dataset: ``python -m tools.validate --root DATASET``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.cli.command import CHECK_FAILED, OK, Command, command
from loaders.errors import printable
from loaders.system.cores import available_cores
from loaders.system.files import write_whole
from tools.dataset.frames import PAIRED
from tools.dataset.inspection import Inspection, InspectionJob, inspect_recording, modalities_in
from tools.dataset.layout import SUBJECTS, find_environments
from tools.dataset.prune import prune
from tools.parallel import Meter, over_processes

_SHOWN_FRAMES = 12
"""How many frame numbers a line of the table names (frames); the report names all."""


@dataclass(frozen=True, kw_only=True)
class ValidateFlags(Command):
    """Flags of ``tools.validate``."""

    root: Path
    """Folder of the dataset, with TrainSet, ValSet, TestSet."""
    deep: bool = False
    """Decode every image; without it, only the two ends of each file are looked at."""
    report: Path | None = None
    """File to write the findings to, as JSON, with the number of every faulty frame."""
    prune: Path | None = None
    """Folder to move all files of unpaired or unusable frames to, nothing is deleted; what remains in the dataset is
    then sound, even for programs that pair files by position. Files that a link shares with another recording, or
    with a sound frame, stay where they are."""
    workers: int = 0
    """Cores to use (cores); 0 takes all."""


@command("tools.validate", "Find every fault of the extracted dataset; exit status 1 if there is any.")
def main(flags: ValidateFlags) -> int:
    """Inspect the dataset, say what was found, and move faulty frames aside if asked to."""
    recordings = find_environments(flags.root)
    modalities = modalities_in(recordings)
    jobs = [InspectionJob(recording, modalities, flags.deep) for recording in recordings]
    with Meter(0, "frame", "validating") as meter:
        inspections = over_processes(inspect_recording, jobs, flags.workers or available_cores(), meter)
    absent = {
        split: tuple(subject for subject in subjects if subject not in {found.subject for found in recordings})
        for split, subjects in SUBJECTS.items()
    }
    sys.stdout.write("\n".join(_table(inspections, modalities)) + "\n")
    sys.stdout.write("\n".join(_findings(inspections, absent)) + "\n")
    sound = all(inspection.sound for inspection in inspections)
    if flags.report:
        report = _report(inspections, modalities, absent, deep=flags.deep)
        write_whole(flags.report, (json.dumps(report, indent=1) + "\n").encode())
    if flags.prune:
        moved, kept = prune(flags.root, flags.prune, inspections)
        sys.stdout.write(f"moved {moved} files to {flags.prune}; run tools.validate again to see what remains\n")
        for folder, files in kept.items():
            sys.stdout.write(
                f"not moved: {files} files in {printable(str(folder))}: a link shares them with what is not pruned\n"
            )
    return OK if sound else CHECK_FAILED


def _table(inspections: Sequence[Inspection], modalities: Sequence[str]) -> list[str]:
    head = ["split", "subject", "environment", "frames", *PAIRED, "rot", "faulty", "pairing"]
    rows = [
        [
            found.recording.split,
            found.recording.subject,
            found.recording.name,
            str(found.frames),
            *(str(found.counts[modality]) for modality in (*PAIRED, "rot")),
            str(len(found.bad_frames)),
            _pairing(found, modalities),
        ]
        for found in inspections
    ]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]


def _pairing(found: Inspection, modalities: Sequence[str]) -> str:
    if found.misaligned:
        return f"misaligned at equal counts: {'; '.join(', '.join(group) for group in found.misaligned)}"
    return "incomplete" if any(found.counts[modality] < found.frames for modality in modalities) else "complete"


def _findings(inspections: Sequence[Inspection], absent: dict[str, tuple[str, ...]]) -> list[str]:
    lines = []
    for found in inspections:
        name = f"{found.recording.subject} {found.recording.name}"
        lines += [f"FAULT {name}: {problem}" for problem in found.problems]
        lines += [f"FAULT {name}: {reason}: {_frames(frames)}" for reason, frames in found.faults.items()]
        lines += [f"note  {name}: {note}: {len(frames)} frames" for note, frames in found.notes.items()]
    lines += [
        f"note  the {split} split lacks {len(names)} of its {len(SUBJECTS[split])} subjects: {', '.join(names)}"
        for split, names in absent.items()
        if names
    ]
    frames, bad = sum(found.frames for found in inspections), sum(len(found.bad_frames) for found in inspections)
    misaligned = sum(bool(found.misaligned) for found in inspections)
    problems = sum(len(found.problems) for found in inspections)
    verdict = "nothing is wrong" if not bad and not problems else f"{bad} of them faulty, {problems} other problems"
    return [*lines, f"{frames} frames in {len(inspections)} recordings, {misaligned} misaligned: {verdict}"]


def _frames(frames: Sequence[int]) -> str:
    more = len(frames) - _SHOWN_FRAMES
    shown = ", ".join(f"{frame:06d}" for frame in frames[:_SHOWN_FRAMES])
    return f"{len(frames)} frames: {shown}{f' and {more} more' if more > 0 else ''}"


def _report(
    inspections: Sequence[Inspection], modalities: Sequence[str], absent: dict[str, tuple[str, ...]], *, deep: bool
) -> dict[str, Any]:
    totals: dict[str, int] = {}
    for found in inspections:
        for reason, frames in found.faults.items():
            totals[reason] = totals.get(reason, 0) + len(frames)
    return {
        "sound": all(found.sound for found in inspections),
        "deep": deep,
        "modalities": modalities,
        "frames": sum(found.frames for found in inspections),
        "faulty_frames": sum(len(found.bad_frames) for found in inspections),
        "faults": dict(sorted(totals.items())),
        "absent_subjects": absent,
        "recordings": [found.to_json() for found in inspections],
    }


if __name__ == "__main__":
    sys.exit(main())
