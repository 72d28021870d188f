"""What is wrong with one recording of the dataset, frame by frame."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.command import Failure
from loaders.errors import InputError
from models.camera import XR_EGOPOSE
from tools.dataset import SUBJECTS, Environment, LabelError
from tools.frames import PAIRED, PNG_HEAD, PNG_TAIL, FrameError, decode_png, frame_labels, png_fault
from tools.parallel import advance

REQUIRED: Final = ("rgba", "json")
"""Modalities without which there is no dataset."""

AGREEMENT: Final = 1.0
"""How far a 2D label may lie from the projection of its 3D label (pixels)."""

_NULL_HEIGHT = re.compile(rb'"char_height"\s*:\s*null')


@dataclass(frozen=True)
class InspectionJob:
    """A recording, and how to look at it."""

    recording: Environment
    modalities: tuple[str, ...]
    """Modalities that every frame should have."""
    deep: bool
    """Decode every picture instead of looking at its two ends."""


@dataclass(frozen=True)
class Inspection:
    """What was found in a recording."""

    recording: Environment
    counts: dict[str, int]
    """Files of each modality, ``rot`` among them (files)."""
    frames: int
    """Frame numbers that occur in any modality (frames)."""
    misaligned: bool
    """All modalities have the same number of files, and yet not the same frames: pairing by position goes wrong."""
    faults: dict[str, tuple[int, ...]]
    """Frames by what is wrong with them."""
    problems: tuple[str, ...]
    """What is wrong with the recording as a whole."""
    notes: dict[str, int]
    """Peculiarities that harm nothing, with the number of frames (frames)."""

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
            "faults": {reason: {"count": len(frames), "frames": frames} for reason, frames in self.faults.items()},
            "notes": self.notes,
        }


def inspect_recording(job: InspectionJob) -> Inspection:
    """Look at every file of a recording. Raises Failure if a file cannot be read."""
    recording = job.recording
    problems = list(_split_problems(recording))
    files: dict[str, dict[int, Path]] = {}
    for modality in (*PAIRED, "rot"):
        try:
            files[modality] = recording.files(modality)
        except InputError as error:
            problems.append(str(error))
            files[modality] = {}
    paired = {modality: files[modality] for modality in job.modalities}
    frames = sorted(set().union(*paired.values()))
    faults, notes = defaultdict(list), dict.fromkeys(("char_height is null", "no rot file"), 0)
    for frame in frames:
        mine = {modality: found[frame] for modality, found in paired.items() if frame in found}
        for reason in _frame_faults(mine, job):
            faults[reason].append(frame)
        notes["no rot file"] += frame not in files["rot"]
        notes["char_height is null"] += "json" in mine and bool(_NULL_HEIGHT.search(_read(mine["json"])))
        advance(1)
    counts = {modality: len(found) for modality, found in files.items()}
    even = len({counts[modality] for modality in job.modalities}) == 1
    return Inspection(
        recording,
        counts,
        len(frames),
        misaligned=even and any(len(found) < len(frames) for found in paired.values()),
        faults={reason: tuple(numbers) for reason, numbers in sorted(faults.items())},
        problems=tuple(problems),
        notes={note: count for note, count in notes.items() if count},
    )


def _split_problems(recording: Environment) -> Iterator[str]:
    for split, subjects in SUBJECTS.items():
        if recording.subject in subjects and split != recording.split:
            yield f"{recording.subject} belongs to the {split} split, not to {recording.split}: run tools.arrange"


def _frame_faults(files: Mapping[str, Path], job: InspectionJob) -> Iterator[str]:
    """Yield what is wrong with a frame, in words that do not differ from frame to frame."""
    for modality in job.modalities:
        if modality not in files:
            yield f"no {modality} file"
        elif modality == "json":
            yield from _label_faults(_read(files[modality]))
        else:
            fault = _picture_fault(modality, files[modality], deep=job.deep)
            if fault:
                yield fault


def _label_faults(text: bytes) -> Iterator[str]:
    try:
        labels = frame_labels(text)
    except LabelError as error:
        # what follows the colon says where in this one file
        yield str(error).partition(": ")[0]
        return
    distance = np.linalg.norm(XR_EGOPOSE.project(labels.joints_3d) - labels.joints_2d, axis=1)
    if distance.max() > AGREEMENT:
        yield f"2D labels more than {AGREEMENT:g} pixel off the camera model"


def _picture_fault(modality: str, path: Path, *, deep: bool) -> str | None:
    if not deep:
        fault = png_fault(*_ends(path))
        return f"{modality} {fault}" if fault else None
    try:
        decode_png(modality, _read(path))
    except FrameError as error:
        return str(error)
    return None


def _ends(path: Path) -> tuple[bytes, bytes]:
    try:
        with path.open("rb", buffering=0) as stream:
            head = stream.read(PNG_HEAD)
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - PNG_TAIL))
            return head, stream.read(PNG_TAIL)
    except OSError as error:
        raise _unreadable(path, error) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> Failure:
    return Failure(f"{path} cannot be read ({error.strerror}): mend it, then run the command again")


def modalities_in(recordings: Sequence[Environment]) -> tuple[str, ...]:
    """Return the modalities the dataset has: the required ones, and others that any recording holds."""
    return tuple(
        modality
        for modality in PAIRED
        if modality in REQUIRED or any(_holds_files(recording.path / modality) for recording in recordings)
    )


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(True for _ in os.scandir(folder))
