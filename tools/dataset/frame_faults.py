"""What is wrong with one frame of the dataset, and what is merely unusual about it."""

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
from tools.dataset.layout import Environment, LabelError, differ, parse_frame

AGREEMENT: Final = 1.0
"""How far a 2D label may lie from the projection of its 3D label (pixels). Farther is reported, but a frame is not
left out of a shard set for it: its labels may still serve."""

FARTHEST: Final = 3.0
"""How far a joint can be from the camera (metres): it is worn on the head, and the tallest person ever measured was
2.72 m tall. Like labels that disagree with the camera, farther ones are a fault and yet stored: they are finite, their
2D labels may still serve, and both `tools.validate` and `tools.verify` name them before anyone trains on them."""

_LONGEST_KEY: Final = tarfile.LENGTH_NAME - 1 - max(map(len, (*IMAGE_MEMBERS.values(), JSON, WORLDP, POSE, META)))
"""Longest key whose members' names a plain tar can hold (characters)."""

_UNUSED_KEYS: Final = ("camera", "char_height")
"""Keys of the layout that no sample needs."""

_NULL_HEIGHT = re.compile(rb'"char_height"\s*:\s*null')
_NOT_FINITE = re.compile(rb"null|NaN|Infinity")


def name_fault(recording: Environment, frame: int) -> str | None:
    """Return why no sample can bear the names of a recording, whatever the frame holds; None if one can."""
    if recording.path.parts[-3:-1] != (recording.subject, recording.name):
        return "the name of its folder cannot be printed"
    length = len(sample_key(recording.subject, recording.name, frame))
    if length > _LONGEST_KEY:
        return f"the names of its folders are too long for a tar: {length - _LONGEST_KEY} characters too many"
    return None


def number_fault(frame: int) -> str | None:
    """Return why no sample can bear a frame's number; None if one can."""
    return "frame number beyond 32 bits" if frame > np.iinfo(np.int32).max else None


def double_fault(modality: str, paths: Sequence[Path]) -> str | None:
    """Return why it is unclear which file of a modality is a frame's; None if it is clear."""
    if len(paths) < 2 or not differ(paths):
        return None
    return f"{len(paths)} {modality} files that differ: {', '.join(printable(path.name) for path in paths)}"


def distance_fault(joints_3d: NDArray[np.floating[Any]]) -> str | None:
    """Return whether a joint (16, 3), metres, camera frame, is where no body reaches; None if all may be right."""
    # float32 would overflow
    distance = np.linalg.norm(joints_3d.astype(np.float64), axis=1).max()
    return f"a joint more than {FARTHEST:g} m from the camera" if distance > FARTHEST else None


def inspect_frame(
    files: Mapping[str, Sequence[Path]], modalities: Sequence[str], *, deep: bool
) -> tuple[list[str], list[str]]:
    """Return a frame's faults and its harmless peculiarities, in words that do not differ from frame to frame.

    Args:
        files: the frame's files by modality; more than one are the same frame twice.
        modalities: what every frame should have.
        deep: decode every image instead of looking at its two ends.
    """
    faults: list[str] = []
    notes: list[str] = []
    for modality in modalities:
        paths = files.get(modality, ())
        if fault := double_fault(modality, paths):
            faults.append(fault.partition(": ")[0])
        elif paths:
            wrong, unusual = _inspect_file(modality, paths[0], deep=deep)
            faults += wrong
            notes += [*unusual, *_twice(modality, paths)]
        else:
            faults.append(f"no {modality} file")
    notes += _rotation_notes(files.get("rot", ()))
    return faults, notes


def _twice(modality: str, paths: Sequence[Path]) -> list[str]:
    return [f"{len(paths)} {modality} files of the same content"] if len(paths) > 1 else []


def _inspect_file(modality: str, path: Path, *, deep: bool) -> tuple[list[str], list[str]]:
    try:
        if modality == "json":
            return _inspect_labels(path.read_bytes())
        return list(_image_faults(modality, path, deep=deep)), []
    except OSError as error:
        return [_unreadable(modality, path, error)], []


def _unreadable(modality: str, path: Path, error: OSError) -> str:
    if leads_nowhere(path):
        return f"{modality} is a link to nothing"
    return f"{modality} cannot be read: {error.strerror}"


def _rotation_notes(paths: Sequence[Path]) -> Iterator[str]:
    if not paths:
        yield "no rot file"
        return
    try:
        if not paths[0].stat().st_size:
            yield "rot file is empty"
    except OSError as error:
        yield _unreadable("rot", paths[0], error)
    if fault := double_fault("rot", paths):
        yield fault.partition(": ")[0]
    else:
        yield from _twice("rot", paths)


def _inspect_labels(text: bytes) -> tuple[list[str], list[str]]:
    notes = ["char_height is null"] if _NULL_HEIGHT.search(text) else []
    try:
        labels = frame_labels(text)
    except LabelError as error:
        # what follows the colon says where in this one file
        return [str(error).partition(": ")[0]], notes
    far = distance_fault(labels.joints_3d)
    faults = [far] if far else []
    distance = np.linalg.norm(XR_EGOPOSE.project(labels.joints_3d) - labels.joints_2d, axis=1)
    if distance.max() > AGREEMENT:
        faults.append(f"2D labels more than {AGREEMENT:g} pixel off the camera model")
    faults += [f"no key {key}" for key in _UNUSED_KEYS if f'"{key}"'.encode() not in text]
    if _NOT_FINITE.search(text):
        notes += _unused_gaps(text)
    return faults, notes


def _unused_gaps(text: bytes) -> Iterator[str]:
    frame = parse_frame(text)
    for key in ("pts2d_fisheye", "pts3d_fisheye"):
        if not np.isfinite(np.array(frame[key], np.float64)).all():
            yield f"{key} lacks values of joints that training does not use"


def _image_faults(modality: str, path: Path, *, deep: bool) -> Iterator[str]:
    if not deep:
        fault = png_fault(*_ends(path))
        if fault:
            yield f"{modality} {fault}"
        return
    try:
        decode_png(modality, path.read_bytes())
    except FrameError as error:
        yield str(error)


def _ends(path: Path) -> tuple[bytes, bytes]:
    with path.open("rb", buffering=0) as stream:
        head = stream.read(PNG_HEAD)
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - PNG_TAIL))
        return head, stream.read(PNG_TAIL)
