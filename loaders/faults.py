"""What can be wrong with the members of a sample, found where they are loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from loaders.codecs import Bytes, PngLayout, png_layout
from loaders.errors import InputError
from loaders.format.sample import ROT, read_rotations
from loaders.format.shard_set import ShardSet
from models.camera import Camera

Fault = tuple[int, str, str]
"""What cannot be used: position in the split, member, what is wrong."""


def size_fault(camera: Camera, height: int, width: int) -> str:
    """Return what is wrong with the size of a stored image (pixels); empty if it is the camera's."""
    if (height, width) == (camera.height, camera.width):
        return ""
    return f"has {width}x{height} pixels, not {camera.width}x{camera.height}"


def first_layout(shard_set: ShardSet, member: str, read: Callable[[int], Bytes]) -> PngLayout:
    """Return how the pixels of a member are stored, by the first header that can be read. Raises InputError.

    Args:
        shard_set: the split.
        member: its name.
        read: returns the member's bytes of a sample.
    """
    for index in range(len(shard_set)):
        with contextlib.suppress(ValueError):
            return png_layout(read(index))
    raise InputError(f"{shard_set.describe(0, member)} cannot be decoded, nor can any other: copy the shards")


def layout_fault(data: Bytes, expected: PngLayout) -> str:
    """Return what is wrong with the pixels of a PNG that is no image; empty if they are as expected.

    Raises ValueError if its header cannot be read.
    """
    found = png_layout(data)
    if found == expected:
        return ""
    said = "{} channels of {} bits".format
    return f"has {said(*found)}, others of the set {said(*expected)}"


def load_rotations(
    indices: NDArray[np.int64], files: Sequence[Bytes], joints: Sequence[str]
) -> tuple[Tensor, list[Fault]]:
    """Return the rotations (n, J, 3) of joints in samples' rot files, NaN where there is a fault, and the faults."""
    rotations, faults = np.full((len(indices), len(joints), 3), np.nan, np.float32), []
    for row, (index, content) in enumerate(zip(indices.tolist(), files, strict=True)):
        try:
            rotations[row] = read_rotations(content, joints)
        except ValueError as error:
            faults.append((index, ROT, f"cannot be decoded ({error})"))
    return torch.from_numpy(rotations), faults
