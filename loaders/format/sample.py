"""The members of one tar sample: their names, their order, encoding and decoding them."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Bytes, decode_exact, decode_stored, encode_array
from loaders.errors import InputError
from models.skeleton import Skeleton
from models.xr_egopose import SKELETON

IMAGE_MEMBERS: Final = {"jpeg": "rgba.jpg", "png": "rgba.png", "raw": "rgba.npy", "source": "rgba.png"}
"""Member that holds the image, by image format. ``source`` is the dataset's own file, not cropped, not resized."""

JSON, WORLDP, DEPTH, OBJECT_ID, ROT = "json", "worldp.png", "depth.png", "objectId.png", "rot.json"
POSE, META, VISIBLE = "pose.npy", "meta.npy", "visible.npy"

COMPONENT_MEMBERS: Final = {"json": JSON, "worldp": WORLDP, "depth": DEPTH, "objectId": OBJECT_ID, "rot": ROT}
"""Member of each component but the image, in the order of a sample."""
EXACT_MEMBERS: Final = (WORLDP, DEPTH, OBJECT_ID)
"""Images whose values are no colors: they are never interpolated."""
NO_ROTATIONS: Final = b"null"
"""What ``rot.json`` holds of a frame that has no rot file: all samples have the same members."""

META_SHAPE: Final = (4,)
"""Subject, environment, frame, action; frame is a number, the others index the manifest's lists."""


class Layout(NamedTuple):
    """Type and shape of a member that is an array."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size of the values, which are the tail of the .npy file (bytes)."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def array_layouts(joints: int) -> dict[str, Layout]:
    """Return the layouts of a sample's labels for so many joints.

    Pose: u, v in pixels of the stored image (centers at integers); x, y, z in metres, camera frame. Visible:
    `models.camera.UNSEEN`, `IN_LENS` or `IN_IMAGE` of each joint, with the square that a network sees.
    """
    return {POSE: Layout("<f4", (joints, 5)), META: Layout("<i4", META_SHAPE), VISIBLE: Layout("|u1", (joints,))}


def sample_members(components: Iterable[str], image: str | None) -> list[str]:
    """Return the names of a sample's members in their order, given its components and the name of its image."""
    chosen = list(components)
    members = [*filter(None, [image]), *(name for kind, name in COMPONENT_MEMBERS.items() if kind in chosen)]
    return [*members, POSE, META, VISIBLE]


def sample_key(subject: str, environment: str, frame: int) -> str:
    """Return the sample's key.

    A dot would end the key and a blank would end its field in the index: what folders have of these becomes "_".
    """
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"{subject}-{environment}") + f"-{frame:06d}"


def encode_pose(joints_2d: NDArray[np.floating[Any]], joints_3d: NDArray[np.floating[Any]]) -> bytes:
    """Encode joints_2d (J, 2), pixels of the stored image, and joints_3d (J, 3), metres, as ``pose.npy``."""
    return encode_array(np.concatenate([joints_2d, joints_3d], axis=1).astype("<f4"))


def encode_meta(subject: int, environment: int, frame: int, action: int) -> bytes:
    """Encode ``meta.npy``."""
    return encode_array(np.array([subject, environment, frame, action], "<i4"))


def encode_visible(visible: NDArray[np.uint8]) -> bytes:
    """Encode ``visible.npy``."""
    return encode_array(visible.astype("|u1"))


def read_rotations(content: Bytes | bytes, joints: Sequence[str]) -> NDArray[np.float32]:
    """Return the rotations (J, 3), degrees, in a frame's rot file, which lists joints by name; NaN for what it lacks.

    Raises ValueError if it is something else.
    """
    try:
        listed = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    rotations = np.full((len(joints), 3), np.nan, np.float32)
    if listed is None:
        return rotations
    try:
        if not isinstance(listed, list):
            raise TypeError
        named = [(joint["name"].removeprefix("mixamorig:"), joint["rot"]) for joint in listed]
        for name, angles in named:
            if name in joints:
                rotations[joints.index(name)] = np.array(angles, np.float64).reshape(3)
    except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
        raise ValueError("no list of joints with name and three angles") from None
    if len(known := [name for name, _ in named if name in joints]) > len(set(known)):
        raise ValueError("a joint is there twice")
    return rotations


