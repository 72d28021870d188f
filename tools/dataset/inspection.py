"""Inspection of one recording of the dataset, frame by frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2

from tools.dataset.frame_faults import inspect_frame, name_fault, number_fault
from tools.dataset.frames import PAIRED
from tools.dataset.layout import SUBJECTS, Recording
from tools.parallel import Progress

REQUIRED: Final = ("rgba", "json")
"""Modalities that every dataset has."""


@dataclass(frozen=True)
class InspectionJob:
    """A recording to inspect."""

    recording: Recording
    modalities: tuple[str, ...]
    """Modalities that every frame should have."""
    deep: bool
    """Decode every image instead of reading only its beginning and its end."""


@dataclass(frozen=True)
class Inspection:
    """The findings in a recording."""

    recording: Recording
    counts: dict[str, int]
    """Frames that have a file of each modality, ``rot`` among them (frames)."""
    frames: int
    """Number of frames that have a file of any modality (frames)."""
    misaligned: tuple[tuple[str, ...], ...]
    """Groups of modalities with equally many files of different frames: pairing them by order fails silently."""
    faults: dict[str, tuple[int, ...]]
    """Frames by fault."""
    problems: tuple[str, ...]
    """Faults of the recording as a whole."""
    notes: dict[str, tuple[int, ...]]
    """Frames by note: what is unusual about them but does no harm."""

    @property
    def bad_frames(self) -> tuple[int, ...]:
        """Frames with any fault, ascending."""
        return tuple(sorted({frame for frames in self.faults.values() for frame in frames}))

    @property
    def sound(self) -> bool:
        """Whether there are no faults."""
        return not self.faults and not self.problems

    def to_json(self) -> dict[str, Any]:
        """Return the recording's part of the report."""
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
    """Inspect every file of a recording."""
    cv2.setNumThreads(1)  # every core has a process of its own
    recording = job.recording
    files = {modality: recording.all_files(modality) for modality in (*PAIRED, "rot")}
    frames = sorted(set().union(*(files[modality] for modality in job.modalities)))
    faults, notes = defaultdict(list), defaultdict(list)
    for frame in frames:
        own = {modality: paths[frame] for modality, paths in files.items() if frame in paths}
        wrong, unusual = inspect_frame(own, job.modalities, deep=job.deep)
        for reason in (*wrong, *filter(None, [number_fault(frame)])):
            faults[reason].append(frame)
        for reason in unusual:
            notes[reason].append(frame)
        progress.add(1)
    return Inspection(
        recording,
        counts={modality: len(paths) for modality, paths in files.items()},
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


def _split_problems(recording: Recording) -> Iterator[str]:
    for split, subjects in SUBJECTS.items():
        if recording.subject in subjects and split != recording.split:
            yield f"{recording.subject} belongs to the {split} split, not to {recording.split}: run tools.arrange"


def modalities_in(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Return the modalities of the dataset: the required ones, and others that any recording has."""
    return tuple(
        modality
        for modality in PAIRED
        if modality in REQUIRED or any(any(True for _ in recording.numbered(modality)) for recording in recordings)
    )
