"""Images of a shard set in host memory: which members hold them, and decoding them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from loaders.errors import InputError
from loaders.format.index import Bytes
from loaders.format.sample import WORLDP
from loaders.format.shard_set import Indices, ShardSet

_STORED: Final = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
"""Three channels, 8 or 16 bit; labels belong to pixels as they are stored, whatever the orientation says."""


_PNG_BEGINS: Final = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
_PNG_HEADER: Final = 33
"""Bytes of a PNG's signature and its first chunk."""


def image_members(shard_set: ShardSet, outputs: Sequence[str]) -> dict[str, str]:
    """Return the tar member behind each output ("image", "worldp"). Raises InputError if the set lacks it."""
    members = {}
    for output in outputs:
        member = shard_set.manifest.image_member if output == "image" else WORLDP
        if member is None or member not in shard_set.members:
            component = "rgba" if output == "image" else output
            raise InputError(f"{shard_set.folder} holds no {component}: run tools.shard with --components {component}")
        members[output] = member
    return members


def image_data(shard_set: ShardSet, indices: Indices, member: str) -> list[Bytes]:
    """Return views of the encoded bytes (n,), or of the images (H, W, 3) themselves where they are stored raw."""
    found = shard_set.read(indices, member)
    if not member.endswith(".npy"):
        return found
    height, width = shard_set.camera.height, shard_set.camera.width
    return [data[-height * width * 3 :].reshape(height, width, 3) for data in found]


def decode(data: Bytes) -> NDArray[np.uint8] | None:
    """Decode any image to RGB (H, W, 3), the way its orientation says. None if it cannot be decoded."""
    try:
        return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)  # type: ignore[return-value]
    except cv2.error:
        return None


def encode_jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    """Encode an RGB image (H, W, 3)."""
    blue_first = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def decode_stored(data: Bytes, member: str, memory: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode a member to RGB (H, W, 3), 8 or 16 bit as it is stored; a JPEG to (H, W, 3 or 4).

    Args:
        data: its bytes.
        member: its name, whose ending says what it is.
        memory: (H, W, 3 or 4), where a JPEG's pixels go; a fourth value has no meaning.

    Raises:
        ValueError: it cannot be decoded, or ends too early.
    """
    if member.endswith(".jpg"):
        # a cut image is an error, unlike with OpenCV
        return simplejpeg.decode_jpeg(data, "RGB" if memory.shape[2] == 3 else "RGBX", buffer=memory)  # type: ignore[no-any-return]
    try:
        image = cv2.imdecode(data, _STORED)
    except cv2.error:  # no bytes at all
        image = None
    if image is None:
        raise ValueError("not a readable image")
    return image  # type: ignore[return-value]


def stored_size(data: Bytes, member: str) -> tuple[int, int]:
    """Return height and width (pixels) that an image's header tells. Raises ValueError if it has none."""
    if member.endswith(".jpg"):
        return simplejpeg.decode_jpeg_header(data)[:2]  # type: ignore[no-any-return]
    if data[:16].tobytes() != _PNG_BEGINS or len(data) < _PNG_HEADER:
        raise ValueError("not a PNG")
    width, height = data[16:24].view(">u4").tolist()
    return height, width


def png_bits(data: Bytes) -> int:
    """Return the bits per channel in a PNG's header."""
    return int(data[24])
