"""The members of one tar sample: their names, their order, encoding and decoding them."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Bytes, decode_stored, encode_array
from loaders.errors import InputError
from models.skeleton import JOINTS, NECK

IMAGE_MEMBERS: Final = {"jpeg": "rgba.jpg", "png": "rgba.png", "raw": "rgba.npy", "source": "rgba.png"}
"""Member that holds the image, by image format. ``source`` is the dataset's own file, not cropped, not resized."""

JSON, WORLDP, POSE, META = "json", "worldp.png", "pose.npy", "meta.npy"

POSE_SHAPE: Final = (len(JOINTS), 5)
"""float32: u, v in pixels of the stored image (centers at integers); x, y, z in metres, camera frame."""

META_SHAPE: Final = (4,)
"""int32: subject, environment, frame, action; frame is a number, the others index the manifest's lists."""


def sample_key(subject: str, environment: str, frame: int) -> str:
    """Return the sample's key.

    A dot would end the key and a blank would end its field in the index: what folders have of these becomes "_".
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


def decode_arrays(files: Iterable[Bytes], dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return a copy (n, *shape) of the arrays of n .npy files, which are their tails: nothing is parsed."""
    tail = np.dtype(dtype).itemsize * math.prod(shape)
    tails = [data[-tail:] for data in files]
    joined = np.concatenate(tails) if tails else np.empty(0, np.uint8)
    return joined.view(dtype).reshape(-1, *shape)


def decode_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Decode a sample as webdataset reads it from a shard: ``webdataset.WebDataset(urls).map(decode_sample)``.

    Args:
        sample: ``__key__`` and the bytes of each member.

    Returns:
        ``__key__``; ``image`` (H, W, 3) uint8, RGB, and ``worldp`` (H, W, 3) uint8 or uint16, as they are stored and
        if they are; ``joints_2d`` (16, 2) float32, pixels of the stored image; ``joints_3d`` (16, 3) float32, metres,
        camera frame, Neck subtracted; ``meta`` (4,) int32: subject, environment, frame, action.

    Raises:
        InputError: a member is missing or cannot be decoded.
    """
    pose = _decode_member(sample, POSE)
    decoded = {
        "__key__": sample["__key__"],
        "joints_2d": pose[:, :2],
        "joints_3d": pose[:, 2:] - pose[NECK, 2:],
        "meta": _decode_member(sample, META),
    }
    for member in sample:
        if member in IMAGE_MEMBERS.values():
            decoded["image"] = _decode_member(sample, member)
        elif member == WORLDP:
            decoded["worldp"] = _decode_member(sample, member)
    return decoded


def _decode_member(sample: dict[str, Any], member: str) -> NDArray[Any]:
    if member not in sample:
        raise InputError(f"{sample['__key__']} has no {member}: give the shards of tools.shard")
    try:
        if member.endswith(".npy"):
            return np.load(io.BytesIO(sample[member]), allow_pickle=False)  # type: ignore[no-any-return]
        return decode_stored(np.frombuffer(sample[member], np.uint8), member)
    except (ValueError, EOFError) as error:
        raise InputError(f"{sample['__key__']}.{member} cannot be decoded ({error}): copy its shard again") from None
