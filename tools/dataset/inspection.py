"""What is wrong with one recording of the dataset, frame by frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2

from tools.dataset.frame_faults import inspect_frame, name_fault, number_fault
from tools.dataset.frames import PAIRED
from tools.dataset.layout import SUBJECTS, Environment
from tools.parallel import Progress

REQUIRED: Final = ("rgba", "json")
"""Modalities without which there is no dataset."""


@dataclass(frozen=True)
class InspectionJob:
    """A recording, and how to look at it."""

    recording: Environment
    modalities: tuple[str, ...]
    """Modalities that every frame should have."""
    deep: bool
    """Decode every image instead of looking at its two ends."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a recording."""

    recording: Environment
    counts: dict[str, int]
    """Frames that have a file of each modality, ``rot`` among them (frames)."""
    frames: int
    """Frame numbers that occur in any modality (frames)."""
    misaligned: tuple[tuple[str, ...], ...]
    """Modalities with the same number of files and yet not the same frames: pairing by position goes wrong unseen."""
    faults: dict[str, tuple[int, ...]]
    """Frames by what is wrong with them."""
    problems: tuple[str, ...]
    """What is wrong with the recording as a whole."""
    notes: dict[str, tuple[int, ...]]
    """Frames by what is unusual about them and harms nothing."""

    @property
    def bad_frames(self) -> tuple[int, ...]:
        """Frames with any fault, ascending."""
        return tuple(sorted({frame for frames in self.faults.values() for frame in frames}))

    @property
    def sound(self) -> bool:
        """True if nothing is wrong."""
        return not self.faults and not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return what the report says about the recording."""
        return {
            "split": self.recording.split,
            "subject": self.recording.subject,
            "environment": self.recording.name,
            "counts": self.counts,
            "frames": self.frames,
            "misaligned": self.misaligned,
            "problems": self.problems,
            "faults": _counted(self.faults),
            "notes": _counted(self.notes),
        }


def inspect_recording(job: InspectionJob, progress: Progress) -> Inspection:
    """Look at every file of a recording."""
    cv2.setNumThreads(1)  # every core has a process of its own
    recording = job.recording
    files = {modality: recording.all_files(modality) for modality in (*PAIRED, "rot")}
    frames = sorted(set().union(*(files[modality] for modality in job.modalities)))
    faults, notes = defaultdict(list), defaultdict(list)
    for frame in frames:
        mine = {modality: found[frame] for modality, found in files.items() if frame in found}
        wrong, unusual = inspect_frame(mine, job.modalities, deep=job.deep)
        for reason in (*wrong, *filter(None, [number_fault(frame)])):
            faults[reason].append(frame)
        for reason in unusual:
            notes[reason].append(frame)
        progress.add(1)
    return Inspection(
        recording,
        counts={modality: len(found) for modality, found in files.items()},
        frames=len(frames),
        misaligned=_misaligned({modality: frozenset(files[modality]) for modality in job.modalities}),
        faults={reason: tuple(numbers) for reason, numbers in sorted(faults.items())},
        problems=(*_split_problems(recording), *filter(None, [name_fault(recording, max(frames, default=0))])),
        notes={reason: tuple(numbers) for reason, numbers in sorted(notes.items())},
    )


def _misaligned(frames: dict[str, frozenset[int]]) -> tuple[tuple[str, ...], ...]:
    alike = defaultdict(list)
    for modality, numbers in frames.items():
        alike[len(numbers)].append(modality)
    return tuple(tuple(group) for group in alike.values() if len({frames[modality] for modality in group}) > 1)


def _counted(frames_by_reason: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {reason: {"count": len(frames), "frames": frames} for reason, frames in frames_by_reason.items()}


def _split_problems(recording: Environment) -> Iterator[str]:
    for split, subjects in SUBJECTS.items():
        if recording.subject in subjects and split != recording.split:
            yield f"{recording.subject} belongs to the {split} split, not to {recording.split}: run tools.arrange"


def modalities_in(recordings: Sequence[Environment]) -> tuple[str, ...]:
    """Return the modalities the dataset has: the required ones, and others that any recording holds."""
    return tuple(
        modality
        for modality in PAIRED
        if modality in REQUIRED or any(any(True for _ in recording.numbered(modality)) for recording in recordings)
    )
