"""Inspection of one recording, frame by frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loaders.format.sample import COMPONENT_MEMBERS, EXACT_MEMBERS
from tools.parallel import Progress
from tools.sources.defects import key_defect, label_defects, number_defect
from tools.sources.images import decode_image, decode_png
from tools.sources.opening import read_component, read_image, read_labels, survey
from tools.sources.source import FrameError, Recording, Source


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
    defects: dict[str, tuple[int, ...]]
    """Frames by defect."""
    problems: tuple[str, ...]
    """What is wrong with the recording as a whole."""
    notes: dict[str, tuple[int, ...]]
    """Frames by note: what is unusual about them but does no harm."""

    @property
    def bad_frames(self) -> tuple[int, ...]:
        """Frames with any defect, ascending."""
        return tuple(sorted({frame for frames in self.defects.values() for frame in frames}))

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.defects and not self.problems

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
            "faults": _counted(self.defects),
            "notes": _counted(self.notes),
        }


def inspect_recording(
    source: Source, recording: Recording, progress: Progress, *, components: Sequence[str], deep: bool
) -> Inspection:
    """Inspect the labels of every frame of a recording; ``deep`` reads and decodes all its images as well."""
    defects, notes = defaultdict(list), defaultdict(list)
    frames = list(survey(source, recording, components))
    for frame in frames:
        reasons = [frame.defect, key_defect(recording, frame.number), number_defect(frame.number)]
        try:
            reasons += label_defects(read_labels(source, recording, frame.number), source.camera)
            if deep:
                _read_components(source, recording, frame.number, components)
        except FrameError as error:
            # after the colon it says where in this one frame
            reasons.append(str(error).partition(": ")[0])
        for reason in dict.fromkeys(filter(None, reasons)):
            defects[reason].append(frame.number)
        if frame.note:
            notes[frame.note].append(frame.number)
        progress.add(1)
    return Inspection(
        recording,
        counts=dict.fromkeys(components, len(frames)),
        frames=len(frames),
        misaligned=(),
        defects={reason: tuple(numbers) for reason, numbers in sorted(defects.items())},
        problems=(),
        notes={reason: tuple(numbers) for reason, numbers in sorted(notes.items())},
    )


def _read_components(source: Source, recording: Recording, frame: int, components: Sequence[str]) -> None:
    """Raise FrameError for a component that cannot be read, or decoded if it is an image."""
    for name in components:
        if name == "rgba":
            decode_image(read_image(source, recording, frame), source.camera)
        elif COMPONENT_MEMBERS[name] in EXACT_MEMBERS:
            decode_png(name, read_component(source, recording, frame, name), source.camera)
        else:
            read_component(source, recording, frame, name)


def _counted(frames_by_reason: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    return {reason: {"count": len(frames), "frames": frames} for reason, frames in frames_by_reason.items()}
