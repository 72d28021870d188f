"""What is wrong with one frame of the dataset, and what is merely unusual about it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from models.camera import XR_EGOPOSE
from tools.dataset import LabelError
from tools.frames import PNG_HEAD, PNG_TAIL, FrameError, decode_png, frame_labels, png_fault

AGREEMENT: Final = 1.0
"""How far a 2D label may lie from the projection of its 3D label (pixels). Farther is reported, but a frame is not
left out of a shard set for it: its labels may still serve."""

_UNUSED_KEYS: Final = ("camera", "char_height")
"""Keys of the layout that no sample needs."""

_NULL_HEIGHT = re.compile(rb'"char_height"\s*:\s*null')
_NOT_FINITE = re.compile(rb"null|NaN|Infinity")


def inspect_frame(files: Mapping[str, Path], modalities: Sequence[str], *, deep: bool) -> tuple[list[str], list[str]]:
    """Return a frame's faults and its harmless peculiarities, in words that do not differ from frame to frame.

    Args:
        files: the frame's files by modality.
        modalities: what every frame should have.
        deep: decode every picture instead of looking at its two ends.
    """
    faults: list[str] = []
    notes: list[str] = []
    for modality in modalities:
        if modality not in files:
            faults.append(f"no {modality} file")
            continue
        try:
            if modality == "json":
                wrong, unusual = _inspect_labels(files[modality].read_bytes())
                faults += wrong
                notes += unusual
            else:
                faults += _picture_faults(modality, files[modality], deep=deep)
        except OSError as error:
            faults.append(f"{modality} cannot be read: {error.strerror}")
    notes += _rotation_notes(files.get("rot"))
    return faults, notes


def _rotation_notes(path: Path | None) -> Iterator[str]:
    if path is None:
        yield "no rot file"
    elif not path.exists():
        yield "rot is a link to nothing"
    elif not path.stat().st_size:
        yield "rot file is empty"


def _inspect_labels(text: bytes) -> tuple[list[str], list[str]]:
    notes = ["char_height is null"] if _NULL_HEIGHT.search(text) else []
    try:
        labels = frame_labels(text)
    except LabelError as error:
        # what follows the colon says where in this one file
        return [str(error).partition(": ")[0]], notes
    faults = []
    distance = np.linalg.norm(XR_EGOPOSE.project(labels.joints_3d) - labels.joints_2d, axis=1)
    if distance.max() > AGREEMENT:
        faults.append(f"2D labels more than {AGREEMENT:g} pixel off the camera model")
    faults += [f"no key {key}" for key in _UNUSED_KEYS if f'"{key}"'.encode() not in text]
    if _NOT_FINITE.search(text):
        notes += _unused_gaps(text)
    return faults, notes


def _unused_gaps(text: bytes) -> Iterator[str]:
    frame = json.loads(text)
    for key in ("pts2d_fisheye", "pts3d_fisheye"):
        if not np.isfinite(np.array(frame[key], np.float64)).all():
            yield f"{key} lacks values of joints that training does not use"


def _picture_faults(modality: str, path: Path, *, deep: bool) -> Iterator[str]:
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
