"""The faults of one frame of the dataset, and notes on what is unusual about it."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.errors import printable
from loaders.format.sample import IMAGE_MEMBERS, JSON, META, POSE, WORLDP, sample_key
from models.camera import XR_EGOPOSE
from tools.dataset.frames import PNG_HEAD, PNG_TAIL, FrameError, decode_png, frame_labels, leads_nowhere, png_fault
from tools.dataset.layout import LabelError, Recording, differ, parse_frame

NO_ROTATIONS: Final = "no rot file"
"""A note, as the release has rotations of few frames only."""

_LARGEST_OFFSET: Final = 1.0
"""Largest distance between a 2D label and the projection of its 3D label (pixels). Labels beyond it are a fault, but
sharding stores the frame: one of the two may be right."""

_LARGEST_DISTANCE: Final = 3.0
"""Largest distance of a joint from the camera (metres), which is worn on the head: the tallest person ever measured was
2.72 m tall. Joints beyond it are a fault, but sharding stores the frame: its 2D labels may be right, and
`tools.validate` and `tools.verify` name it before anyone trains on it."""

_LONGEST_KEY: Final = tarfile.LENGTH_NAME - 1 - max(map(len, (*IMAGE_MEMBERS.values(), JSON, WORLDP, POSE, META)))
"""Length of the longest key whose members have names that a plain tar can hold (characters)."""

_UNUSED_KEYS: Final = ("camera", "char_height")
"""Keys of the layout that no sample needs."""

_NULL_HEIGHT = re.compile(rb'"char_height"\s*:\s*null')
_NOT_FINITE = re.compile(rb"null|NaN|Infinity")


def name_fault(recording: Recording, frame: int) -> str | None:
    """Return why no sample can have the names of a recording in its key; None if a sample can."""
    if recording.path.parts[-3:-1] != (recording.subject, recording.name):
        return "the name of its folder cannot be printed"
    length = len(sample_key(recording.subject, recording.name, frame))
    if length > _LONGEST_KEY:
        return f"the names of its folders are too long for a tar: {length - _LONGEST_KEY} characters too many"
    return None


def number_fault(frame: int) -> str | None:
    """Return why no sample can store a frame's number; None if a sample can."""
    return "frame number beyond 32 bits" if frame > np.iinfo(np.int32).max else None


def double_fault(modality: str, paths: Sequence[Path]) -> str | None:
    """Return why a frame's file of a modality is ambiguous; None if it is not."""
    if len(paths) < 2 or not differ(paths):
        return None
    return f"{len(paths)} {modality} files that differ: {', '.join(printable(path.name) for path in paths)}"


def distance_fault(joints_3d: NDArray[np.floating[Any]]) -> str | None:
    """Return a fault if any of the joints (16, 3), metres, camera frame, is impossibly far away; None otherwise."""
    # float32 would overflow
    distance = np.linalg.norm(joints_3d.astype(np.float64), axis=1).max()
    return f"a joint more than {_LARGEST_DISTANCE:g} m from the camera" if distance > _LARGEST_DISTANCE else None


def inspect_frame(
    files: Mapping[str, Sequence[Path]], modalities: Sequence[str], *, deep: bool
) -> tuple[list[str], list[str]]:
    """Return a frame's faults and the notes on it, in words that are the same for all frames.

    Args:
        files: the frame's files by modality; a frame may have several of one modality.
        modalities: what every frame should have.
        deep: decode every image instead of reading only its beginning and its end.
    """
    faults: list[str] = []
    notes: list[str] = []
    for modality in (*modalities, "rot"):
        paths = files.get(modality, ())
        # the release has rotations of few frames only, so what is wrong with them is no fault
        target = notes if modality == "rot" else faults
        if not paths:
            target.append(f"no {modality} file")
        elif fault := double_fault(modality, paths):
            target.append(fault.partition(": ")[0])
        else:
            wrong, unusual = _inspect_file(modality, paths[0], deep=deep)
            target += wrong
            notes += unusual
            if len(paths) > 1:
                notes.append(f"{len(paths)} {modality} files of the same content")
    return faults, notes


def _inspect_file(modality: str, path: Path, *, deep: bool) -> tuple[list[str], list[str]]:
    fault = None
    try:
        if modality == "json":
            return _inspect_labels(path.read_bytes())
        if modality == "rot":
            fault = None if path.stat().st_size else "file is empty"
        elif deep:
            decode_png(modality, path.read_bytes())
        else:
            fault = png_fault(*_ends(path))
    except FrameError as error:
        return [str(error)], []
    except OSError as error:
        fault = "is a link to nothing" if leads_nowhere(path) else f"cannot be read: {error.strerror}"
    return [f"{modality} {fault}"] if fault else [], []


def _inspect_labels(text: bytes) -> tuple[list[str], list[str]]:
    notes = ["char_height is null"] if _NULL_HEIGHT.search(text) else []
    try:
        labels = frame_labels(text)
    except LabelError as error:
        # after the colon it says where in this one file
        return [str(error).partition(": ")[0]], notes
    far = distance_fault(labels.joints_3d)
    faults = [far] if far else []
    distance = np.linalg.norm(XR_EGOPOSE.project(labels.joints_3d) - labels.joints_2d, axis=1)
    if distance.max() > _LARGEST_OFFSET:
        faults.append(f"2D labels more than {_LARGEST_OFFSET:g} pixel off the camera model")
    faults += [f"no key {key}" for key in _UNUSED_KEYS if f'"{key}"'.encode() not in text]
    if _NOT_FINITE.search(text):
        notes += _unused_gaps(text)
    return faults, notes


def _unused_gaps(text: bytes) -> Iterator[str]:
    frame = parse_frame(text)
    for key in ("pts2d_fisheye", "pts3d_fisheye"):
        if not np.isfinite(np.array(frame[key], np.float64)).all():
            yield f"{key} lacks values of joints that training does not use"


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb", buffering=0) as stream:
        head = stream.read(PNG_HEAD)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - PNG_TAIL))
        return head, stream.read(PNG_TAIL)
