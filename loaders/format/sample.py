"""The members of one tar sample: names, order, and the encoding of its label arrays."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import encode_array
from models.skeleton import JOINTS

IMAGE_MEMBERS: Final = {"jpeg": "rgba.jpg", "png": "rgba.png", "raw": "rgba.npy", "source": "rgba.png"}
"""Member that holds the image, by image format. ``source`` is the dataset's own file, not cropped, not resized."""

JSON, WORLDP, POSE, META = "json", "worldp.png", "pose.npy", "meta.npy"

POSE_SHAPE: Final = (len(JOINTS), 5)
"""float32: u, v in pixels of the stored image (centers at integers); x, y, z in metres, camera frame."""

META_SHAPE: Final = (4,)
"""int32: subject, environment, frame, action; frame is a number, the others index the manifest's lists."""


def sample_key(subject: str, environment: str, frame: int) -> str:
    """Return the sample's key.

    Folders may have any name, but a dot would end the key and a blank its place in the index, so both become "_".
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{subject}-{environment}") + f"-{frame:06d}"


def encode_pose(joints_2d: NDArray[np.floating[Any]], joints_3d: NDArray[np.floating[Any]]) -> bytes:
    """Encode joints_2d (16, 2), pixels of the stored image, and joints_3d (16, 3), metres, as ``pose.npy``."""
    return encode_array(np.concatenate([joints_2d, joints_3d], axis=1).astype("<f4"))


def encode_meta(subject: int, environment: int, frame: int, action: int) -> bytes:
    """Encode ``meta.npy``."""
    return encode_array(np.array([subject, environment, frame, action], "<i4"))


def encoded_size(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of an array as .npy (bytes)."""
    return len(encode_array(np.zeros(shape, dtype)))
