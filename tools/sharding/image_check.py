"""Checking the stored images of one sample: whether they can be decoded and are the dataset's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from loaders.format.manifest import Manifest
from loaders.format.sample import WORLDP
from tools.dataset.frames import FrameError, encode_image, encode_worldp, read_file
from tools.dataset.layout import Recording

_BLOCK: Final = 8
"""Side of the squares in which JPEGs are compared (pixels)."""
_LARGEST_MEAN: Final = 3.0
"""How far two JPEGs of one image may differ on average (gray levels): codecs of another version round otherwise."""
_LARGEST_BLOCK_MEAN: Final = 16.0
"""The same within a block; another frame differs by more where anything has moved (gray levels)."""


def read_array(content: bytes, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Decode a .npy member. Raises ValueError if it is not of this type and shape."""
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array


def undecodable(contents: dict[str, bytes], manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong with a sample's images by themselves."""
    size = manifest.camera.height, manifest.camera.width
    for name in (manifest.image_member, WORLDP):
        if name not in contents:
            continue
        if name.endswith(".npy"):
            try:
                read_array(contents[name], "|u1", (*size, 3))
            except ValueError as error:
                yield f"{name}: {error}"
            continue
        image = _decode(contents[name])
        if image is None:
            yield f"{name} cannot be decoded"
        elif image.shape[:2] != size:
            yield f"{name} is {image.shape[1]}x{image.shape[0]}, not {size[1]}x{size[0]}"


def foreign_images(recording: Recording, frame: int, contents: dict[str, bytes], manifest: Manifest) -> Iterator[str]:
    """Make a sample's images anew out of the dataset's frame, and yield which are others."""
    preprocessing = manifest.preprocessing
    for modality, name, encode in (("rgba", manifest.image_member, encode_image), ("worldp", WORLDP, encode_worldp)):
        if name not in contents:
            continue
        try:
            expected = encode(read_file(recording, modality, frame), preprocessing)
        except FrameError as reason:
            yield f"the dataset's frame has {reason}"
            continue
        # another version of a codec may write other bytes for the same image: what differs is decoded
        if contents[name] != expected and (preprocessing.format == "source" or _differ(name, contents[name], expected)):
            yield f"its {name} is not the dataset's"


def _differ(name: str, stored: bytes, expected: bytes) -> bool:
    one, other = _decode(stored), _decode(expected)
    if one is None or other is None:
        return False  # reported by `undecodable`
    if one.shape != other.shape or one.dtype != other.dtype:
        return True
    if name == WORLDP:
        return not np.array_equal(one, other)
    distance = cv2.absdiff(one, other).astype(np.float32)
    if not name.endswith(".jpg"):
        return bool(distance.max() > 1)  # where an average lies between two levels, rounding decides
    blocks = [max(1, side // _BLOCK) for side in distance.shape[1::-1]]
    worst = cv2.resize(distance.mean(axis=2), blocks, interpolation=cv2.INTER_AREA).max()
    return bool(distance.mean() > _LARGEST_MEAN or worst > _LARGEST_BLOCK_MEAN)


def _decode(content: bytes) -> NDArray[Any] | None:
    try:
        if content.startswith(b"\x93NUMPY"):
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, ValueError):
        return None
