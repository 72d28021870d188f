"""Inspection of one recording of the dataset, frame by frame."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from loaders.codecs import PNG_HEADER, PNG_TAIL
from models.xr_egopose import CAMERA
from tools.dataset.frames import PAIRED, double_defect, leads_nowhere, name_defect
from tools.dataset.layout import SUBJECTS, ReleaseRecording, parse_frame, read_labels
from tools.parallel import Progress
from tools.sources.defects import label_defects, number_defect
from tools.sources.images import decode_png, png_defect
from tools.sources.inspection import Inspection
from tools.sources.source import FrameError

REQUIRED: Final = ("rgba", "json")
"""Modalities that every dataset has."""

NO_ROTATIONS: Final = "no rot file"
"""A note, as the release has rotations of few frames only."""

_UNUSED_KEYS: Final = ("camera", "char_height")
"""Keys of the layout that no sample needs."""

_NULL_HEIGHT = re.compile(rb'"char_height"\s*:\s*null')
_NOT_FINITE = re.compile(rb"null|NaN|Infinity")


def inspect_recording(
    recording: ReleaseRecording, progress: Progress, *, modalities: Sequence[str], deep: bool
) -> Inspection:
    """Inspect every file of a recording, each frame of which should have ``modalities``.

    ``deep`` decodes every image instead of reading only its beginning and its end.
    """
    cv2.setNumThreads(1)  # every core has a process of its own
    files = {modality: recording.all_files(modality) for modality in (*PAIRED, "rot")}
    frames = sorted(set().union(*(files[modality] for modality in modalities)))
    defects, notes = defaultdict(list), defaultdict(list)
    for frame in frames:
        own = {modality: paths[frame] for modality, paths in files.items() if frame in paths}
        wrong, unusual = _inspect_frame(own, modalities, deep=deep)
        for reason in filter(None, (*wrong, number_defect(frame))):
            defects[reason].append(frame)
        for reason in unusual:
            notes[reason].append(frame)
        progress.add(1)
    problems = [
        f"{recording.subject} belongs to the {split} split, not to {recording.split}: run tools.arrange"
        for split, subjects in SUBJECTS.items()
        if recording.subject in subjects and split != recording.split
    ]
    return Inspection(
        recording,
        counts={modality: len(paths) for modality, paths in files.items()},
        frames=len(frames),
        misaligned=_misaligned({modality: frozenset(files[modality]) for modality in modalities}),
        defects={reason: tuple(numbers) for reason, numbers in sorted(defects.items())},
        problems=tuple(filter(None, (*problems, name_defect(recording, max(frames, default=0))))),
        notes={reason: tuple(numbers) for reason, numbers in sorted(notes.items())},
    )


def _misaligned(frames: dict[str, frozenset[int]]) -> tuple[tuple[str, ...], ...]:
    alike = defaultdict(list)
    for modality, numbers in frames.items():
        alike[len(numbers)].append(modality)
    return tuple(tuple(group) for group in alike.values() if len({frames[modality] for modality in group}) > 1)


def modalities_in(recordings: Sequence[ReleaseRecording]) -> tuple[str, ...]:
    """Return the modalities of the dataset: the required ones, and others that any recording has."""
    return tuple(
        modality
        for modality in PAIRED
        if modality in REQUIRED or any(any(True for _ in recording.numbered(modality)) for recording in recordings)
    )


def _inspect_frame(
    files: Mapping[str, Sequence[Path]], modalities: Sequence[str], *, deep: bool
) -> tuple[list[str], list[str]]:
    """Return a frame's defects and the notes on it, in words that are the same for all frames."""
    defects: list[str] = []
    notes: list[str] = []
    for modality in (*modalities, "rot"):
        paths = files.get(modality, ())
        # the release has rotations of few frames only, so what is wrong with them is no defect
        target = notes if modality == "rot" else defects
        if not paths:
            target.append(f"no {modality} file")
        elif defect := double_defect(modality, paths):
            target.append(defect.partition(": ")[0])
        else:
            wrong, unusual = _inspect_file(modality, paths[0], deep=deep)
            target += wrong
            notes += unusual
            if len(paths) > 1:
                notes.append(f"{len(paths)} {modality} files of the same content")
    return defects, notes


def _inspect_file(modality: str, path: Path, *, deep: bool) -> tuple[list[str], list[str]]:
    defect = ""
    try:
        if modality == "json":
            return _inspect_labels(path.read_bytes())
        if modality == "rot":
            defect = "" if path.stat().st_size else "file is empty"
        elif deep:
            decode_png(modality, path.read_bytes(), CAMERA)
        else:
            defect = png_defect(modality, *_ends(path), CAMERA)
    except FrameError as error:
        return [str(error)], []
    except OSError as error:
        defect = "is a link to nothing" if leads_nowhere(path) else f"cannot be read: {error.strerror}"
    return [f"{modality} {defect}"] if defect else [], []


def _inspect_labels(text: bytes) -> tuple[list[str], list[str]]:
    notes = ["char_height is null"] if _NULL_HEIGHT.search(text) else []
    try:
        labels = read_labels(text)
    except FrameError as error:
        # after the colon it says where in this one file
        return [str(error).partition(": ")[0]], notes
    defects = label_defects(labels, CAMERA)
    defects += [f"no key {key}" for key in _UNUSED_KEYS if f'"{key}"'.encode() not in text]
    if _NOT_FINITE.search(text):
        frame = parse_frame(text)
        notes += [
            f"{key} lacks values of joints that training does not use"
            for key in ("pts2d_fisheye", "pts3d_fisheye")
            if not np.isfinite(np.array(frame[key], np.float64)).all()
        ]
    return defects, notes


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb", buffering=0) as stream:
        head = stream.read(PNG_HEADER)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - PNG_TAIL))
        return head, stream.read(PNG_TAIL)