def encoded_size(layout: Layout) -> int:
    """Return the size of an array as .npy (bytes)."""
    return len(encode_array(np.zeros(layout.shape, layout.dtype)))


def decode_arrays(files: Iterable[Bytes], layout: Layout) -> NDArray[Any]:
    """Return a copy (n, *shape) of the arrays of n .npy files, which are their tails: nothing is parsed."""
    tails = [data[-layout.bytes :] for data in files]
    joined = np.concatenate(tails) if tails else np.empty(0, np.uint8)
    return joined.view(layout.dtype).reshape(-1, *layout.shape)


def decode_sample(sample: dict[str, Any], skeleton: Skeleton = SKELETON) -> dict[str, Any]:
    """Decode a sample as webdataset reads it from a shard: ``webdataset.WebDataset(urls).map(decode_sample)``.

    Args:
        sample: ``__key__`` and the bytes of each member.
        skeleton: of the shard set, see `loaders.ShardSet`; the default is xR-EgoPose's.

    Returns:
        ``__key__``; what is stored of ``image`` (H, W, 3) uint8, RGB; ``worldp``, ``depth`` and ``object_id``
        (H, W, C), uint8 or uint16 as they are stored; ``rot`` (J, 3) float32, degrees, NaN where absent; then
        ``joints_2d`` (J, 2) float32, pixels of the stored image; ``joints_3d`` (J, 3) float32, metres, camera frame,
        the root subtracted; ``meta`` (4,) int32: subject, environment, frame, action; ``visible`` (J,) uint8:
        `models.camera.UNSEEN`, `IN_LENS` or `IN_IMAGE`, not in sets of version 2.

    Raises:
        InputError: a member is missing or cannot be decoded, or the sample is of another skeleton.
    """
    pose = _decode_member(sample, POSE, skeleton)
    if len(pose) != len(skeleton):
        raise InputError(
            f"{sample['__key__']} has {len(pose)} joints, the skeleton {len(skeleton)}: give that of the shard set, "
            "ShardSet(root, split).manifest.skeleton"
        )
    decoded = {
        "__key__": sample["__key__"],
        "joints_2d": pose[:, :2],
        "joints_3d": pose[:, 2:] - pose[skeleton.root, 2:],
        "meta": _decode_member(sample, META, skeleton),
    }
    return decoded | {
        _DECODED[member.lower()]: _decode_member(sample, member, skeleton)
        for member in sample
        if member.lower() in _DECODED
    }


_DECODED: Final = {
    **dict.fromkeys(IMAGE_MEMBERS.values(), "image"),
    WORLDP: "worldp",
    DEPTH: "depth",
    OBJECT_ID.lower(): "object_id",  # webdataset lowers the names of members
    ROT: "rot",
    VISIBLE: "visible",
}


def _decode_member(sample: dict[str, Any], member: str, skeleton: Skeleton) -> NDArray[Any]:
    if member not in sample:
        raise InputError(f"{sample['__key__']} has no {member}: give the shards of tools.shard")
    try:
        if member.endswith(".npy"):
            return np.load(io.BytesIO(sample[member]), allow_pickle=False)  # type: ignore[no-any-return]
        if member == ROT:
            return read_rotations(sample[member], skeleton.joints)
        if member in IMAGE_MEMBERS.values():
            return decode_stored(np.frombuffer(sample[member], np.uint8), member)
        return decode_exact(np.frombuffer(sample[member], np.uint8))
    except (ValueError, EOFError) as error:
        raise InputError(f"{sample['__key__']}.{member} cannot be decoded ({error}): copy its shard again") from None
