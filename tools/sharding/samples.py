"""One frame of a source as the members of one tar sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loaders.format.sample import (
    COMPONENT_MEMBERS,
    EXACT_MEMBERS,
    IMAGE_MEMBERS,
    META,
    POSE,
    VISIBLE,
    encode_meta,
    encode_pose,
    encode_visible,
)
from loaders.preprocessing import Preprocessing
from tools.sources.images import encode_exact, encode_image
from tools.sources.opening import read_component, read_image, read_labels
from tools.sources.source import FrameLabels, Recording, Source


def encode_sample(
    source: Source, recording: Recording, meta: Sequence[int], components: Sequence[str], preprocessing: Preprocessing
) -> list[tuple[str, bytes]]:
    """Return a sample's members as (name, content), in their order.

    Args:
        source: the dataset.
        recording: where the frame lies.
        meta: (4,) subject, environment, frame, action.
        components: what the sample holds beside its labels.
        preprocessing: what is done to its images.

    Raises:
        FrameError: the frame lacks something or is damaged.
        Failure: a file cannot be read.
        InputError: the source is not what it should be.
    """
    subject, environment, frame, action = meta
    labels = read_labels(source, recording, frame)
    members = []
    if "rgba" in components:
        members.append((IMAGE_MEMBERS[preprocessing.format], encode_image_of(source, recording, frame, preprocessing)))
    for name, member in COMPONENT_MEMBERS.items():
        if name in components:
            members.append((member, encode_component(source, recording, frame, name, preprocessing)))
    pose = stored_pose(labels, preprocessing)
    members.append((POSE, encode_pose(pose[:, :2], pose[:, 2:])))
    members.append((META, encode_meta(subject, environment, frame, action)))
    members.append((VISIBLE, encode_visible(preprocessing.visibility(pose))))
    return members


def encode_image_of(source: Source, recording: Recording, frame: int, preprocessing: Preprocessing) -> bytes:
    """Return a frame's image as it is stored. Raises as `encode_sample`."""
    return encode_image(read_image(source, recording, frame), preprocessing)


def encode_component(
    source: Source, recording: Recording, frame: int, name: str, preprocessing: Preprocessing
) -> bytes:
    """Return another component of a frame as it is stored. Raises as `encode_sample`."""
    content = read_component(source, recording, frame, name)
    return encode_exact(name, content, preprocessing) if COMPONENT_MEMBERS[name] in EXACT_MEMBERS else content


def stored_pose(labels: FrameLabels, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return (J, 5): u, v in pixels of the stored image, x, y, z in metres, camera frame."""
    assert labels.joints_2d is not None
    joints_2d = preprocessing.frame.transfer(labels.joints_2d, preprocessing.stored)
    return np.concatenate([joints_2d, labels.joints_3d], axis=1, dtype=np.float32)
