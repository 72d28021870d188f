"""What makes a frame useless, or its labels doubtful, whatever dataset it is of."""

from __future__ import annotations

import tarfile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.format.sample import COMPONENT_MEMBERS, IMAGE_MEMBERS, META, POSE, VISIBLE, sample_key
from models.camera import UNSEEN, Camera
from tools.sources.source import FrameLabels, Recording

_LARGEST_DISTANCE: Final = 3.0
"""Largest distance of a joint from the camera (metres), which is worn on the head: the tallest person ever measured was
2.72 m tall. Joints beyond it are a defect, but sharding stores the frame: its 2D labels may be right, and
`tools.validate` and `tools.verify` name it before anyone trains on it."""

_LARGEST_OFFSET: Final = 1.0
"""Largest distance between a 2D label and the projection of its 3D label (pixels). Labels beyond it are a defect, but
sharding stores the frame: one of the two may be right."""

_LONGEST_KEY: Final = (
    tarfile.LENGTH_NAME - 1 - max(map(len, (*IMAGE_MEMBERS.values(), *COMPONENT_MEMBERS.values(), POSE, META, VISIBLE)))
)
"""Length of the longest key whose members have names that a plain tar can hold (characters)."""


def key_defect(recording: Recording, frame: int) -> str:
    """Return why no tar can hold a frame under its key; empty if one can."""
    excess = len(sample_key(recording.subject, recording.name, frame)) - _LONGEST_KEY
    return f"the names of its folders are too long for a tar: {excess} characters too many" if excess > 0 else ""


def number_defect(frame: int) -> str:
    """Return why no sample can store a frame's number; empty if a sample can."""
    if frame < 0:
        return "frame number below 0"
    return "frame number beyond 32 bits" if frame > np.iinfo(np.int32).max else ""


def distance_defect(joints_3d: NDArray[np.floating[Any]]) -> str:
    """Return what is wrong if any of the joints (J, 3), metres, camera frame, is impossibly far away; else empty."""
    # float32 would overflow
    distance = np.linalg.norm(joints_3d.astype(np.float64), axis=1).max()
    return f"a joint more than {_LARGEST_DISTANCE:g} m from the camera" if distance > _LARGEST_DISTANCE else ""


def label_defects(labels: FrameLabels, camera: Camera) -> list[str]:
    """Return what is doubtful about labels that are whole: distances, and positions that do not fit the pose."""
    defects = [far] if (far := distance_defect(labels.joints_3d)) else []
    if labels.joints_2d is not None:
        projected = camera.project(labels.joints_3d)
        # where the lens does not show a joint, a 2D label means nothing
        shown = camera.visibility(projected, labels.joints_3d) != UNSEEN
        if (np.linalg.norm(projected - labels.joints_2d, axis=1)[shown] > _LARGEST_OFFSET).any():
            defects.append(f"2D labels more than {_LARGEST_OFFSET:g} pixel off the camera model")
    return defects
