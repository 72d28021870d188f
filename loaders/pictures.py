"""Pictures of a shard set in host memory: which members hold them, and decoding with OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.sample import WORLDP
from loaders.shard_set import Bytes, Indices, ShardSet


def picture_members(shard_set: ShardSet, outputs: Sequence[str]) -> dict[str, str]:
    """Return the tar member behind each output ("image", "worldp"). Raises InputError if the set lacks it."""
    members = {}
    for output in outputs:
        member = shard_set.manifest.image_member if output == "image" else WORLDP
        if member is None or member not in shard_set.members:
            component = "rgba" if output == "image" else output
            raise InputError(
                f"{shard_set.folder} holds no {component}: run tools.shard with --components {component}, "
                f"or leave {output} out of data.outputs"
            )
        members[output] = member
    return members


def picture_data(shard_set: ShardSet, indices: Indices, member: str) -> list[Bytes]:
    """Return views of the encoded bytes (n,), or of the pictures (H, W, 3) themselves where they are stored raw."""
    found = shard_set.read(indices, member)
    if not member.endswith(".npy"):
        return found
    height, width = shard_set.camera.height, shard_set.camera.width
    return [data[-height * width * 3 :].reshape(height, width, 3) for data in found]


def decode(data: Bytes, *, exact: bool = False) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
    """Decode to RGB (H, W, 3); ``exact`` keeps 16 bit and skips orientation. None if it cannot be decoded."""
    flags = cv2.IMREAD_UNCHANGED if exact else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error:
        return None
    if image is None or not exact:
        return image  # type: ignore[return-value]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


def png_bits(data: Bytes) -> int:
    """Return the bits per channel in a PNG's header."""
    return int(data[24])


def find_undecodable(shard_set: ShardSet, indices: Indices, members: Iterable[str]) -> None:
    """Raise InputError that names the first sample whose picture OpenCV cannot decode; else return."""
    for index in indices:
        for member in members:
            if not member.endswith(".npy") and decode(shard_set.member(int(index), member)) is None:
                raise InputError(
                    f"{shard_set.describe(int(index), member)} cannot be decoded: copy the shard again, or run "
                    "tools.verify to find all such samples"
                )
